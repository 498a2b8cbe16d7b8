"""The rule of each type of event, and the tracks of all streams.

Legs share the tracks: of two legs with the same stream the first arrival wins, and the other is a
repeat. So rotation, redundancy and reconnects are one mechanism.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple

from bridge.core.model import events
from bridge.core.model.events import Event
from bridge.core.model.stream import Stream
from bridge.core.sequencing.contiguous import Contiguous
from bridge.core.sequencing.position import Name, Position
from bridge.core.sequencing.rules import NOTHING, Chained, Rising, Timed, Track

# Continuity as the exchange promises it and captures confirm: 17,000 trades without a hole.
_RULES: dict[type[Event], tuple[type[Track], str, str]] = {
    events.Trade: (Contiguous, "trade_id", "trade_id"),
    events.AggTrade: (Contiguous, "agg_trade_id", "agg_trade_id"),
    events.BookDelta: (Chained, "first_update_id", "last_update_id"),
    events.Quote: (Rising, "update_id", "update_id"),
    events.Book: (Rising, "last_update_id", "last_update_id"),
    events.BlockTrade: (Rising, "trade_id", "trade_id"),
    **dict.fromkeys(
        (
            events.Ticker,
            events.WindowTicker,
            events.MiniTicker,
            events.Candle,
            events.AveragePrice,
            events.ReferencePrice,
        ),
        (Timed, "timestamp", "timestamp"),
    ),
}


NOWHERE: Mapping[Name, Position] = {}


class TrackFigures(NamedTuple):
    """Events dropped as repeats by message type, events that wait behind a hole, and gaps that
    were announced and may yet be filled.
    """

    repeats: Counter[str]
    held: int
    open_gaps: int


class _Removed(Track):
    """Of streams nobody wants any more: nothing is passed on."""

    __slots__ = ()

    def accept(self, event: Event) -> Sequence[Event]:  # noqa: ARG002
        return NOTHING


_REMOVED = _Removed("", "received", "received")  # what every event has


def new_track(event_type: type[Event]) -> Track:
    """A track that has seen nothing yet."""
    rule, first, last = _RULES[event_type]
    return rule(str(event_type.__struct_config__.tag), first, last)


def contiguous_track(kind: str) -> Contiguous:
    """A track for a message type with contiguous ids, that has seen nothing yet."""
    rules = {event_type.__struct_config__.tag: event_type for event_type in _RULES}
    track = new_track(rules[kind])
    assert isinstance(track, Contiguous)  # noqa: S101 - nothing else is asked for
    return track


def contiguous_id(event_type: type[Event]) -> Callable[[Event], int] | None:
    """What gives the id of an event where ids are contiguous."""
    rule, first, _ = _RULES.get(event_type, (Track, "", ""))
    return attrgetter(first) if rule is Contiguous else None


class Tracks:
    """The track of every stream, made when its first event comes; `positions` say where the
    process before this one has stopped.

    A stream that is taken away ends at once: what is still on its way is dropped. Its tracks are
    kept: added again it goes on behind what has been published.
    """

    def __init__(
        self, streams: Iterable[Stream], positions: Mapping[Name, Position] = NOWHERE
    ) -> None:
        self._positions = dict(positions)
        self._of_stream: dict[str, dict[str, Track]] = {}
        self._removed: dict[str, dict[str, Track]] = {}
        self.change(streams)

    def change(
        self, streams: Iterable[Stream], positions: Mapping[Name, Position] = NOWHERE
    ) -> None:
        """These are the streams from now on; further positions are of message types that are
        new.
        """
        self._positions |= positions
        names = dict.fromkeys(stream.name for stream in streams)
        for name in [name for name in self._of_stream if name not in names]:
            tracks = self._removed[name] = self._of_stream.pop(name)
            for track in tracks.values():
                track.removals += 1
        for name in names:
            if name not in self._of_stream:
                self._of_stream[name] = self._removed.pop(name, {})
                for track in self._of_stream[name].values():
                    track.interrupt("removed")

    def track(self, stream: Stream, event: Event) -> Track:
        """The track an event of a stream belongs to; a stream of the whole market has many."""
        try:
            return self._of_stream[stream.name][event.symbol]
        except KeyError:
            return self._new_track(stream, event)

    def figures(self) -> TrackFigures:
        """What all of them have dropped, hold and miss."""
        repeats: Counter[str] = Counter()
        held = open_gaps = 0
        for track in self._all():
            repeats[track.kind] += track.repeats
            if isinstance(track, Contiguous):
                held += track.held
                open_gaps += len(track.open_gaps)
        return TrackFigures(repeats, held, open_gaps)

    def named(self) -> Iterator[tuple[str, Track]]:
        """Every track of the present streams, with its symbol."""
        return (named for tracks in self._of_stream.values() for named in tracks.items())

    def _all(self) -> Iterator[Track]:
        for tracks in (*self._of_stream.values(), *self._removed.values()):
            yield from tracks.values()

    def _new_track(self, stream: Stream, event: Event) -> Track:
        if stream.name not in self._of_stream:
            return _REMOVED
        track = self._of_stream[stream.name][event.symbol] = new_track(type(event))
        if position := self._positions.get((track.kind, event.symbol)):
            track.resume(position.last_id, position.time)
        return track

    def of(self, stream: Stream) -> Iterable[Track]:
        """All tracks of one stream; none of one that has been taken away."""
        return self._of_stream.get(stream.name, {}).values()
