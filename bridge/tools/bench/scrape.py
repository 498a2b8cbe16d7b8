"""Read one sample from the metrics of bridges, or of the peer."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, fields

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from bridge.tools.bench import peer

TIMEOUT = aiohttp.ClientTimeout(10)
SINKS = ("kafka", "redis")
READY_PATH = "/readyz"


@dataclass(slots=True)
class Sample:
    """The metrics of one bridge, or the sum of several, at one moment.

    Most are totals since the start. `pending` is the number of waiting events, `kafka_oldest_s` the
    age of the oldest one for Kafka. `acknowledged_s` is the sum of the times to acknowledgement.
    """

    at_us: int
    received: float = 0.0
    kafka_published: float = 0.0
    redis_published: float = 0.0
    pending: float = 0.0
    kafka_oldest_s: float = 0.0
    dropped: float = 0.0
    reconnects: float = 0.0
    cpu_s: float = 0.0
    resident_bytes: float = 0.0
    acknowledged_s: float = 0.0
    acknowledged: float = 0.0
    kafka_sent_bytes: float = 0.0
    redis_sent_bytes: float = 0.0

    @property
    def published(self) -> float:
        """Return the number of events that both sinks have published."""
        return min(self.kafka_published, self.redis_published)


def _name(metric: str, labels: Mapping[str, str]) -> str | None:
    """Return the field of a sample that a metric is added to, or None if it is not needed."""
    sink = labels.get("sink", "")
    return {
        "tickbridge_events_received_total": "received",
        "tickbridge_events_published_total": f"{sink}_published",
        "tickbridge_sink_sent_bytes_total": f"{sink}_sent_bytes",
        "tickbridge_events_pending": "pending",
        "tickbridge_oldest_pending_seconds": f"{sink}_oldest_s" if sink == "kafka" else None,
        "tickbridge_events_dropped_total": "dropped",
        "tickbridge_reconnects_total": "reconnects",
        "process_cpu_seconds_total": "cpu_s",
        "process_resident_memory_bytes": "resident_bytes",
        "tickbridge_sink_latency_seconds_sum": "acknowledged_s" if sink == "kafka" else None,
        "tickbridge_sink_latency_seconds_count": "acknowledged" if sink == "kafka" else None,
        # Those of the peer; the parser adds the ending.
        "input_received_total": "received",
        "output_sent_total": peer.PUBLISHED.get(labels.get("path", "")),
    }.get(metric)


def read_metrics(text: str, at_us: int) -> Sample:
    """Parse an answer of `/metrics` into a sample."""
    sample = Sample(at_us)
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            if name := _name(one.name, one.labels):
                setattr(sample, name, getattr(sample, name) + one.value)
    return sample


def together(samples: list[Sample]) -> Sample:
    """Add up the samples of several bridges."""
    first, *rest = samples
    for other in rest:
        for field in fields(Sample)[1:]:
            total = getattr(first, field.name) + getattr(other, field.name)
            setattr(first, field.name, total)
    return first


async def scrape(session: aiohttp.ClientSession, ports: list[int]) -> Sample:
    """Sample the bridges on these ports. Raises aiohttp.ClientError or TimeoutError."""
    samples = []
    for port in ports:
        at_us = time.time_ns() // 1000
        async with session.get(f"http://127.0.0.1:{port}/metrics", timeout=TIMEOUT) as answer:
            samples.append(read_metrics(await answer.text(), at_us))
    return together(samples)


async def is_ready(
    session: aiohttp.ClientSession, port: int, path: str = READY_PATH
) -> bool | None:
    """Return whether a bridge reports that it is ready; None if it does not listen yet."""
    try:
        async with session.get(f"http://127.0.0.1:{port}{path}", timeout=TIMEOUT) as answer:
            return answer.ok
    except aiohttp.ClientConnectionError:
        return None
