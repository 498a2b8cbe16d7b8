"""The rule of each event type, and the sequencers of all streams.

Connectors share the sequencers. If two connectors have the same stream, the first arrival of an
event passes and the second is a duplicate. Rotation, redundancy and reconnects all work this way.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple

from bridge.core.model import events
from bridge.core.model.events import Event
from bridge.core.model.stream import Stream
from bridge.core.sequencing.backfilled import Backfilled, BlockTrades, Candles
from bridge.core.sequencing.contiguous import Contiguous
from bridge.core.sequencing.position import Position, StreamKey
from bridge.core.sequencing.rules import (
    NOTHING,
    OVERLAP_US,
    Chained,
    Monotonic,
    Sequencer,
    TimeOrdered,
    time_of,
)

# The exchange promises this continuity, and captures confirm it: 17,000 trades without a hole.
_RULES: dict[type[Event], tuple[type[Sequencer], str, str]] = {
    events.Trade: (Contiguous, "trade_id", "trade_id"),
    events.AggTrade: (Contiguous, "agg_trade_id", "agg_trade_id"),
    events.BookDelta: (Chained, "first_update_id", "last_update_id"),
    events.Quote: (Monotonic, "update_id", "update_id"),
    events.Book: (Monotonic, "last_update_id", "last_update_id"),
    events.BlockTrade: (BlockTrades, "trade_id", "trade_id"),
    events.Candle: (Candles, "timestamp", "timestamp"),
    **dict.fromkeys(
        (
            events.Ticker,
            events.WindowTicker,
            events.MiniTicker,
            events.AveragePrice,
            events.ReferencePrice,
        ),
        (TimeOrdered, "timestamp", "timestamp"),
    ),
}


# The events with contiguous ids, by their message type.
CONTIGUOUS: dict[str, type[Event]] = {
    str(event_type.__struct_config__.tag): event_type
    for event_type, (rule, _, _) in _RULES.items()
    if rule is Contiguous
}

# The message types whose events are ordered by time.
TIMED = frozenset(
    str(event_type.__struct_config__.tag)
    for event_type, (_, first, _) in _RULES.items()
    if first == "timestamp"
)

NOWHERE: Mapping[StreamKey, Position] = {}
# The rules that hold a stream back while missing events are fetched.
Repairable = Contiguous | Backfilled


class SequencerStats(NamedTuple):
    """Dropped duplicates by message type, events held back by holes, and gaps that are open."""

    duplicates: Counter[str]
    held: int
    open_gaps: int


class Continuity(NamedTuple):
    """What the bridges before this one, and this one before the start, have missed of the streams.

    They have missed nothing since `whole_since`, in microseconds. None: nobody knows. `dropped` has
    the names of streams of which this bridge does not have all events any more.
    """

    whole_since: int | None = None
    dropped: Collection[str] = ()

    def is_whole(self, position: Position) -> bool:
        """Return whether nothing is missing after a position. The clocks may differ."""
        return self.whole_since is not None and position.time >= self.whole_since + OVERLAP_US


UNKNOWN = Continuity()


class _Removed(Sequencer):
    """The rule of unsubscribed streams: no event is passed on."""

    __slots__ = ()

    def accept(self, event: Event) -> Sequence[Event]:  # noqa: ARG002
        return NOTHING


_REMOVED = _Removed("", "received", "received")  # every event has this field


def new_sequencer(event_type: type[Event]) -> Sequencer:
    """Return a sequencer that has not seen any event yet."""
    rule, first, last = _RULES[event_type]
    return rule(str(event_type.__struct_config__.tag), first, last)


def contiguous_sequencer(message_type: str) -> Contiguous:
    """Return a new sequencer for a message type with contiguous ids."""
    sequencer = new_sequencer(CONTIGUOUS[message_type])
    assert isinstance(sequencer, Contiguous)  # noqa: S101 - callers pass no other type
    return sequencer


def mark_getter(event_type: type[Event]) -> Callable[[Event], int] | None:
    """Return the function that reads the last id of an event, or its time if it has no ids; None if
    the events of the type belong to no stream.
    """
    _, _, last = _RULES.get(event_type, (Sequencer, "", ""))
    if not last:
        return None
    return time_of if last == "timestamp" else attrgetter(last)


class Sequencers:
    """The sequencers of all streams, each created when its first event arrives.

    `positions` are the positions at which the previous process stopped, and `continuity` says
    whether events are missing after them. Until `end_replay` events come that arrived before the
    start. A removed stream stops at once, and events that are still in flight are dropped. Its
    sequencers are kept: if the stream is added again, it continues after the last published event.
    """

    def __init__(
        self,
        streams: Iterable[Stream],
        positions: Mapping[StreamKey, Position] = NOWHERE,
        continuity: Continuity = UNKNOWN,
    ) -> None:
        self._positions = dict(positions)
        self._continuity = continuity
        # By the name of a stream, for sequencers that have had no event yet: why some are missing.
        self._interrupted: dict[str, str] = {}
        self._is_replaying = True
        self._of_stream: dict[str, dict[str, Sequencer]] = {}
        self._removed: dict[str, dict[str, Sequencer]] = {}
        self.set_streams(streams)
        # None of them was unsubscribed yet.
        self._interrupted = dict.fromkeys(continuity.dropped, "restart")

    def set_streams(
        self, streams: Iterable[Stream], positions: Mapping[StreamKey, Position] = NOWHERE
    ) -> None:
        """Replace the streams; `positions` are those of new message types."""
        self._positions |= positions
        names = dict.fromkeys(stream.name for stream in streams)
        for name in [name for name in self._of_stream if name not in names]:
            sequencers = self._removed[name] = self._of_stream.pop(name)
            for sequencer in sequencers.values():
                sequencer.removals += 1
        for name in names:
            if name not in self._of_stream:
                self._of_stream[name] = self._removed.pop(name, {})
                self._interrupted.setdefault(name, "unsubscribed")
                for sequencer in self._of_stream[name].values():
                    sequencer.interrupt("unsubscribed")

    def interrupt(self, stream: Stream, cause: str) -> None:
        """Note that events of a stream may be missing from here on."""
        self._interrupted.setdefault(stream.name, cause)
        for sequencer in self.of(stream):
            sequencer.interrupt(cause)

    def sequencer(self, stream: Stream, event: Event) -> Sequencer:
        """Return the sequencer for an event of a stream; a market-wide stream has many."""
        try:
            return self._of_stream[stream.name][event.symbol]
        except KeyError:
            return self._new_sequencer(stream, event)

    def contiguous(self, stream: Stream) -> Contiguous | None:
        """Return the sequencer of a stream of one symbol with contiguous ids, also if it has not
        had any event yet; None for any other stream, and for one that is not subscribed.
        """
        of_stream = self._of_stream.get(stream.name)
        if of_stream is None or stream.symbol is None or stream.message_type not in CONTIGUOUS:
            return None
        known = of_stream.get(stream.symbol)
        if known is None:
            known = self._add(stream, stream.symbol, contiguous_sequencer(stream.message_type))
        assert isinstance(known, Contiguous)  # noqa: S101 - by its message type
        return known

    def figures(self) -> SequencerStats:
        """Return the statistics of all sequencers, including those of removed streams."""
        duplicates: Counter[str] = Counter()
        held = open_gaps = 0
        for sequencer in self._all():
            duplicates[sequencer.message_type] += sequencer.duplicates
            held += sequencer.held
            if isinstance(sequencer, Contiguous):
                open_gaps += len(sequencer.open_gaps)
        return SequencerStats(duplicates, held, open_gaps)

    def named(self) -> Iterator[tuple[str, Sequencer]]:
        """Return every sequencer of the current streams, with its symbol."""
        return (named for sequencers in self._of_stream.values() for named in sequencers.items())

    def held_back(self) -> list[Repairable]:
        """Return the sequencers that hold events back, including those of removed streams."""
        return [each for each in self._all() if each.held and isinstance(each, Repairable)]

    def _all(self) -> Iterator[Sequencer]:
        for sequencers in (*self._of_stream.values(), *self._removed.values()):
            yield from sequencers.values()

    def _new_sequencer(self, stream: Stream, event: Event) -> Sequencer:
        if stream.name not in self._of_stream:
            return _REMOVED
        return self._add(stream, event.symbol, new_sequencer(type(event)))

    def _add(self, stream: Stream, symbol: str, sequencer: Sequencer) -> Sequencer:
        self._of_stream[stream.name][symbol] = sequencer
        key = StreamKey(sequencer.message_type, symbol, stream.interval)
        # Of records on disk the interval is not known.
        if position := self._positions.get(key) or self._positions.get(key.of_all_intervals()):
            sequencer.resume(position.last_id, position.time, position.marks)
            if self._continuity.is_whole(position) and not isinstance(sequencer, Contiguous):
                sequencer.note_whole()
                if cause := self._interrupted.get(stream.name):
                    sequencer.interrupt(cause)
            if self._is_replaying and isinstance(sequencer, Contiguous):
                sequencer.begin_replay()
        return sequencer

    def end_replay(self) -> None:
        """Note that what had arrived before the start has been sequenced."""
        self._is_replaying = False
        for sequencer in self._all():
            if isinstance(sequencer, Contiguous):
                sequencer.end_replay()

    def of(self, stream: Stream) -> Iterable[Sequencer]:
        """Return all sequencers of one stream; a removed stream has none."""
        return self._of_stream.get(stream.name, {}).values()
