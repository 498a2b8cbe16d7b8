"""The handover from an open connection to a new one: the new one must not overtake the old one.

The ids of quotes rise and skip values. If a new connection is ahead, everything that has yet to
arrive on the old one looks like a duplicate. So the new connection's events of a stream wait until
the old connection has brought the first of them. The sequencers then drop the duplicates.
Contiguous ids need no handover: there a hole is visible and holds the stream back.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence

from bridge.core.model.events import Event
from bridge.core.sequencing.contiguous import Contiguous
from bridge.core.sequencing.rules import Sequencer

# The longest wait for the old connection. Events that it brings later are lost.
MAX_WAIT_US = 2_000_000
# For one stream; a busy stream has about a thousand events a second.
MAX_WAITING_EVENTS = 20_000

_JOINED: list[Event] = []


class Handover:
    """The waiting events of a connection that opened while others were open.

    `streams` has the names of the streams that an older connection carries: no others wait. If a
    stream is removed and added again, its waiting events are not released, because the events after
    them are missing.
    """

    def __init__(self, streams: Iterable[str]) -> None:
        self.streams = set(streams)
        self._waiting: dict[tuple[str, Sequencer, int], list[Event]] = {}

    def take(self, stream: str, sequencer: Sequencer, event: Event) -> Sequence[Event]:
        """Take an event of the new connection; return the events that may go to the sequencer."""
        if stream not in self.streams:
            return (event,)
        place = (stream, sequencer, sequencer.removals)
        waiting = self._waiting.setdefault(place, [])
        if waiting is _JOINED:
            return (event,)
        waiting.append(event)
        if not _has_caught_up(sequencer, waiting[0]):
            if not _is_too_much(waiting):
                return ()
            sequencer.interrupt("handover_timeout")
        self._waiting[place] = _JOINED
        return waiting

    def finish(
        self, cause: str, carried: Collection[str] = ()
    ) -> Iterator[tuple[Sequencer, Event]]:
        """Release the waiting events of the streams that no older connection carries any more.
        `carried` has the names of the others.

        If the other connection had not caught up, interrupt the sequencer first, so that a gap
        event precedes the waiting events.
        """
        self.streams.intersection_update(carried)
        ended = [place for place in self._waiting if place[0] not in self.streams]
        for place in ended:
            waiting = self._waiting.pop(place)
            _, sequencer, removals = place
            if removals != sequencer.removals:
                continue
            if waiting and not _has_caught_up(sequencer, waiting[0]):
                sequencer.interrupt(cause)
            for event in waiting:
                yield sequencer, event


def _has_caught_up(sequencer: Sequencer, begin: Event) -> bool:
    """Return whether the events of a stream need not wait any longer.

    True if the other connection has brought the event `begin`, if it has never brought any event,
    or if the gap event of an interruption will precede the next event.
    """
    newest = sequencer.newest_mark
    if isinstance(sequencer, Contiguous) or newest is None or sequencer.is_interrupted:
        return True
    return newest >= sequencer.first_of(begin)


def _is_too_much(waiting: list[Event]) -> bool:
    waited_us = waiting[-1].received - waiting[0].received
    return waited_us > MAX_WAIT_US or len(waiting) > MAX_WAITING_EVENTS
