"""What a running bridge says of itself: the view that health and metrics are made from."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata

from bridge.binance.connector import Connector, State
from bridge.binance.coverage import LINES
from bridge.binance.feed import Feed
from bridge.core.binance.weight_budget import WeightBudget
from bridge.core.sequencing.arrivals import Arrivals
from bridge.core.sequencing.sequencers import Sequencers, SequencerStats
from bridge.pipeline.sink import Sink
from bridge.telemetry import FeedCounts, Histogram, Reloads

# By a package's name. Read from the disk each time it would take 0.3 ms, in which nothing flows.
version = cache(metadata.version)


@dataclass(frozen=True, slots=True)
class LineFigures:
    """`first` of its `events` had not come by another connection; `leads` of them were measured, by
    `lead_s` in all.
    """

    events: int
    first: int
    age_s: float
    leads: int
    lead_s: float


@dataclass(slots=True)
class Status:
    """Filled in by the service as it starts; `feed` is None until the streams are known."""

    message_types: Sequence[str]
    sinks: Sequence[Sink]
    counts: FeedCounts = field(default_factory=FeedCounts)
    feed: Feed | None = None
    sequencers: Sequencers | None = None
    budget: WeightBudget | None = None
    reloads: Reloads = field(default_factory=Reloads)
    lag: Histogram = field(default_factory=Histogram)
    refused: Sequence[str] = ()
    draining: bool = False
    _began_s: float = field(default_factory=time.monotonic)

    def uptime_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began_s

    def settings_age_s(self) -> float:
        """For how long the streams have been the present ones."""
        return time.monotonic() - self.reloads.since_s

    def connectors(self) -> dict[tuple[str, ...], float]:
        """Number of connectors in each state."""
        states = (
            Counter(connector.state for connector in self.feed.connectors)
            if self.feed
            else Counter()
        )
        return {(state.value,): states[state] for state in State}

    def sequencer_stats(self) -> SequencerStats:
        """What all sequencers have dropped, hold and miss."""
        return self.sequencers.figures() if self.sequencers else SequencerStats(Counter(), 0, 0)

    def weight_allowed(self) -> int:
        """What the exchange allows in a minute, to everybody on this address."""
        return self.budget.allowed if self.budget else 0

    def weight_used(self) -> int:
        """The exchange's request weight used in this minute, by everybody on this address."""
        return self.budget.used_at(time.time()) if self.budget else 0

    def line_figures(self) -> dict[str, LineFigures]:
        """What the connectors with each label have brought, together."""
        return {line: self._figures(line) for line in LINES}

    def _figures(self, line: str) -> LineFigures:
        """Behind the other connector is what the other one leads by."""
        if self.feed is None:
            return LineFigures(0, 0, 0.0, 0, 0.0)
        own, other = self.feed.arrivals(line), Arrivals()
        for each in set(LINES) - {line}:
            other.add(self.feed.arrivals(each))
        return LineFigures(
            events=own.events,
            first=own.events - own.duplicates,
            age_s=max(
                (connector.age_s() for connector in self.feed.connectors if connector.line == line),
                default=0.0,
            ),
            leads=other.behind,
            lead_s=other.behind_us / 1e6,
        )

    def last_received(self) -> dict[str, int]:
        """Of each stream that has ever been heard, when last, in microseconds since the epoch."""
        return self.feed.last_received() if self.feed else {}

    def silence_s(self, heard: Mapping[str, int]) -> dict[str, float]:
        """By message type, how long its longest silent stream of those `heard` has said nothing."""
        now_us = time.time_ns() // 1000
        oldest = dict.fromkeys(self.message_types, now_us)
        for part in self.feed.shards if self.feed else ():
            for stream in part[0].streams:
                message_type, received = stream.message_type, heard.get(stream.name, now_us)
                if received < oldest.get(message_type, now_us):
                    oldest[message_type] = received
        return {
            message_type: (now_us - received) / 1e6 for message_type, received in oldest.items()
        }

    def stalled_streams(self) -> list[str]:
        """Streams silent on a connector for longer than their own rhythm explains."""
        connectors = self.feed.connectors if self.feed else []
        return list(dict.fromkeys(name for connector in connectors for name in connector.stalled()))

    def streams_without_data(self) -> list[str]:
        """Streams that have never sent anything."""
        return self.feed.without_data() if self.feed else []

    def streams(self) -> int:
        """How many there are."""
        return sum(len(part[0].streams) for part in self.feed.shards) if self.feed else 0

    def unready(self) -> list[str]:
        """Why the bridge is not ready; empty when it is."""
        reasons = ["draining: a signal asked the bridge to stop"] if self.draining else []
        reasons += [f"{sink.name}: not connected" for sink in self.sinks if not sink.ready]
        if self.feed is None:
            reasons.append("feed: the streams are not known yet")
        else:
            reasons += map(_unready, self.feed.unready())
        return reasons


def age_s(received: int | None) -> float:
    """How long ago that was, in seconds; 0 for nothing."""
    return 0.0 if received is None else max(0.0, time.time() - received / 1e6)


def _unready(connector: Connector) -> str:
    without_data = len(connector.without_data())
    return (
        f"{connector.name}: {connector.state.value}, {without_data} of {len(connector.streams)} "
        "streams without data"
    )
