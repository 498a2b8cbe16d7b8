"""Each stream once and in order: what is new, repeated or missing, by the exchange's own ids.

    events                  rule         new is                       a loss shows as
    trade, agg_trade        Contiguous   the id that is expected      a hole: held until filled
    book_delta              Chained      what continues the last      a hole: announced
    quote, book, ...        Rising       an id above the last         nothing: interruptions are
    tickers, candles, ...   Timed        a time not before the last     announced instead

No clock is known here: the events' own times are all the time there is.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Literal

import msgspec

from bridge.core.events import Event, Gap

# A repeat is not younger than what has been seen since; an id far back with a younger time is a
# symbol that was listed anew and counts from the start. Within this, times of one moment differ.
_RESTART_US = 1_000_000
# Streams without a time: so many events in a row below the last id are no repeats.
_RESTART_EVENTS = 1_000
NOTHING: tuple[Event, ...] = ()

Ids = tuple[int, int]
GapState = Literal["open", "filled", "lost"]


class Track:
    """One stream of one symbol: what has been passed on, and what may come next. `removals` counts
    how often nobody has wanted it any more.
    """

    __slots__ = ("_before", "_cause", "first_of", "kind", "last", "last_of", "removals", "repeats")

    def __init__(self, kind: str, first: str, last: str) -> None:
        self.kind = kind
        self.first_of: Callable[[Any], int] = attrgetter(first)
        self.last_of: Callable[[Any], int] = attrgetter(last)
        self.repeats = 0
        self.removals = 0
        self.last: Event | None = None
        self._cause = ""
        self._before: int | None = None

    @property
    def last_time(self) -> int | None:
        """When the last event was that has been passed on, by this process or the one before."""
        return self._before if self.last is None else time_of(self.last)

    @property
    def is_interrupted(self) -> bool:
        """Whether a gap event will precede the next event."""
        return bool(self._cause)

    @property
    def last_id(self) -> int | None:
        """The id of the last event passed on; None before the first, and where ids say nothing."""
        return None if self.last is None else self.last_of(self.last)

    def resume(self, last_id: int, time: int) -> None:  # noqa: ARG002 - for rules with ids
        """Go on behind what was published before this process began: `time` is the last event's.

        What came while no process ran is missing, and cannot be known.
        """
        self._before = time
        self._cause = "restart"

    def follows(self, event: Event) -> bool:  # noqa: ARG002 - where a rule knows a short way
        """Whether an event is just what comes next; it counts as passed on then.

        `accept` says the same of any event, by a tuple more.
        """
        return False

    def accept(self, event: Event) -> Sequence[Event]:
        """What may be passed on now that this event has arrived, in order."""
        raise NotImplementedError

    def interrupt(self, cause: str) -> None:
        """Events may be missing from here on: the next one is preceded by a gap event."""
        if self.last is not None:
            self._cause = cause

    def repeated(self) -> Sequence[Event]:
        self.repeats += 1
        return NOTHING

    def gap(self, ids: Ids | None, until: Event, cause: str, state: GapState) -> Gap:
        """A gap event for what is missing between the last event passed on and `until`."""
        first, last = ids or (None, None)
        head = (until.venue, until.symbol, until.timestamp, until.received, until.source)
        return Gap(*head, self.kind, first, last, self.last_time, time_of(until), cause, state)


class Rising(Track):
    """Ids that rise with holes: a repeat shows, a loss does not."""

    __slots__ = ("_highest", "_lower")

    def __init__(self, kind: str, first: str, last: str) -> None:
        super().__init__(kind, first, last)
        self._highest = -1
        self._lower = 0

    def follows(self, event: Event) -> bool:
        identity = self.first_of(event)
        if identity > self._highest and not self._cause:
            self._highest = identity
            self.last = event
            self._lower = 0
            return True
        return False

    def accept(self, event: Event) -> Sequence[Event]:
        if self.follows(event):
            return (event,)
        identity = self.first_of(event)
        if identity <= self._highest:
            self._lower += 1
            if self._lower < _RESTART_EVENTS:
                return self.repeated()
            self._cause = "restarted"
        gap = self.gap(None, event, self._cause, "lost")
        self._highest, self._lower, self.last, self._cause = identity, 0, event, ""
        return (gap, event)


class Timed(Track):
    """No ids, only times, and several events may share one: a repeat is equal in all it says."""

    __slots__ = ("_same_time",)

    def __init__(self, kind: str, first: str, last: str) -> None:
        super().__init__(kind, first, last)
        self._same_time: list[Event] = []

    @property
    def last_id(self) -> None:
        """Its events have no ids."""

    def accept(self, event: Event) -> Sequence[Event]:
        if self.last is not None:
            previous, now = self.first_of(self.last), self.first_of(event)
            if now < previous or (now == previous and self._is_repeat(event)):
                return self.repeated()
            if now > previous:
                self._same_time.clear()
        gap = (self.gap(None, event, self._cause, "lost"),) if self._cause else ()
        self._cause = ""
        self.last = event
        self._same_time.append(event)
        return (*gap, event)

    def _is_repeat(self, event: Event) -> bool:
        content = _content(event)
        return any(_content(other) == content for other in self._same_time)


class Chained(Track):
    """Each event says where the last one ended: a hole shows, and cannot be filled."""

    __slots__ = ("_expected",)

    def __init__(self, kind: str, first: str, last: str) -> None:
        super().__init__(kind, first, last)
        self._expected: int | None = None

    def accept(self, event: Event) -> Sequence[Event]:
        first, last = self.first_of(event), self.last_of(event)
        expected, before = self._expected, self.last_time
        if expected is None or before is None:
            gap = (self.gap(None, event, self._cause, "lost"),) if self._cause else ()
            passed: tuple[Event, ...] = (*gap, event)
        elif first == expected:
            passed = (event,)
        elif last >= expected:
            passed = self._with_gap(event, first, expected)
        elif is_restart(time_of(event), before):
            passed = (self.gap(None, event, "restarted", "lost"), event)
        else:
            return self.repeated()
        self._expected, self.last, self._cause = last + 1, event, ""
        return passed

    def _with_gap(self, event: Event, first: int, expected: int) -> tuple[Event, ...]:
        """A hole; or an overlap, which is harmless: a level's volume is absolute."""
        if first < expected:
            return (event,)
        return (self.gap((expected, first - 1), event, self._cause or "hole", "lost"), event)


def is_restart(time: int, last: int) -> bool:
    """Whether an event below the last id is younger than it: the ids have started again."""
    return time > last + _RESTART_US


def time_of(event: Event) -> int:
    """When it happened: the exchange's time, ours where it sends none."""
    return event.received if event.timestamp is None else event.timestamp


def _content(event: Event) -> Event:
    """An event without what differs between two arrivals of it."""
    return msgspec.structs.replace(event, received=0)
