"""How a connection joins one that is open: what it brings must not overtake what the other has.

Ids of quotes rise with holes: a new connection that is ahead would make everything that still waits
on the old one look like duplicates. So its events of a stream wait until the other connection has
brought what it began with; what both bring is then dropped by the sequencers. Contiguous ids need
none of that: there a hole shows, and is held.
"""

from collections.abc import Iterator, Sequence

from bridge.core.model.events import Event
from bridge.core.sequencing.contiguous import Contiguous
from bridge.core.sequencing.rules import Sequencer

# A connection further behind than this is waited for no longer, and what it may yet have is lost.
MAX_WAIT_US = 2_000_000
# Of one stream; a busy one has some thousand a second.
MAX_WAITING_EVENTS = 20_000

_JOINED: list[Event] = []


class Handover:
    """The streams of one connection that opened beside another. What waits when a stream is taken
    away is not let go when it comes again: something is missing behind it.
    """

    def __init__(self) -> None:
        self._waiting: dict[tuple[Sequencer, int], list[Event]] = {}

    def take(self, sequencer: Sequencer, event: Event) -> Sequence[Event]:
        """What may be handed to the sequencer now that the new connection has brought this
        event.
        """
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
        """There is nobody else to wait for: what waits may go. Where the other connection had not
        come so far, it goes behind an interruption.
        """
        for (sequencer, removals), waiting in self._waiting.items():
            if removals != sequencer.removals:
                continue
            if waiting and not _has_caught_up(sequencer, waiting[0]):
                sequencer.interrupt(cause)
            for event in waiting:
                yield sequencer, event


def _has_caught_up(sequencer: Sequencer, begin: Event) -> bool:
    """Whether the other connection has brought what the new one began with; or nothing ever, or
    what it has not brought is announced anyway.
    """
    if isinstance(sequencer, Contiguous) or sequencer.last_mark is None or sequencer.is_interrupted:
        return True
    return sequencer.last_mark >= sequencer.first_of(begin)


def _is_too_much(waiting: list[Event]) -> bool:
    waited_us = waiting[-1].received - waiting[0].received
    return waited_us > MAX_WAIT_US or len(waiting) > MAX_WAITING_EVENTS
