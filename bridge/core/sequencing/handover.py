"""How a connection joins one that is open: what it brings must not overtake what the other has.

Ids of quotes rise with holes: a new connection that is ahead would make everything that still waits
on the old one look like repeats. So its events of a stream wait until the other connection has
brought what it began with; what both bring is then dropped by the tracks. Contiguous ids need none
of that: there a hole shows, and is held.
"""

from collections.abc import Iterator, Sequence

from bridge.core.model.events import Event
from bridge.core.sequencing.contiguous import Contiguous
from bridge.core.sequencing.rules import Track

# A connection further behind than this is waited for no longer, and what it may yet have is lost.
MAX_WAIT_US = 2_000_000
# Of one stream; a busy one has some thousand a second.
MAX_WAITING_EVENTS = 20_000

_JOINED: list[Event] = []


class Joining:
    """The streams of one connection that opened beside another. What waits when a stream is taken
    away is not let go when it comes again: something is missing behind it.
    """

    def __init__(self) -> None:
        self._waiting: dict[tuple[Track, int], list[Event]] = {}

    def take(self, track: Track, event: Event) -> Sequence[Event]:
        """What may be handed to the track now that the new connection has brought this event."""
        place = (track, track.removals)
        waiting = self._waiting.setdefault(place, [])
        if waiting is _JOINED:
            return (event,)
        waiting.append(event)
        if not _has_caught_up(track, waiting[0]):
            if not _is_too_much(waiting):
                return ()
            track.interrupt("overtaken")
        self._waiting[place] = _JOINED
        return waiting

    def finish(self, cause: str) -> Iterator[tuple[Track, Event]]:
        """There is nobody else to wait for: what waits may go. Where the other connection had not
        come so far, it goes behind an interruption.
        """
        for (track, removals), waiting in self._waiting.items():
            if removals != track.removals:
                continue
            if waiting and not _has_caught_up(track, waiting[0]):
                track.interrupt(cause)
            for event in waiting:
                yield track, event


def _has_caught_up(track: Track, begin: Event) -> bool:
    """Whether the other connection has brought what the new one began with; or nothing ever, or
    what it has not brought is announced anyway.
    """
    if isinstance(track, Contiguous) or track.last_mark is None or track.is_interrupted:
        return True
    return track.last_mark >= track.first_of(begin)


def _is_too_much(waiting: list[Event]) -> bool:
    waited_us = waiting[-1].received - waiting[0].received
    return waited_us > MAX_WAIT_US or len(waiting) > MAX_WAITING_EVENTS
