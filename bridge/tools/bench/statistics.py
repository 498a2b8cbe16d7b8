"""Pure functions that compute the figures from the measurements, with their rules."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from bridge.tools.bench.errors import BenchFailed
from bridge.tools.bench.scrape import Sample

# A backlog that grows by less than this share of the offered load is noise of the sampling.
STEADY_SHARE = 0.02
# A value is normal again after one calm second. On a shared machine, ten seconds are never calm.
CALM_POINTS = 4
OVERRUN_STEPS = 2
# A generator that offers less than this share of what was requested is the limit itself.
OFFERED_SHARE = 0.95

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Step:
    """The figures of one window of a run. Rates are in messages per second. `cpu_us` and the bytes
    are those of one message.
    """

    asked_per_s: float
    offered_per_s: float
    carried_per_s: float
    pending_growth_per_s: float
    dropped: float
    reconnects: float
    cpu_us: float
    cpu_share: float
    resident_mib: float
    kafka_bytes: float = 0.0
    redis_bytes: float = 0.0

    @property
    def is_sustained(self) -> bool:
        """Return whether the load was offered, and carried without drops, lost connections or more
        backlog.
        """
        is_offered = self.offered_per_s >= OFFERED_SHARE * self.asked_per_s
        grows = self.pending_growth_per_s > STEADY_SHARE * self.offered_per_s
        failed = self.dropped or self.reconnects or grows or not is_offered
        return not failed and self.carried_per_s > 0


def spread(values: Sequence[float]) -> float:
    """Return the difference between the greatest value and the least."""
    return max(values) - min(values)


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value that this share of the ordered values does not exceed.

    Raises ValueError if there are no values.
    """
    if not ordered:
        raise ValueError("no values to take a percentile of")
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def growth(points: Sequence[Point]) -> float:
    """Return the growth of y per x, or 0 for one point.

    It is measured from the median of the first third to the median of the last, so that a single
    outlier does not count.
    """
    third = -(-len(points) // 3)
    (x1, y1), (x2, y2) = _middle(points[:third]), _middle(points[-third:])
    return (y2 - y1) / (x2 - x1) if x2 > x1 else 0.0


def _middle(points: Sequence[Point]) -> Point:
    return median(x for x, _ in points), median(y for _, y in points)


def longest_lag_s(samples: Sequence[Sample], offered: Sequence[tuple[int, int]]) -> float:
    """Return the greatest age of the oldest message that was offered, but not published by both
    sinks.
    """
    times = [(count, at_us) for at_us, count in offered]
    behind = [s for s in samples if s.published < between(offered, s.at_us)]
    return max(((s.at_us - between(times, s.published)) / 1e6 for s in behind), default=0.0)


def between(points: Sequence[tuple[int, int]], at: float) -> float:
    """Interpolate a rising line at `at`. Outside of the line, return the value at its end."""
    place = bisect_left(points, (at, 0))
    if place in {0, len(points)}:
        return float(points[min(place, len(points) - 1)][1])
    (left, low), (right, high) = points[place - 1], points[place]
    return low + (high - low) * (at - left) / (right - left)


def step(
    asked_per_s: float,
    samples: Sequence[Sample],
    offered: Sequence[tuple[int, int]],
    window_us: tuple[int, int],
) -> Step:
    """Compute the figures of one window from its samples and the offered messages over time.

    If a busy machine left fewer than two samples in the window, its neighbours are used as well.
    Raises BenchFailed if there is only one sample at all.
    """
    inside = _inside(samples, window_us)
    first, last = inside[0], inside[-1]
    if first.at_us == last.at_us:
        raise BenchFailed(
            "the machine is too busy: only one sample in a whole window; stop other processes"
        )
    seconds = (last.at_us - first.at_us) / 1e6
    received = last.received - first.received
    cpu_s = last.cpu_s - first.cpu_s
    published = last.published - first.published
    waiting = [(s.at_us / 1e6, between(offered, s.at_us) - s.published) for s in inside]
    return Step(
        asked_per_s=asked_per_s,
        offered_per_s=(between(offered, last.at_us) - between(offered, first.at_us)) / seconds,
        carried_per_s=published / seconds,
        pending_growth_per_s=growth(waiting),
        dropped=last.dropped - first.dropped,
        reconnects=last.reconnects - first.reconnects,
        cpu_us=cpu_s / received * 1e6 if received else 0.0,
        cpu_share=cpu_s / seconds,
        resident_mib=max(s.resident_bytes for s in inside) / 2**20,
        kafka_bytes=(last.kafka_sent_bytes - first.kafka_sent_bytes) / max(1, published),
        redis_bytes=(last.redis_sent_bytes - first.redis_sent_bytes) / max(1, published),
    )


def _inside(samples: Sequence[Sample], window_us: tuple[int, int]) -> Sequence[Sample]:
    begin = bisect_left(samples, window_us[0], key=_at_us)
    end = bisect_right(samples, window_us[1], key=_at_us)
    return samples[begin:end] if end - begin > 1 else samples[max(0, begin - 1) : end + 1]


def _at_us(sample: Sample) -> int:
    return sample.at_us


def highest_sustained(steps: Sequence[Step]) -> Step | None:
    """Return the highest sustained step of a rising load, before the bridge was overrun."""
    best = None
    for number, one in enumerate(steps, start=1):
        if is_overrun(steps[:number]):
            break
        best = one if one.is_sustained else best
    return best


def is_overrun(steps: Sequence[Step]) -> bool:
    """Return whether none of the last OVERRUN_STEPS was sustained.

    A single one may be the fault of another process on the machine. The bridge then works off the
    backlog in the next step.
    """
    last = steps[-OVERRUN_STEPS:]
    return len(last) == OVERRUN_STEPS and not any(step.is_sustained for step in last)


class Delays:
    """The arrival times of events and their delays, in microseconds. Arrival times only rise."""

    def __init__(self, arrivals: Sequence[int], received: Sequence[int]) -> None:
        self._arrivals = arrivals
        self._delays = [a - r for a, r in zip(arrivals, received, strict=True)]

    def __len__(self) -> int:
        return len(self._delays)

    @property
    def first_us(self) -> int | None:
        """Return the first arrival time, or None if nothing arrived."""
        return self._arrivals[0] if self._arrivals else None

    def within(self, window_us: tuple[int, int]) -> list[int]:
        """Return the delays of the events that arrived in a window, in ascending order."""
        begin = bisect_left(self._arrivals, window_us[0])
        end = bisect_right(self._arrivals, window_us[1])
        return sorted(self._delays[begin:end])

    def percentiles(self, window_us: tuple[int, int], *shares: float) -> list[float]:
        """Return percentiles in milliseconds, or an empty list if nothing arrived."""
        ordered = self.within(window_us)
        return [percentile(ordered, share) / 1000 for share in shares if ordered]

    def over_time(self, window_us: tuple[int, int], width_us: int, share: float) -> list[Point]:
        """Return a percentile for each piece of a window.

        A point is the end of the piece in seconds since the window began, and the percentile in
        milliseconds. Pieces without an arrival are left out.
        """
        begin, end = window_us
        edges = pairwise(range(begin, end + width_us, width_us))
        pieces = [(right, self.within((left, right - 1))) for left, right in edges]
        return [((r - begin) / 1e6, percentile(d, share) / 1000) for r, d in pieces if d]


def back_to_normal_s(points: Sequence[Point], burst_end_s: float, normal: float) -> float:
    """Return the seconds from the end of a burst to the last value above normal.

    Points after CALM_POINTS normal ones in a row are ignored.
    """
    last_s, calm = burst_end_s, 0
    for at_s, value in points:
        if at_s <= burst_end_s or calm == CALM_POINTS:
            continue
        calm = 0 if value > normal else calm + 1
        last_s = at_s if value > normal else last_s
    return last_s - burst_end_s


def settled_growth(points: Sequence[Point]) -> float:
    """Return the growth of a value after warm-up.

    It is the median of the last quarter minus the median of the second quarter.
    """
    quarter = len(points) // 4
    if not quarter:
        return 0.0
    early = median(y for _, y in points[quarter : 2 * quarter])
    return median(y for _, y in points[-quarter:]) - early
