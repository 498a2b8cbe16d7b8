"""The status of a running bridge, from which health, metrics and the report are built."""

import time
from collections import ChainMap, Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from typing import Literal, get_args

from bridge.binance.connector import Connector, State
from bridge.binance.coverage import LINES
from bridge.binance.feed import Feed
from bridge.binance.rest import Rest
from bridge.core.binance.subscription import Subscription
from bridge.core.model.events import FeedState, SymbolStatus
from bridge.core.sequencing.arrivals import Arrivals
from bridge.core.sequencing.sequencers import SequencerStats
from bridge.monitoring.recent import Recent
from bridge.monitoring.shards import ShardStatus, SinkGroup
from bridge.settings import Cluster
from bridge.sinks.kafka.owner_watch import Reason
from bridge.sinks.kafka.sink import KafkaSink
from bridge.sinks.redis.sink import RedisSink
from bridge.telemetry import PENDING_MAX_S, FeedCounts, Histogram, Reloads, now_us

# Prices that are older than this are not ready for use.
HELD_MAX_S = 5.0
# Why another bridge has taken over a shard: the group wanted it, or not.
FencedCause = Literal["handed_over", "taken_over"]
# The version of a package, by name. Cached: each read from disk would block everything for 0.3 ms.
version = cache(metadata.version)


@dataclass(frozen=True, slots=True)
class LineFigures:
    """The counts of one line.

    `first` of its `events` were not duplicates. The lead over the other line was measured for
    `leads` events; `lead_s` is the sum of these leads in seconds.
    """

    events: int
    first: int
    age_s: float
    leads: int
    lead_s: float


@dataclass(slots=True)
class Status:
    """The state that the service fills in at start; `feed` is None until the streams are known."""

    message_types: Sequence[str]
    counts: FeedCounts = field(default_factory=FeedCounts)
    feed: Feed | None = None
    shards: list[ShardStatus] = field(default_factory=list)
    rest: Rest | None = None
    reloads: Reloads = field(default_factory=Reloads)
    lag: Histogram = field(default_factory=Histogram)
    subscription: Callable[[], Subscription] = Subscription
    # What the bridges of the group share.
    cluster: Cluster = field(default_factory=Cluster)
    # Shards that this bridge has taken over, by reason, and that were taken from it.
    takeovers: Counter[Reason] = field(default_factory=Counter)
    fenced: Counter[FencedCause] = field(default_factory=Counter)
    draining: bool = False
    # Whether the group has not said yet which shards this bridge has.
    is_joining: bool = False
    kafka: SinkGroup = field(init=False)
    redis: SinkGroup = field(init=False)
    recent: Recent = field(init=False)
    # Of shards that have left.
    _duplicates: Counter[str] = field(default_factory=Counter)
    _began_s: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.kafka = SinkGroup(KafkaSink, self.shards)
        self.redis = SinkGroup(RedisSink, self.shards)
        self.recent = Recent(self, self._began_s)

    @property
    def sinks(self) -> tuple[SinkGroup, SinkGroup]:
        """Return the sinks, each as one of all shards."""
        return self.kafka, self.redis

    @property
    def symbols(self) -> Mapping[str, SymbolStatus]:
        """Return the status of each symbol."""
        return ChainMap(*(shard.symbols for shard in self.shards))

    @property
    def is_waiting(self) -> bool:
        """Return whether this bridge owns no shard, but stands by, or could be given one."""
        return not self.is_joining and all(shard.owner_watch for shard in self.shards)

    def shards_by_role(self) -> dict[tuple[str, ...], float]:
        """Return the number of shards that this bridge owns, and of those it stands by for."""
        owned = sum(shard.is_owner for shard in self.shards)
        watched = sum(shard.is_watching for shard in self.shards)
        return {("owner",): owned, ("standby",): watched}

    def shards_wanted(self) -> dict[tuple[str, ...], float]:
        """Return the number of shards by the settings, and of standbys for them."""
        count = self.cluster.shards
        return {("owner",): count, ("standby",): count * self.cluster.standby}

    @property
    def is_spare(self) -> bool:
        """Return whether the group has no shard for this bridge at present."""
        return not (self.shards or self.is_joining)

    def remove(self, shard: ShardStatus) -> None:
        """Remove a shard that another bridge has taken over."""
        self.shards.remove(shard)
        if shard.sequencers:
            self._duplicates += shard.sequencers.figures().duplicates

    def uptime_s(self) -> float:
        """Return the time since start, in seconds."""
        return time.monotonic() - self._began_s

    def settings_age_s(self) -> float:
        """Return the time since the streams last changed, in seconds."""
        return time.monotonic() - self.reloads.since_s

    def connectors(self) -> dict[tuple[str, ...], float]:
        """Return the number of connectors in each state."""
        states = (
            Counter(connector.state for connector in self.feed.connectors)
            if self.feed
            else Counter()
        )
        return {(state.value,): states[state] for state in State}

    def sequencer_stats(self) -> SequencerStats:
        """Return the counts of all sequencers together: duplicates, held events and open gaps."""
        figures = [shard.sequencers.figures() for shard in self.shards if shard.sequencers]
        return SequencerStats(
            sum((each.duplicates for each in figures), self._duplicates),
            sum(each.held for each in figures),
            sum(each.open_gaps for each in figures),
        )

    def held_s(self) -> dict[str, float]:
        """Return the streams whose events are held back, and for how long, in seconds."""
        repairers = (shard.repairer for shard in self.shards if shard.repairer)
        return {name: age_s for each in repairers for name, age_s in each.held_s().items()}

    def feeds(self) -> dict[tuple[str, ...], float]:
        """Return the number of symbols in each state."""
        states = Counter(status.feed for status in self.symbols.values())
        return {(state,): states[state] for state in get_args(FeedState)}

    def unproven_s(self) -> float:
        """Return the time since the oldest `complete_to`, in seconds. Only symbols count that are
        compared with the exchange's last ids.
        """
        ends = (s.complete_to for s in self.symbols.values() if s.checked is not None)
        return age_s(min(filter(None, ends), default=None))

    def weight_allowed(self) -> int:
        """Return the request weight per minute that the exchange allows for this IP address."""
        return self.rest.budget.allowed if self.rest else 0

    def weight_used(self) -> int:
        """Return the request weight used in this minute by all programs on this IP address."""
        return self.rest.budget.used_at(time.time()) if self.rest else 0

    def unreadable_rows(self) -> int:
        """Return the number of rows that were left out of REST answers."""
        return self.rest.unreadable_rows if self.rest else 0

    def line_figures(self) -> dict[str, LineFigures]:
        """Return the counts of each line, summed over its connectors."""
        return {line: self._figures(line) for line in LINES}

    def _figures(self, line: str) -> LineFigures:
        """Return the counts of one line. Its lead is the delay of the other line."""
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
        """Return the arrival time of the last event of each stream; a stream without data is
        absent.

        Times are in microseconds since the epoch.
        """
        return self.feed.last_received() if self.feed else {}

    def silence_s(self, heard: Mapping[str, int]) -> dict[str, float]:
        """Return the longest silence of a stream, by message type, in seconds.

        `heard` is the result of `last_received`. A stream without data does not count.
        """
        now = now_us()
        oldest = dict.fromkeys(self.message_types, now)
        for part in self.feed.bundles if self.feed else ():
            for stream in part[0].streams:
                message_type, received = stream.message_type, heard.get(stream.name, now)
                if received < oldest.get(message_type, now):
                    oldest[message_type] = received
        return {message_type: (now - received) / 1e6 for message_type, received in oldest.items()}

    def stalled_streams(self) -> list[str]:
        """Return the streams that are stalled on a connector."""
        connectors = self.feed.connectors if self.feed else []
        return list(dict.fromkeys(name for connector in connectors for name in connector.stalled()))

    def streams_without_data(self) -> list[str]:
        """Return the streams that have never sent anything."""
        return self.feed.without_data() if self.feed else []

    def streams(self) -> int:
        """Return the number of streams."""
        return sum(len(part[0].streams) for part in self.feed.bundles) if self.feed else 0

    def unready(self) -> list[str]:
        """Return the reasons why the bridge is not ready; empty if it is ready."""
        reasons = ["draining: a signal asked the bridge to stop"] if self.draining else []
        if self.is_joining:
            reasons.append("cluster: the group has not yet given this bridge its shards")
        if any(shard.owner_watch is None for shard in self.shards):
            reasons += filter(None, map(_unready_sink, self.sinks))
        if any(shard.owner_watch and not shard.is_watching for shard in self.shards):
            reasons.append("kafka: the heartbeats of the owner cannot be read")
        elif any(shard.owner_watch and not shard.owner_watch.is_settled for shard in self.shards):
            reasons.append("cluster: it has not received the streams for long enough to take over")
        if self.feed is None:
            reasons.append("feed: the streams are not known yet")
        elif any(not (shard.sequencers or shard.owner_watch) for shard in self.shards):
            reasons.append("feed: Kafka has not told yet where to continue")
        elif not (self.feed.connectors or self.is_spare):
            reasons.append("feed: it has no streams yet")
        else:
            reasons += map(_unready_connector, self.feed.unready())
        held = {stream: age_s for stream, age_s in self.held_s().items() if age_s > HELD_MAX_S}
        if held:
            longest = max(held, key=held.__getitem__)
            wait = "1 stream waits" if len(held) == 1 else f"{len(held)} streams wait"
            reasons.append(
                f"repair: {wait} for missing events, {longest} for {held[longest]:.0f} s"
            )
        return reasons


def age_s(received: int | None) -> float:
    """Return the seconds since `received` (microseconds since the epoch); 0 for None."""
    return 0.0 if received is None else max(0.0, time.time() - received / 1e6)


def _unready_sink(sink: SinkGroup) -> str | None:
    if not sink.ready:
        return f"{sink.name}: not connected"
    if (waits_s := age_s(sink.oldest_received())) > PENDING_MAX_S:
        return f"{sink.name}: the oldest event has waited for {waits_s:.0f} s"
    return None


def _unready_connector(connector: Connector) -> str:
    without_data = len(connector.without_data())
    return (
        f"{connector.name}: {connector.state.value}, {without_data} of {len(connector.streams)} "
        "streams without data"
    )
