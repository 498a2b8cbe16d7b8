"""Each stream once and in order: what is new, repeated or missing, by the exchange's own ids.

    events                  rule         new is                       a loss shows as
    trade, agg_trade        Contiguous   the id that is expected      a hole: held until filled
    book_delta              Chained      what continues the last      a hole: announced
    quote, book, ...        Monotonic       an id above the last         nothing: interruptions are
    tickers, candles, ...   TimeOrdered        a time not before the last     announced instead

No clock is known here: the events' own times are all the time there is.
"""

from collections.abc import Callable, Sequence
from functools import cache
from operator import attrgetter
from typing import Any, Literal

import msgspec

from bridge.core.model.events import Event, Gap

# A repeat is not younger than what has been seen since; an id far back with a younger time is a
# symbol that was listed anew and counts from the start. Within this, times of one moment differ.
_RESTART_US = 1_000_000
# Streams without a time: so many events in a row below the last id are no duplicates.
_RESTART_EVENTS = 1_000
NOTHING: tuple[Event, ...] = ()

Ids = tuple[int, int]
GapState = Literal["open", "filled", "lost"]


class Sequencer:
    """One stream of one symbol: what has been passed on, and what may come next. `removals` counts
    how often nobody has wanted it any more.

    Of the last event only figures are kept, `last_received` where it came live: with a thousand
    symbols, events that stay until the next one of their stream fill every cache.
    """

    __slots__ = (
        *("_cause", "_timestamp", "first_of", "message_type"),
        *("last_of", "last_received", "removals", "duplicates"),
    )

    def __init__(self, message_type: str, first: str, last: str) -> None:
        self.message_type = message_type
        self.first_of = _getter(first)
        self.last_of = _getter(last)
        self.duplicates = 0
        self.removals = 0
        self.last_received: int | None = None
        self._timestamp: int | None = None
        self._cause = ""

    @property
    def last_time(self) -> int | None:
        """When the last event was that has been passed on, by this process or the one before."""
        return self.last_received if self._timestamp is None else self._timestamp

    @property
    def is_interrupted(self) -> bool:
        """Whether a gap event will precede the next event."""
        return bool(self._cause)

    @property
    def last_mark(self) -> int | None:
        """What orders the last event passed on, its id or its time; None before the first."""
        return None

    @property
    def last_id(self) -> int | None:
        """The id of the last event passed on; None before the first, and where ids say nothing."""
        return self.last_mark

    def resume(self, last_id: int, time: int) -> None:  # noqa: ARG002 - for rules with ids
        """Go on behind what was published before this process began: `time` is the last event's.

        What came while no process ran is missing, and cannot be known.
        """
        self._timestamp = time
        self._cause = "restart"

    def follows(self, first: int, timestamp: int | None, received: int) -> bool:  # noqa: ARG002
        """Whether a live event is just what comes next, by its first id; it counts as passed on
        then. The short way, for rules that know one: `accept` says the same of any event.
        """
        return False

    def accept(self, event: Event) -> Sequence[Event]:
        """What may be passed on now that this event has arrived, in order."""
        raise NotImplementedError

    def interrupt(self, cause: str) -> None:
        """Events may be missing from here on: the next one is preceded by a gap event."""
        if self.last_mark is not None:
            self._cause = cause

    def note(self, event: Event) -> None:
        """Keep of an event that is passed on what the next one needs."""
        self._timestamp = event.timestamp
        self.last_received = None if event.source == "rest" else event.received

    def drop_duplicate(self) -> Sequence[Event]:
        self.duplicates += 1
        return NOTHING

    def gap(self, ids: Ids | None, until: Event, cause: str, state: GapState) -> Gap:
        """A gap event for what is missing between the last event passed on and `until`."""
        first, last = ids or (None, None)
        head = (until.venue, until.symbol, until.timestamp, until.received, until.source)
        return Gap(
            *head, self.message_type, first, last, self.last_time, time_of(until), cause, state
        )


class Monotonic(Sequencer):
    """Ids that rise with holes: a repeat shows, a loss does not."""

    __slots__ = ("_highest", "_lower")

    def __init__(self, message_type: str, first: str, last: str) -> None:
        super().__init__(message_type, first, last)
        self._highest = -1
        self._lower = 0

    @property
    def last_mark(self) -> int | None:
        """The greatest id."""
        return None if self._highest < 0 else self._highest

    def follows(self, first: int, timestamp: int | None, received: int) -> bool:
        if first > self._highest and not self._cause:
            self._highest = first
            self._timestamp = timestamp
            self.last_received = received
            self._lower = 0
            return True
        return False

    def accept(self, event: Event) -> Sequence[Event]:
        identity = self.first_of(event)
        if identity <= self._highest:
            self._lower += 1
            if self._lower < _RESTART_EVENTS:
                return self.drop_duplicate()
            self._cause = "ids_restarted"
        gap = (self.gap(None, event, self._cause, "lost"),) if self._cause else ()
        self._highest, self._lower, self._cause = identity, 0, ""
        self.note(event)
        return (*gap, event)


class TimeOrdered(Sequencer):
    """No ids, only times, and several events may share one: a repeat is equal in all it says."""

    __slots__ = ("_same_time",)

    def __init__(self, message_type: str, first: str, last: str) -> None:
        super().__init__(message_type, first, last)
        self._same_time: list[Event] = []

    @property
    def last_mark(self) -> int | None:
        """The last time."""
        return self.first_of(self._same_time[-1]) if self._same_time else None

    @property
    def last_id(self) -> None:
        """Its events have no ids."""

    def accept(self, event: Event) -> Sequence[Event]:
        if (previous := self.last_mark) is not None:
            now = self.first_of(event)
            if now < previous or (now == previous and self._is_repeat(event)):
                return self.drop_duplicate()
            if now > previous:
                self._same_time.clear()
        gap = (self.gap(None, event, self._cause, "lost"),) if self._cause else ()
        self._cause = ""
        self.note(event)
        self._same_time.append(event)
        return (*gap, event)

    def _is_repeat(self, event: Event) -> bool:
        content = _content(event)
        return any(_content(other) == content for other in self._same_time)


class Chained(Sequencer):
    """Each event says where the last one ended: a hole shows, and cannot be filled."""

    __slots__ = ("_expected",)

    def __init__(self, message_type: str, first: str, last: str) -> None:
        super().__init__(message_type, first, last)
        self._expected: int | None = None

    @property
    def last_mark(self) -> int | None:
        """The id at which the last event ended."""
        return None if self._expected is None else self._expected - 1

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
            passed = (self.gap(None, event, "ids_restarted", "lost"), event)
        else:
            return self.drop_duplicate()
        self._expected, self._cause = last + 1, ""
        self.note(event)
        return passed

    def _with_gap(self, event: Event, first: int, expected: int) -> tuple[Event, ...]:
        """A hole; or an overlap, which is harmless: a level's volume is absolute."""
        if first < expected:
            return (event,)
        return (self.gap((expected, first - 1), event, self._cause or "missing_ids", "lost"), event)


@cache
def _getter(name: str) -> Callable[[Any], int]:
    """What reads a field; one for all sequencers."""
    return attrgetter(name)


def is_restart(time: int, last: int) -> bool:
    """Whether an event below the last id is younger than it: the ids have started again."""
    return time > last + _RESTART_US


def time_of(event: Event) -> int:
    """When it happened: the exchange's time, ours where it sends none."""
    return event.received if event.timestamp is None else event.timestamp


def _content(event: Event) -> Event:
    """An event without what differs between two arrivals of it."""
    return msgspec.structs.replace(event, received=0)
