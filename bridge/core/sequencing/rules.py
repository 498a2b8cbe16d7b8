"""The rules that pass each stream once and in order: new, duplicate or missing, by the ids.

    events                  rule          next event                   a loss is visible as
    trade, agg_trade        Contiguous    has the expected id          a hole: held until filled
    book_delta              Chained       continues the last event     a hole: announced
    quote, book, ...        Monotonic     has an id above the last     nothing: interruptions are
    tickers, candles, ...   TimeOrdered   is not before the last       announced instead

These rules use no clock, only the times of the events.
"""

from collections.abc import Callable, Sequence
from functools import cache
from operator import attrgetter
from typing import Any, Literal, NamedTuple

import msgspec

from bridge.core.model.events import Event, Gap, Source

# A duplicate is never newer than the last event. A lower id with a newer time means that the symbol
# was listed again and its ids have restarted. Times of one moment differ by at most this.
_RESTART_US = 1_000_000
# For streams without a time: this many events in a row below the last id are not duplicates.
_RESTART_EVENTS = 1_000
NOTHING: tuple[Event, ...] = ()

Ids = tuple[int, int]
GapState = Literal["open", "filled", "lost"]


class Head(NamedTuple):
    """The exchange's last id of one stream, as REST has reported it at `received`.

    It is -1 if the stream has never had an event. `last_trade_id` is the symbol's last trade that
    the report covers. `timestamp` is the exchange's time of the report, in microseconds. Some
    fields have the same names as those of an event.
    """

    venue: str
    symbol: str
    timestamp: int | None
    received: int
    last_id: int
    last_trade_id: int
    source: Source = "rest"


class Sequencer:
    """The state of one stream of one symbol: the last event passed on, and what may come next.

    `removals` counts how often the stream was unsubscribed. `last_received` is the arrival of the
    last event, or None if it was fetched. Only numbers of the last event are kept: with a thousand
    symbols, events that stay in memory until the next one of their stream fill every cache.
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
        """Return the time of the last event passed on, by this process or the previous one."""
        return self.last_received if self._timestamp is None else self._timestamp

    @property
    def is_interrupted(self) -> bool:
        """Return whether a gap event will precede the next event."""
        return bool(self._cause)

    @property
    def last_mark(self) -> int | None:
        """Return the id or time that orders the last event passed on; None before the first."""
        return None

    @property
    def last_id(self) -> int | None:
        """Return the id of the last event passed on; None before the first or without ids."""
        return self.last_mark

    def resume(self, last_id: int, time: int) -> None:  # noqa: ARG002 - for rules with ids
        """Continue after the last event published before this process started, at `time`.

        The events of the time in which no process ran are missing and remain unknown.
        """
        self._timestamp = time
        self._cause = "restart"

    def follows(self, first: int, timestamp: int | None, received: int) -> bool:  # noqa: ARG002
        """Return whether a live event comes next, by its first id; if so, it counts as passed on.

        This is the fast path of the rules that have one. `accept` decides the same for any event.
        """
        return False

    def accept(self, event: Event) -> Sequence[Event]:
        """Take the next event; return the events that may now be passed on, in order."""
        raise NotImplementedError

    def interrupt(self, cause: str) -> None:
        """Note that events may be missing from here on: a gap event will precede the next one."""
        if self.last_mark is not None:
            self._cause = cause

    def note(self, event: Event) -> None:
        """Store the values of a passed event that are needed for the next one."""
        self._timestamp = event.timestamp
        self.last_received = None if event.source == "rest" else event.received

    def drop_duplicate(self) -> Sequence[Event]:
        self.duplicates += 1
        return NOTHING

    def gap(self, ids: Ids | None, until: Event | Head, cause: str, state: GapState) -> Gap:
        """Return a gap event for the events between the last event passed on and `until`."""
        first, last = ids or (None, None)
        head = (until.venue, until.symbol, until.timestamp, until.received, until.source)
        return Gap(
            *head, self.message_type, first, last, self.last_time, time_of(until), cause, state
        )


class Monotonic(Sequencer):
    """Ids that rise and skip values: a duplicate is visible, a loss is not."""

    __slots__ = ("_highest", "_lower")

    def __init__(self, message_type: str, first: str, last: str) -> None:
        super().__init__(message_type, first, last)
        self._highest = -1
        self._lower = 0

    @property
    def last_mark(self) -> int | None:
        """Return the greatest id."""
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
    """Events without ids; several may have the same time. A duplicate is equal in all fields."""

    __slots__ = ("_same_time",)

    def __init__(self, message_type: str, first: str, last: str) -> None:
        super().__init__(message_type, first, last)
        self._same_time: list[Event] = []

    @property
    def last_mark(self) -> int | None:
        """Return the time of the last event."""
        return self.first_of(self._same_time[-1]) if self._same_time else None

    @property
    def last_id(self) -> None:
        """Return None: the events have no ids."""

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
    """Each event has the id at which the previous one ended: a hole is visible, never filled."""

    __slots__ = ("_expected",)

    def __init__(self, message_type: str, first: str, last: str) -> None:
        super().__init__(message_type, first, last)
        self._expected: int | None = None

    @property
    def last_mark(self) -> int | None:
        """Return the id at which the last event ended."""
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
        """Return the event, after a gap event if there is a hole.

        An overlap is harmless, because the volume of a level is absolute.
        """
        if first < expected:
            return (event,)
        return (self.gap((expected, first - 1), event, self._cause or "missing_ids", "lost"), event)


@cache
def _getter(name: str) -> Callable[[Any], int]:
    """Return the function that reads a field; all sequencers share it."""
    return attrgetter(name)


def is_restart(time: int, last: int) -> bool:
    """Return whether an event below the last id is so much newer that the ids have restarted."""
    return time > last + _RESTART_US


def time_of(event: Event | Head) -> int:
    """Return the time of an event: the exchange's time, or ours if the exchange sends none."""
    return event.received if event.timestamp is None else event.timestamp


def _content(event: Event) -> Event:
    """Return an event without the fields that differ between two arrivals of it."""
    return msgspec.structs.replace(event, received=0)
