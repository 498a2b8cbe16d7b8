"""Latencies with a fine resolution: of the last seconds, and of the whole run."""

from collections import deque
from typing import NamedTuple

from bridge.telemetry import FINE_BOUNDS_S, Histogram

RECENT_S = 5.0


class Quantiles(NamedTuple):
    """Median and 99th percentile in seconds; None before the first observation."""

    p50_s: float | None
    p99_s: float | None


class FineHistogram(Histogram):
    """The histogram of a sink that also feeds a finer one. `/metrics` does not change."""

    __slots__ = ("fine",)

    def __init__(self) -> None:
        super().__init__()
        self.fine = Histogram(FINE_BOUNDS_S)

    def observe(self, value: float, count: int = 1) -> None:
        super().observe(value, count)
        self.fine.observe(value, count)


class Recent:
    """The quantiles of a histogram over the last RECENT_S. Times are monotonic."""

    def __init__(self, histogram: Histogram, now_s: float) -> None:
        self._histogram = histogram
        self._earlier = deque([(now_s, histogram.counts.copy())])

    def sample(self, now_s: float) -> Quantiles:
        """Return the quantiles, and keep a copy of the counts of each call in the last RECENT_S."""
        self._earlier.append((now_s, self._histogram.counts.copy()))
        while self._earlier[1][0] <= now_s - RECENT_S:
            self._earlier.popleft()
        since = Histogram(self._histogram.bounds)
        begin = self._earlier[0][1]
        since.counts = [n - b for n, b in zip(self._histogram.counts, begin, strict=True)]
        return quantiles(since)


def quantiles(histogram: Histogram) -> Quantiles:
    """Return the median and 99th percentile of all observations of a histogram."""
    return Quantiles(histogram.quantile(0.5), histogram.quantile(0.99))
