"""What the bridge counts: plain integers, written where things happen, read when scraped.

The accounts hold for each sink and message type at every moment:
`received + restored = published + dropped + pending`, where pending is what the sink's buffer
really holds, on disk too, and restored what this sink alone has got.
"""

import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

# Upper bounds in seconds: a Redis flush on loopback takes 0.2 ms, an outage is minutes.
LATENCY_BOUNDS_S = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
# Fine enough to show: from 10 us to 100 s in steps of 5 %, so that a quantile read from them is at
# most so much too high.
FINE_BOUNDS_S = tuple(1e-5 * 1.05**step for step in range(331))

# What became of settings that were read again.
ReloadOutcome = Literal[
    "changed",  # other streams
    "unchanged",  # the same ones; what else is different counts from the next start
    "invalid",  # no settings
    "refused",  # settings that the exchange or Kafka does not take
]
RELOAD_OUTCOMES: tuple[ReloadOutcome, ...] = get_args(ReloadOutcome)


class Histogram:
    """Counts of observations up to each bound, and above the last."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = LATENCY_BOUNDS_S) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, count: int = 1) -> None:
        """Count `count` observations of one value."""
        self.counts[bisect_left(self.bounds, value)] += count
        self.total += value * count

    def quantile(self, share: float) -> float | None:
        """The bound below which `share` of the observations lie; None before the first."""
        wanted = share * sum(self.counts)
        seen = 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            seen += count
            if count and seen >= wanted:
                return bound
        return None


@dataclass(slots=True)
class SinkCounts:
    """One sink's side of the accounts, by message type; drops by (message type, cause).

    `restored`: what came to it from elsewhere than the pipeline. Found on disk at the start,
    fetched again for it alone, or its own gap and invalid events.
    """

    published: Counter[str] = field(default_factory=Counter)
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    restored: Counter[str] = field(default_factory=Counter)
    stale_values: int = 0
    spill_bytes: int = 0
    latency: Histogram = field(default_factory=Histogram)


class Account(NamedTuple):
    """What became of the events of one message type, at one sink; `received` by it, in all."""

    received: int
    published: int
    dropped: int
    pending: int


def accounts(
    received: Mapping[str, int], sink: SinkCounts, pending: Counter[str]
) -> dict[str, Account]:
    """One sink's accounts, by message type: received = published + dropped + pending."""
    dropped: Counter[str] = Counter()
    for (message_type, _), count in sink.dropped.items():
        dropped[message_type] += count
    own = {
        kind: received.get(kind, 0) + sink.restored[kind] for kind in (*received, *sink.restored)
    }
    return {
        kind: Account(count, sink.published[kind], dropped[kind], pending[kind])
        for kind, count in own.items()
    }


@dataclass(slots=True)
class Reloads:
    """What became of settings that were read again: how often, the names of those that wait for a
    restart, and since when the streams are the present ones, on the monotonic clock.
    """

    outcomes: Counter[ReloadOutcome] = field(default_factory=Counter)
    waiting: list[str] = field(default_factory=list)
    since_s: float = field(default_factory=time.monotonic)

    def count(self, outcome: ReloadOutcome) -> None:
        """Count one."""
        self.outcomes[outcome] += 1
        if outcome == "changed":
            self.since_s = time.monotonic()


@dataclass(slots=True)
class FeedCounts:
    """The exchange's side: events by message type, bad frames by reason, lost connectors by cause,
    gap events by state. `latency` is from the exchange's time to ours, one sample a read; clocks
    differ, so what seems to come from the future counts as no time at all.
    """

    # Counted for every event, where a Counter takes three times as long.
    received: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    repaired: Counter[str] = field(default_factory=Counter)
    gaps: Counter[str] = field(default_factory=Counter)
    invalid: Counter[str] = field(default_factory=Counter)
    reconnects: Counter[str] = field(default_factory=Counter)
    frames: int = 0
    latency: Histogram = field(default_factory=Histogram)
