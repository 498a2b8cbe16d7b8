"""Our clock, and the counters of the bridge: plain integers, updated by each component, read when
scraped.

For each sink and message type this balance holds at every moment:
`received + restored = published + dropped + pending`. `pending` is the real content of the sink's
buffer, including the disk. `restored` counts records that only this sink received. Positions and
the statuses of symbols are in no account.
"""

import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

# If the oldest event waits longer for a sink, the bridge is not ready.
PENDING_MAX_S = 5.0
# Upper bounds in seconds: a Redis flush on loopback takes 0.2 ms, an outage lasts minutes.
LATENCY_BOUNDS_S = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
# Bounds for displayed quantiles: from 10 us to 100 s in steps of 5 %, so that a quantile is at most
# 5 % too high.
FINE_BOUNDS_S = tuple(1e-5 * 1.05**step for step in range(331))

# The results of reloading the settings.
ReloadOutcome = Literal[
    "changed",  # the streams changed
    "unchanged",  # the same streams; other changed settings take effect at the next start
    "invalid",  # the settings are invalid
    "refused",  # the exchange or Kafka refuses the settings
]
RELOAD_OUTCOMES: tuple[ReloadOutcome, ...] = get_args(ReloadOutcome)


def now_us() -> int:
    """Return the time of our clock, in microseconds since the epoch."""
    return time.time_ns() // 1000


class Histogram:
    """Counts of observations up to each bound, and above the last bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = LATENCY_BOUNDS_S) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, count: int = 1) -> None:
        """Add `count` observations of one value."""
        self.counts[bisect_left(self.bounds, value)] += count
        self.total += value * count

    def add(self, other: "Histogram") -> None:
        """Add the observations of a histogram with the same bounds."""
        self.counts = [sum(pair) for pair in zip(self.counts, other.counts, strict=True)]
        self.total += other.total

    def quantile(self, share: float) -> float | None:
        """Return the bound below which `share` of the observations lie; None if there are none."""
        wanted = share * sum(self.counts)
        seen = 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            seen += count
            if count and seen >= wanted:
                return bound
        return None


# The cause of records that are dropped because another bridge has taken over: it publishes them.
TAKEN_OVER = "taken_over"


@dataclass(slots=True)
class SinkCounts:
    """The counters of one sink, by message type; `dropped` by (message type, cause).

    `restored` counts records that did not come from the pipeline: read from disk at start, fetched
    again for this sink only, or the sink's own gap and invalid events. `gap_events` counts its own
    gap events by (state, cause). `sent_bytes` is what went over the network: acknowledged
    batches, compressed, and commands to Redis.
    """

    published: Counter[str] = field(default_factory=Counter)
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    restored: Counter[str] = field(default_factory=Counter)
    gap_events: Counter[tuple[str, str]] = field(default_factory=Counter)
    stale_values: int = 0
    sent_bytes: int = 0
    latency: Histogram = field(default_factory=Histogram)

    def leave(self, pending: Counter[str]) -> None:
        """Count records that are left to the bridge that has taken over."""
        for message_type, count in pending.items():
            self.dropped[message_type, TAKEN_OVER] += count


@dataclass(frozen=True, slots=True)
class Account:
    """The balance of one message type at one sink; `received` includes restored records."""

    received: int
    published: int
    dropped: int
    pending: int


def accounts(
    received: Mapping[str, int], sink: SinkCounts, pending: Counter[str]
) -> dict[str, Account]:
    """Return one sink's balance by message type: received = published + dropped + pending."""
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
    """The results of reloading the settings.

    `outcomes` counts the reloads by result. `waiting` names the changed settings that need a
    restart. `since_s` is the time of the last change of the streams, on the monotonic clock.
    """

    outcomes: Counter[ReloadOutcome] = field(default_factory=Counter)
    waiting: list[str] = field(default_factory=list)
    since_s: float = field(default_factory=time.monotonic)

    def count(self, outcome: ReloadOutcome) -> None:
        """Count one reload."""
        self.outcomes[outcome] += 1
        if outcome == "changed":
            self.since_s = time.monotonic()


@dataclass(slots=True)
class FeedCounts:
    """The counters of the exchange's side.

    Events are counted by message type, invalid frames by reason, reconnects by cause, gap events by
    (state, cause) and head checks by outcome. `ahead` counts events whose time is far ahead,
    `id_restarts` the restarts of a symbol's ids. `latency` is the difference between the exchange's
    time and ours, one sample per read of the socket. The clocks differ, so a negative difference
    counts as zero.
    """

    # Updated for every event: a Counter would take three times as long.
    received: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    ahead: Counter[str] = field(default_factory=Counter)
    id_restarts: Counter[str] = field(default_factory=Counter)
    repaired: Counter[str] = field(default_factory=Counter)
    gap_events: Counter[tuple[str, str]] = field(default_factory=Counter)
    invalid: Counter[str] = field(default_factory=Counter)
    reconnects: Counter[str] = field(default_factory=Counter)
    head_checks: Counter[str] = field(default_factory=Counter)
    frames: int = 0
    latency: Histogram = field(default_factory=Histogram)

    @property
    def gaps(self) -> Counter[str]:
        """Return the number of gap events by state."""
        by_state: Counter[str] = Counter()
        for (state, _), count in self.gap_events.items():
            by_state[state] += count
        return by_state
