"""What a bridge says of itself at one moment, from its metrics."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, fields

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

TIMEOUT = aiohttp.ClientTimeout(10)
SINKS = ("kafka", "redis")


@dataclass(slots=True)
class Sample:
    """Totals since the start, of one bridge or several; what waits; the oldest of that."""

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

    @property
    def published(self) -> float:
        """What both sinks have."""
        return min(self.kafka_published, self.redis_published)


def _name(metric: str, labels: Mapping[str, str]) -> str | None:
    """The field of a sample that a metric adds to."""
    sink = labels.get("sink", "")
    return {
        "tickbridge_events_received_total": "received",
        "tickbridge_events_published_total": f"{sink}_published",
        "tickbridge_events_pending": "pending",
        "tickbridge_oldest_pending_seconds": f"{sink}_oldest_s" if sink == "kafka" else None,
        "tickbridge_events_dropped_total": "dropped",
        "tickbridge_reconnects_total": "reconnects",
        "process_cpu_seconds_total": "cpu_s",
        "process_resident_memory_bytes": "resident_bytes",
        "tickbridge_sink_latency_seconds_sum": "acknowledged_s" if sink == "kafka" else None,
        "tickbridge_sink_latency_seconds_count": "acknowledged" if sink == "kafka" else None,
    }.get(metric)


def read_metrics(text: str, at_us: int) -> Sample:
    """The sample in an answer of `/metrics`."""
    sample = Sample(at_us)
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            if name := _name(one.name, one.labels):
                setattr(sample, name, getattr(sample, name) + one.value)
    return sample


def together(samples: list[Sample]) -> Sample:
    """Several bridges as one."""
    first, *rest = samples
    for other in rest:
        for field in fields(Sample)[1:]:
            total = getattr(first, field.name) + getattr(other, field.name)
            setattr(first, field.name, total)
    return first


async def scrape(session: aiohttp.ClientSession, ports: list[int]) -> Sample:
    """A sample of the bridges behind these ports. Raises aiohttp.ClientError, TimeoutError."""
    samples = []
    for port in ports:
        at_us = time.time_ns() // 1000
        async with session.get(f"http://127.0.0.1:{port}/metrics", timeout=TIMEOUT) as answer:
            samples.append(read_metrics(await answer.text(), at_us))
    return together(samples)


async def is_ready(session: aiohttp.ClientSession, port: int) -> bool:
    """Whether a bridge is there, its feed flows and both sinks take it."""
    try:
        async with session.get(f"http://127.0.0.1:{port}/readyz", timeout=TIMEOUT) as answer:
            return answer.ok
    except aiohttp.ClientConnectionError:
        return False
