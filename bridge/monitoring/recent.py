"""Rates and latencies of the last seconds, from copies of the counters."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from bridge.monitoring.report import Latency
from bridge.telemetry import Histogram

if TYPE_CHECKING:
    from bridge.monitoring.status import Status

RECENT_S = 5.0
INTERVAL_S = 1.0
# The latency of events until they arrive. The other latencies have the names of the sinks.
EXCHANGE = "exchange"


class Counts(NamedTuple):
    """The counters at one moment; `now_s` is monotonic."""

    now_s: float
    received: Counter[str]
    published: Counter[str]
    latency: dict[str, list[int]]


class Recent:
    """Rates and latencies of the last RECENT_S."""

    def __init__(self, status: "Status", now_s: float) -> None:
        self._status = status
        self._counts = deque([counts_of(status, now_s)])

    async def run(self) -> None:
        """Keep the counters of each second, until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            self.keep(time.monotonic())

    def keep(self, now_s: float) -> None:
        """Keep the counters of this moment, and forget those of more than RECENT_S ago."""
        self._counts.append(counts_of(self._status, now_s))
        while self._counts[1].now_s <= now_s - RECENT_S:
            self._counts.popleft()

    def received_per_s(self) -> dict[str, float]:
        """Return the received events per second, by message type: of all that has come so far."""
        before, after = self._counts[0], self._counts[-1]
        rates = _rates(before.received, after.received, after.now_s - before.now_s)
        return {name: rates.get(name, 0.0) for name in self._status.counts.received}

    def published_per_s(self) -> dict[str, float]:
        """Return the published events per second, by sink."""
        before, after = self._counts[0], self._counts[-1]
        return _rates(before.published, after.published, after.now_s - before.now_s)

    def latencies(self) -> dict[str, Latency]:
        """Return the latency from the exchange, and that of each sink."""
        return latencies(self._status, self._counts[0], self._counts[-1])


def counts_of(status: "Status", now_s: float) -> Counts:
    """Return the counters of this moment."""
    return Counts(
        now_s=now_s,
        received=Counter(status.counts.received),
        published=Counter({sink.name: sink.counts.published.total() for sink in status.sinks}),
        latency={name: each.counts.copy() for name, each in _histograms(status).items()},
    )


def latencies(status: "Status", before: Counts, after: Counts) -> dict[str, Latency]:
    """Return the latencies between two moments: that from the exchange, and that of each sink."""
    return {
        name: latency(
            histogram.bounds,
            [n - b for n, b in zip(after.latency[name], before.latency[name], strict=True)],
        )
        for name, histogram in _histograms(status).items()
    }


def latency(bounds: Sequence[float], counts: Sequence[int]) -> Latency:
    """Return the percentiles of the observations that a histogram has counted."""
    return Latency(*(_quantile(bounds, counts, share) for share in (0.5, 0.9, 0.99)))


def _rates(
    before: Mapping[str, int], after: Mapping[str, int], passed_s: float
) -> dict[str, float]:
    passed_s = max(passed_s, 1e-3)
    return {name: (count - before.get(name, 0)) / passed_s for name, count in after.items()}


def _histograms(status: "Status") -> dict[str, Histogram]:
    sinks = {sink.name: sink.counts.latency for sink in status.sinks}
    return {EXCHANGE: status.counts.latency} | sinks


def _quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """Return a percentile in seconds, as if the observations of each bucket were spread evenly."""
    wanted, seen, lower = share * sum(counts), 0, 0.0
    for upper, count in zip(bounds, counts, strict=False):
        if count and seen + count >= wanted:
            return lower + (upper - lower) * (wanted - seen) / count
        seen, lower = seen + count, upper
    return lower if wanted else None
