"""How the bridge is doing: the figures of a moment, and samples of the last ten minutes."""

from collections import Counter, deque
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from bridge.core.model.events import FeedState, Gap
from bridge.monitoring.dashboard.market import MAX_SAMPLES
from bridge.monitoring.recent import Counts, counts_of, latencies
from bridge.monitoring.report import ConnectorReport, Latency, SinkReport, StreamReport
from bridge.monitoring.reporter import connector_report, sink_reports, stream_report
from bridge.monitoring.status import Status, version

MAX_GAPS = 50
# More names of streams than these are only counted.
MAX_NAMES = 50


class Sample(msgspec.Struct):
    """What happened since the sample before. `time` is in microseconds.

    `pending` is the number of records that wait for each sink. `gaps` counts gap events by state.
    """

    time: int
    events_per_s: float
    pending: dict[str, int]
    latency: dict[str, Latency]
    gaps: dict[str, int]
    repaired: int
    reconnects: int


class Health(msgspec.Struct):
    """The figures of this moment; see `Report` for the names that both have.

    `feeds` has the symbols that are not live, `events_per_s` the rate by message type. The lists of
    stream names have at most MAX_NAMES names; `stalled` and `without_data` count all.
    """

    version: str
    uptime_s: float
    unready: list[str]
    is_draining: bool
    symbols: int
    feeds: Mapping[str, FeedState]
    connectors: list[ConnectorReport]
    stalled: int
    stalled_names: list[str]
    without_data: int
    without_data_names: list[str]
    events: dict[str, int]
    events_per_s: dict[str, float]
    latency: dict[str, Latency]
    sinks: list[SinkReport]
    gaps: dict[str, int]
    open_gaps: int
    held: int
    repaired: int
    invalid: int
    reconnects: dict[str, int]
    refused: list[str]
    waiting: list[str]


class _Counted(NamedTuple):
    """The counters at one moment."""

    counts: Counts
    gaps: Counter[str]
    repaired: int
    reconnects: int


class HealthMonitor:
    """Reads the status of a bridge, and keeps samples and the last gap events."""

    def __init__(self, status: Status, now_s: float) -> None:
        self.samples: deque[Sample] = deque(maxlen=MAX_SAMPLES)
        self.gaps: deque[Gap] = deque(maxlen=MAX_GAPS)
        self._status = status
        self._gap_counts: Counter[str] = Counter()
        self._sampled = self._counted(now_s)
        # Of the last look.
        self._heard: Mapping[str, int] = {}
        self._stalled: set[str] = set()
        self._streams: dict[str, list[StreamReport]] = {}

    def note_gap(self, gap: Gap) -> None:
        """Keep a gap event that was published."""
        self.gaps.appendleft(gap)
        self._gap_counts[gap.state] += 1

    def sample(self, now: int, now_s: float) -> Sample:
        """Return, and keep, what happened since the last sample; `now` is in microseconds."""
        before, self._sampled = self._sampled, self._counted(now_s)
        after, passed_s = self._sampled, max(now_s - before.counts.now_s, 1e-3)
        received = after.counts.received.total() - before.counts.received.total()
        sample = Sample(
            time=now,
            events_per_s=received / passed_s,
            pending={sink.name: sink.pending().total() for sink in self._status.sinks},
            latency=latencies(self._status, before.counts, after.counts),
            gaps=dict(after.gaps - before.gaps),
            repaired=max(0, after.repaired - before.repaired),
            reconnects=max(0, after.reconnects - before.reconnects),
        )
        self.samples.append(sample)
        return sample

    def look(self) -> Health:
        """Return the figures of this moment. Rates and latencies are those of the last seconds."""
        status, recent = self._status, self._status.recent
        feeds = {s.symbol: s.feed for s in status.symbols.values() if s.feed != "live"}
        stalled, without_data = status.stalled_streams(), status.streams_without_data()
        self._heard, self._stalled = status.last_received(), set(stalled)
        self._streams.clear()
        stats, subscription = status.sequencer_stats(), status.subscription()
        return Health(
            version=version("tickbridge"),
            uptime_s=status.uptime_s(),
            unready=status.unready(),
            is_draining=status.draining,
            symbols=len(status.symbols),
            feeds=feeds,
            connectors=[connector_report(c) for c in status.feed.connectors] if status.feed else [],
            stalled=len(stalled),
            stalled_names=stalled[:MAX_NAMES],
            without_data=len(without_data),
            without_data_names=without_data[:MAX_NAMES],
            events=dict(status.counts.received),
            events_per_s=recent.received_per_s(),
            latency=recent.latencies(),
            sinks=sink_reports(status),
            gaps=dict(self._gap_counts),
            open_gaps=stats.open_gaps,
            held=stats.held,
            repaired=status.counts.repaired.total(),
            invalid=status.counts.invalid.total(),
            reconnects=dict(status.counts.reconnects),
            refused=subscription.refused,
            waiting=subscription.waiting,
        )

    def streams(self, symbol: str) -> list[StreamReport]:
        """Return the streams of a symbol, as they were at the last look."""
        if symbol not in self._streams:
            feed = self._status.feed
            self._streams[symbol] = [
                stream_report(stream.name, self._heard, self._stalled)
                for connectors in (feed.bundles if feed else ())
                for stream in connectors[0].streams
                if stream.symbol == symbol
            ]
        return self._streams[symbol]

    def _counted(self, now_s: float) -> _Counted:
        counts = self._status.counts
        return _Counted(
            counts=counts_of(self._status, now_s),
            gaps=self._gap_counts.copy(),
            repaired=counts.repaired.total(),
            reconnects=counts.reconnects.total(),
        )
