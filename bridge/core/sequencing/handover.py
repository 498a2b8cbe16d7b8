"""The handover from an open connection to a new one: the new one must not overtake the old one.

The ids of quotes rise and skip values. If a new connection is ahead, everything that has yet to
arrive on the old one looks like a duplicate. So the new connection's events of a stream wait until
the old connection has brought the first of them. The sequencers then drop the duplicates.
Contiguous ids need no handover: there a hole is visible and holds the stream back.
"""

from collections.abc import Iterator, Sequence

from bridge.core.model.events import Event
from bridge.core.sequencing.contiguous import Contiguous
from bridge.core.sequencing.rules import Sequencer

# The longest wait for the old connection. Events that it brings later are lost.
MAX_WAIT_US = 2_000_000
# For one stream; a busy stream has about a thousand events a second.
MAX_WAITING_EVENTS = 20_000

_JOINED: list[Event] = []


class Handover:
    """The waiting events of a connection that opened while another one was open.

    If a stream is removed and added again, its waiting events are not released, because the events
    after them are missing.
    """

    def __init__(self) -> None:
        self._waiting: dict[tuple[Sequencer, int], list[Event]] = {}

    def take(self, sequencer: Sequencer, event: Event) -> Sequence[Event]:
        """Take an event of the new connection; return the events that may go to the sequencer."""
        place = (sequencer, sequencer.removals)
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

    def finish(self, cause: str) -> Iterator[tuple[Sequencer, Event]]:
        """Release all waiting events, because there is no other connection to wait for.

        If the other connection had not caught up, interrupt the sequencer first, so that a gap
        event precedes the waiting events.
        """
        for (sequencer, removals), waiting in self._waiting.items():
            if removals != sequencer.removals:
                continue
            if waiting and not _has_caught_up(sequencer, waiting[0]):
                sequencer.interrupt(cause)
            for event in waiting:
                yield sequencer, event


def _has_caught_up(sequencer: Sequencer, begin: Event) -> bool:
    """Return whether the events of a stream need not wait any longer.

    True if the other connection has brought the event `begin`, if it has never brought any event,
    or if its missing events are announced anyway.
    """
    if isinstance(sequencer, Contiguous) or sequencer.last_mark is None or sequencer.is_interrupted:
        return True
    return sequencer.last_mark >= sequencer.first_of(begin)


def _is_too_much(waiting: list[Event]) -> bool:
    waited_us = waiting[-1].received - waiting[0].received
    return waited_us > MAX_WAIT_US or len(waiting) > MAX_WAITING_EVENTS
