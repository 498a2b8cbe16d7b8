"""The rules that pass each stream once and in order: new, duplicate or missing, by the ids.

    events                  rule          next event                   a loss is visible as
    trade, agg_trade        Contiguous    has the expected id          a hole: held until filled
    book_delta              Chained       continues the last event     a hole: announced
    quote, book, ...        Monotonic     has an id above the last     nothing: interruptions are
    tickers, ...            TimeOrdered   is not before the last       announced instead
    block_trade, candle     both, with Backfilled                      the same, but held and filled

A duplicate has a lower id, and so has an event after its ids have restarted, because the symbol was
listed again or a test network was reset. A restart is believed after several events with rising low
ids and younger times, if nothing has come at the old ids in between. One event with a wrong id or
time changes nothing for the others.

These rules use no clock, only the times of the events and of their arrival.
"""

from collections.abc import Callable, Sequence
from functools import cache
from operator import attrgetter
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from bridge.core.model.events import Event, Gap, Source

# A time this far ahead of our clock is an error, of the exchange or of our clock.
MAX_AHEAD_US = 5_000_000
# This many events with rising low ids make a restart, at the earliest this long after the last
# event with a high id. Times of one moment differ by less. If events have no time of their own, the
# time of their arrival counts, and duplicates may arrive late.
RESTART_EVENTS = 3
RESTART_US = 1_000_000
ARRIVAL_RESTART_US = 10_000_000
# An event up to the last published one proves that this process has received the stream since then,
# if it has not arrived later than this after that one's time. The clocks may differ by so much.
OVERLAP_US = 10_000_000
# So many events may wait for that; older ones are dropped.
_MAX_LOW_EVENTS = 20_000
# The last events with times far ahead that are remembered, to recognise their duplicates.
_MAX_AHEAD_EVENTS = 16
# The cause of the gap event.
RESTARTED = "ids_restarted"
_NO_TIME = -1
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


class Marks(NamedTuple):
    """What was published of a stream without contiguous ids: its last id, or its last time and the
    number of events with this time. `ahead` is the last time that was far ahead of its arrival.
    -1 if there was none.
    """

    mark: int = -1
    mark_count: int = 1
    ahead: int = -1


NO_MARKS = Marks()


class Timed(Protocol):
    """An event, or a part of one."""

    @property
    def timestamp(self) -> int | None:
        """The exchange's time, in microseconds; None if it sends none."""

    @property
    def received(self) -> int:
        """The time of the arrival, in microseconds."""


class Sequencer:
    """The state of one stream of one symbol: the last event passed on, and what may come next.

    `removals` counts how often the stream was unsubscribed. `last_received` is the arrival of the
    last event, or None if it was fetched. Only numbers of the last event are kept: with a thousand
    symbols, events that stay in memory until the next one of their stream fill every cache.
    """

    __slots__ = (
        *("_cause", "_low", "_low_after", "_low_cause", "_second_time", "_third_time", "_time"),
        *("duplicates", "first_of", "last_of", "last_received", "message_type", "removals"),
    )

    def __init__(self, message_type: str, first: str, last: str) -> None:
        self.message_type = message_type
        self.first_of = _getter(first)
        self.last_of = _getter(last)
        self.duplicates = 0
        self.removals = 0
        self.last_received: int | None = None
        # The times of the last event and of the two before it.
        self._time = self._second_time = self._third_time = _NO_TIME
        self._cause = ""
        # Events that may come after a restart of the ids, each with the cause of an interruption
        # just before it, or "". The cause of one after them, and the highest id when they came.
        self._low: list[tuple[str, Event]] = []
        self._low_cause = ""
        self._low_after = 0

    @property
    def last_time(self) -> int | None:
        """Return the time of the last event passed on, by this process or the previous one."""
        return None if self._time == _NO_TIME else self._time

    @property
    def held(self) -> int:
        """Return the number of events that wait until missing ones are fetched."""
        return 0

    @property
    def is_interrupted(self) -> bool:
        """Return whether a gap event will precede the next event that comes."""
        return bool(self._cause) and not self._is_undecided

    @property
    def last_mark(self) -> int | None:
        """Return the id or time that orders the last event passed on; None before the first."""
        return None

    @property
    def last_id(self) -> int | None:
        """Return the id of the last event passed on; None before the first or without ids."""
        return self.last_mark

    @property
    def newest_mark(self) -> int | None:
        """Return the id or time of the last event that has come, passed on or waiting. While it is
        undecided whether the ids have restarted, this is the last low one.
        """
        return self.first_of(self._low[-1][1]) if self._is_undecided else self.last_mark

    @property
    def _is_undecided(self) -> bool:
        """Return whether the last events may have come after a restart of the ids."""
        return bool(self._low) and self._low_after == self.last_mark

    def resume(self, last_id: int, time: int, marks: Marks = NO_MARKS) -> None:  # noqa: ARG002
        """Continue after the last event published before this process started, at `time`. Events
        that are not after `marks` are duplicates.

        The events of the time in which no process ran are missing and remain unknown.
        """
        self._time = self._second_time = self._third_time = time
        self._cause = "restart"

    def note_whole(self) -> None:
        """Note that no event is missing after the last one that was published."""
        self._cause = ""

    def follows(self, first: int, time: int, received: int) -> bool:  # noqa: ARG002
        """Return whether a live event comes next, by its first id; if so, it counts as passed on.

        `time` is what `time_of` returns. This is the fast path of the rules that have one. `accept`
        decides the same for any event.
        """
        return False

    def accept(self, event: Event) -> Sequence[Event]:
        """Take the next event; return the events that may now be passed on, in order."""
        raise NotImplementedError

    def interrupt(self, cause: str) -> None:
        """Note that events may be missing from here on: a gap event will precede the next one."""
        if self._time != _NO_TIME:
            self._cause = self._cause or cause
            self._low_cause = cause

    def note(self, event: Event) -> None:
        """Store the values of a passed event that are needed for the next one."""
        time = time_of(event)
        if self._time == _NO_TIME:
            self._time = self._second_time = time
        self._third_time, self._second_time, self._time = self._second_time, self._time, time
        self.last_received = None if event.source == "rest" else event.received

    def drop_duplicate(self) -> Sequence[Event]:
        self.duplicates += 1
        return NOTHING

    def note_overlap(self, event: Event) -> None:
        """Note a duplicate of what was published. If the previous process has published it, nothing
        is missing: this process has received the stream all the time.
        """
        if self.last_received is None and event.received <= self._time + OVERLAP_US:
            self._cause = ""

    def after_restart(self, event: Event, highest: int) -> Sequence[tuple[str, Event]]:
        """Take an event that is not above the highest id. Return the events since a restart of the
        ids, this one last, as soon as a restart is certain. Until then the event is a duplicate.

        Each comes with the cause of the gap event that must precede it, or "".
        """
        time = time_of(event)
        if time <= self._time and time <= self._second_time:
            return ()  # as nearly all duplicates
        last_time = self._published_until()
        identity, low = self.first_of(event), self._low
        if time <= last_time or self.last_of(event) == highest:
            return ()
        if self._low_after != highest:
            low.clear()  # the old ids go on
        if low and identity <= self.first_of(low[-1][1]):
            if identity >= self.first_of(low[0][1]):
                return ()
            low.clear()
        low.append((self._low_cause, event))
        self._low_after, self._low_cause = highest, ""
        silence_us = ARRIVAL_RESTART_US if event.timestamp is None else RESTART_US
        if len(low) < RESTART_EVENTS or time <= last_time + silence_us:
            del low[:-_MAX_LOW_EVENTS]
            return ()
        self._low = []
        return [(RESTARTED, low[0][1]), *low[1:]]

    def _published_until(self) -> int:
        """Return the time of the newest event passed on. Events above which others have passed may
        still come, and are older.
        """
        return max(self._time, self._second_time, self._third_time)

    def gap_before(self, event: Event) -> tuple[Event, ...]:
        """Return the gap event that must precede an event because the stream was interrupted."""
        return (self.gap(None, event, self._cause, self.gap_state(event)),) if self._cause else ()

    def gap_state(self, until: Event) -> GapState:  # noqa: ARG002 - for rules that fetch
        """Return the state of the gap before the first event after an interruption."""
        return "lost"

    def gap(self, ids: Ids | None, until: Event | Head, cause: str, state: GapState) -> Gap:
        """Return a gap event for the events between the last event passed on and `until`."""
        first, last = ids or (None, None)
        to_time = time_of(until)
        # One of the two may be wrong. Whoever reads from the first one on must miss nothing.
        last_time = self._time if self._time <= to_time else self._second_time
        from_time = None if self._time == _NO_TIME else min(last_time, to_time)
        head = (until.venue, until.symbol, until.timestamp, until.received, until.source)
        return Gap(*head, self.message_type, first, last, from_time, to_time, cause, state)


class Monotonic(Sequencer):
    """Ids that rise and skip values: a duplicate is visible, a loss is not."""

    __slots__ = ("_highest",)

    def __init__(self, message_type: str, first: str, last: str) -> None:
        super().__init__(message_type, first, last)
        self._highest = -1

    @property
    def last_mark(self) -> int | None:
        """Return the greatest id."""
        return None if self._highest < 0 else self._highest

    def resume(self, last_id: int, time: int, marks: Marks = NO_MARKS) -> None:
        super().resume(last_id, time, marks)
        self._highest = marks.mark

    def follows(self, first: int, time: int, received: int) -> bool:
        if first > self._highest and not self._cause:
            self._highest = first
            self._third_time = self._second_time
            self._second_time = self._time
            self._time = time
            self.last_received = received
            return True
        return False

    def accept(self, event: Event) -> Sequence[Event]:
        identity = self.first_of(event)
        if identity <= self._highest:
            self.duplicates += 1
            if self._cause:
                self.note_overlap(event)
            since = self.after_restart(event, self._highest)
            if since:
                self._highest = -1
            return [passed for low in since for passed in self._accept_after(*low)]
        gap = self.gap_before(event)
        self._highest, self._cause = identity, ""
        self.note(event)
        return (*gap, event)

    def _accept_after(self, cause: str, event: Event) -> Sequence[Event]:
        """Accept an event after an interruption for this cause, if there was one."""
        self._cause = cause
        return Monotonic.accept(self, event)


class TimeOrdered(Sequencer):
    """Events without ids; several may have the same time. A duplicate is equal in all fields.

    An event whose time is far ahead is passed on and does not hold back those after it.
    """

    __slots__ = ("_ahead", "_published", "_published_last", "_same_time")

    def __init__(self, message_type: str, first: str, last: str) -> None:
        super().__init__(message_type, first, last)
        self._same_time: list[Event] = []
        self._ahead: list[Event] = []
        # What the previous process has published, and the events of its last time.
        self._published = NO_MARKS
        self._published_last: list[Event] = []

    def resume(self, last_id: int, time: int, marks: Marks = NO_MARKS) -> None:
        super().resume(last_id, time, marks)
        self._published = marks

    @property
    def last_mark(self) -> int | None:
        """Return the time of the last event. If our clock is slow, all times are far ahead."""
        last = self._same_time or self._ahead
        if last:
            return self.first_of(last[-1])
        published = self._published.ahead if self._published.mark < 0 else self._published.mark
        return None if published < 0 else published

    @property
    def last_id(self) -> None:
        """Return None: the events have no ids."""

    def accept(self, event: Event) -> Sequence[Event]:
        if self._is_published(event):
            self.note_overlap(event)
            return self.drop_duplicate()
        if _is_repeat(event, self._ahead):
            return self.drop_duplicate()
        recent = self._ahead if is_ahead(event) else self._same_time
        if recent is self._same_time and recent:
            now, previous = self.first_of(event), self.first_of(recent[-1])
            if now < previous:
                return self.drop_duplicate()
            if now > previous:
                recent.clear()
        if _is_repeat(event, recent):
            return self.drop_duplicate()
        recent.append(event)
        del self._ahead[:-_MAX_AHEAD_EVENTS]
        gap = self.gap_before(event)
        self._cause = ""
        self.note(event)
        return (*gap, event)

    def _is_published(self, event: Event) -> bool:
        """Return whether the previous process has published an event."""
        time, published = self.first_of(event), self._published
        if is_ahead(event):
            return time <= published.ahead
        if time != published.mark or _is_repeat(event, self._published_last):
            return time <= published.mark
        if len(self._published_last) == published.mark_count:
            return False
        self._published_last.append(event)
        return True


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

    def resume(self, last_id: int, time: int, marks: Marks = NO_MARKS) -> None:
        super().resume(last_id, time, marks)
        self._expected = None if marks.mark < 0 else marks.mark + 1

    def accept(self, event: Event) -> Sequence[Event]:
        first, last = self.first_of(event), self.last_of(event)
        expected = self._expected
        if expected is None:
            gap = self.gap_before(event)
            passed: tuple[Event, ...] = (*gap, event)
        elif first == expected:
            passed = (event,)
        elif last >= expected:
            passed = self._with_gap(event, first, expected)
        else:
            self.duplicates += 1
            since = self.after_restart(event, expected - 1)
            if since:
                self._expected, self._cause = None, RESTARTED
            return [passed for _, low in since for passed in self.accept(low)]
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


def is_ahead(event: Timed) -> bool:
    """Return whether an event's time is too far ahead of its arrival to be true."""
    return event.timestamp is not None and event.timestamp > event.received + MAX_AHEAD_US


def time_of(event: Timed) -> int:
    """Return the time of an event: the exchange's time, or ours if the exchange sends none."""
    return event.received if event.timestamp is None else event.timestamp


def _is_repeat(event: Event, others: Sequence[Event]) -> bool:
    if not others:
        return False
    content = _content(event)
    return any(_content(other) == content for other in others)


def _content(event: Event) -> Event:
    """Return an event without the fields that differ between two arrivals of it."""
    return msgspec.structs.replace(event, received=0)
