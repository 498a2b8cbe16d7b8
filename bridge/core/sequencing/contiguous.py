"""The rule for streams without missing ids: trades and aggregate trades.

A hole holds back only its own stream. The events after it wait until the missing events are fetched
(`fill`) or given up (`give_up`), and are then passed on in order. Missing events that were given up
are announced by a gap event before the next event. They can still be brought later (`close_gap`).

An event that comes by itself after its gap was announced waits for `close_gap` (`take_late`).

A hole shows with the next event, or when the exchange reports a last id that has not come
(`reach`). In the second case nothing is held back: the missing events may still come by themselves.

After a restart of the ids, those before the first event since are a hole too. The gap event of the
restart comes before the first event that passes.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from msgspec.structs import replace

from bridge.core.model.events import Event, Gap
from bridge.core.sequencing.rules import (
    NO_MARKS,
    NOTHING,
    RESTARTED,
    Head,
    Ids,
    Marks,
    Sequencer,
    time_of,
)

MAX_HELD_EVENTS = 20_000
MAX_OPEN_GAPS = 100
# A larger hole is announced, and fetched later, in pieces of this size.
MAX_GAP_IDS = 10_000
# The value of `_next` while a hole holds back the stream: no id has this value.
_HOLDING = -1


class Contiguous(Sequencer):
    """Passes every id exactly once."""

    __slots__ = (
        *("_first_held", "_head", "_held", "_last_held", "_late", "_next", "_old_last", "_open"),
        *("_reported_from", "_restarted_at", "expected"),
    )

    def __init__(self, message_type: str, first: str, last: str) -> None:
        super().__init__(message_type, first, last)
        self.expected: int | None = None
        self._next = _HOLDING
        self._held: dict[int, Event] = {}
        self._first_held = self._last_held = 0
        self._open: list[Gap] = []
        # Events that have come by themselves into an open gap.
        self._late: dict[int, Event] = {}
        self._head: Head | None = None
        # The time of the first event after the last restart of the ids, and the last id before it.
        self._restarted_at = self._old_last = -1
        # The first id of the last hole that only a report showed and that was given up.
        self._reported_from = -1

    @property
    def hole(self) -> Ids | None:
        """Return the first and last id of the hole; None if the stream has no hole."""
        if self.expected is None:
            return None
        if self._held:
            return self.expected, self._first_held - 1
        if self._head and self._head.last_id >= self.expected:
            return self.expected, self._head.last_id
        return None

    @property
    def has_begun(self) -> bool:
        """Return whether the stream has ever had an event. Before that its first id is not known:
        mostly, but not on every exchange, it is 0.
        """
        return self.expected != 0

    @property
    def last_mark(self) -> int | None:
        """Return the id of the last event passed on, by this process or the previous one."""
        return None if self.expected is None or not self.has_begun else self.expected - 1

    @property
    def newest_id(self) -> int | None:
        """Return the greatest id that is known to exist; None before the first event."""
        come = self._last_held if self._held else self.last_mark
        if self._head is None or self._head.last_id < 0:
            return come
        return self._head.last_id if come is None else max(come, self._head.last_id)

    @property
    def head(self) -> Head | None:
        """Return the exchange's last id as last reported."""
        return self._head

    @property
    def held(self) -> int:
        """Return the number of events that wait because of the hole."""
        return len(self._held)

    @property
    def open_gaps(self) -> Sequence[Gap]:
        """Return the announced gaps whose events may still be brought, oldest first."""
        return tuple(self._open)

    def resume(self, last_id: int, time: int, marks: Marks = NO_MARKS) -> None:  # noqa: ARG002
        """Continue after an event that was published before this process started."""
        self._time = self._second_time = self._third_time = time
        self._next = self.expected = last_id + 1

    def begin_replay(self) -> None:
        """Expect events that have waited since before the last published one. If the ids have
        restarted in between, some of them have higher ids and earlier times.
        """
        self._restarted_at = self._time

    def end_replay(self) -> None:
        """Expect events as they arrive."""
        if self._old_last < 0:
            self._restarted_at = -1

    def reach(self, head: Head) -> None:
        """Note the exchange's last id: events up to it that have not come are a hole.

        A stream that is not known yet continues after the head.
        """
        if self.is_outdated(head):
            return
        if self.expected is None:
            self.resume(head.last_id, time_of(head))
        self._head = head

    def is_outdated(self, head: Head) -> bool:
        """Return whether a head is from before the last restart of the ids."""
        if self._old_last < 0:
            return False
        is_old_id = head.last_id >= self._old_last >= (self.expected or 0)
        return is_old_id or time_of(head) < self._restarted_at

    def interrupt(self, cause: str) -> None:
        """Do nothing: the ids of the next event show what is missing."""

    def follows(self, first: int, time: int, received: int) -> bool:
        if first == self._next:
            self._next = self.expected = first + 1
            self._third_time = self._second_time
            self._second_time = self._time
            self._time = time
            self.last_received = received
            return True
        return False

    def accept(self, event: Event) -> Sequence[Event]:
        identity = self.first_of(event)
        if identity == self._next:
            return self._pass(event)
        return self._accept_unusual(event, identity)

    def fill(self, missing: Iterable[Event]) -> list[Event]:
        """Take fetched events with rising ids; return the events that may now pass, in order.

        Events of the holes after the first one are taken too.
        """
        hole = self.hole
        if hole is None:
            return []
        missing = list(missing)
        if self._cause:  # the ids have restarted: events from before may have the same ids
            restarted_after = super()._published_until()
            missing = [event for event in missing if time_of(event) > restarted_after]
        if missing and not self.has_begun:
            # The exchange has nothing before this event.
            self.expected = min(self.first_of(missing[0]), hole[1] + 1)
            hole = self.expected, hole[1]
        last = self._last_held if self._held else hole[1]
        for event in missing:
            if hole[0] <= self.first_of(event) <= last:
                self._hold(event, self.first_of(event))
        return self._release()

    def give_up(self, cause: str) -> list[Event]:
        """Announce the hole; return its gap events and the events up to the next hole."""
        hole = self.hole
        if hole is None:
            return []
        behind = self._held.get(self._first_held, self._head)
        assert behind is not None  # noqa: S101 - there is a hole
        gap = self.gap(hole, behind, cause, "open")
        if not self.has_begun and hole[1] >= MAX_GAP_IDS:
            # So many ids say only that the first id of this exchange is not 0.
            gap = replace(gap, first_id=None, last_id=None, state="lost")
        passed: list[Event] = []
        if isinstance(behind, Head):
            self._reported_from = hole[0]
        else:
            passed += self._restart_before(behind)
        passed += [gap] if gap.state == "lost" else self.announce(gap)
        self.expected = hole[1] + 1
        return [*passed, *self._release()]

    def announce(self, gap: Gap, max_ids: int = MAX_GAP_IDS) -> list[Event]:
        """Open a gap in pieces of at most `max_ids`; return the gap events.

        Only the last MAX_OPEN_GAPS pieces are open. One gap event says that all before them is
        lost, whatever its size. Older gaps are closed, and their gap events returned too.
        """
        begin, end = gap.first_id or 0, gap.last_id or 0
        kept_from = max(begin, end + 1 - MAX_OPEN_GAPS * max_ids)
        gaps = [replace(gap, last_id=kept_from - 1, state="lost")] if begin < kept_from else []
        ids = _pieces(kept_from, end, max_ids)
        pieces = [replace(gap, first_id=first, last_id=last) for first, last in ids]
        self._open += pieces
        gaps += pieces
        forgotten: list[Event] = []
        while len(self._open) > MAX_OPEN_GAPS:
            forgotten += self.close_gap(self._open[0])
        return [*gaps, *forgotten]

    def close_gap(self, gap: Gap, brought: Iterable[int] = ()) -> list[Gap]:
        """Close an open gap; return a gap event for each filled or lost part of it.

        `brought` are the ids that are no longer missing, rising.
        """
        self._open.remove(gap)
        self.take_late(gap)
        return [*closings(gap, brought)]

    def take_late(self, gap: Gap) -> dict[int, Event]:
        """Return the events of a gap that have come by themselves, by id, and forget them."""
        return {i: self._late.pop(i) for i in sorted(self._late) if _has(gap, i)}

    def _accept_unusual(self, event: Event, identity: int) -> Sequence[Event]:
        if self.expected is None:
            return self._pass(event)
        if identity < self.expected:
            return self._accept_low(event, identity)
        if identity in self._held or time_of(event) < self._restarted_at:
            return self.drop_duplicate()  # the second: it is from before the restart of the ids
        self._hold(event, identity)
        released = self._release()
        return self.give_up("hold_limit") if len(self._held) > MAX_HELD_EVENTS else released

    def _accept_low(self, event: Event, identity: int) -> Sequence[Event]:
        """Take an event below the expected id: late, a duplicate, or the ids have restarted."""
        last = (self.expected or 0) - 1
        if any(_has(gap, identity) for gap in self._open):
            if len(self._late) < MAX_HELD_EVENTS:
                self._late.setdefault(identity, event)
        elif identity == last:
            return self.drop_duplicate()
        else:
            self.duplicates += 1
        since = self.after_restart(event, self._last_held if self._held else last)
        return self._restart([low for _, low in since]) if since else NOTHING

    def _published_until(self) -> int:
        """Return the time up to which all events were passed on: the middle one of three times. If
        one of them is wrong, it is another one. Or the time at which the exchange has reported such
        high ids.
        """
        published_until = sorted((self._time, self._second_time, self._third_time))[1]
        if self._head is None or self._head.last_id + 1 < (self.expected or 0):
            return published_until
        return max(published_until, time_of(self._head))

    def _pass(self, event: Event) -> Sequence[Event]:
        self._next = self.expected = self.last_of(event) + 1
        self.note(event)
        return (event,)

    def _hold(self, event: Event, identity: int) -> None:
        if self._held:
            self._first_held = min(self._first_held, identity)
            self._last_held = max(self._last_held, identity)
        else:
            self._first_held = self._last_held = identity
        self._held.setdefault(identity, event)
        self._next = _HOLDING

    def _release(self) -> list[Event]:
        """Return the held events that now follow without a hole."""
        passed: list[Event] = []
        while self.expected is not None and (event := self._held.pop(self.expected, None)):
            passed += self._restart_before(event)
            passed.append(event)
            self.note(event)
            self.expected += 1
        if passed:
            self._first_held = min(self._held, default=0)
        if not self._held and self.expected is not None:
            self._next = self.expected
        return passed

    def _restart(self, since: Sequence[Event]) -> list[Event]:
        """Start again with these events: ids have restarted. Missing ids from before cannot be
        fetched any more. Those since can be, so the stream waits for them.
        """
        passed: list[Event] = []
        while self.hole:
            passed += self.give_up(RESTARTED)
        self._head = None
        self._restarted_at, self._old_last = time_of(since[0]), (self.expected or 0) - 1
        for gap in self.open_gaps:
            passed += self.close_gap(gap)
        self._cause = RESTARTED
        self.expected = self._first_since(self.first_of(since[0]))
        for event in since:
            self._hold(event, self.first_of(event))
        return [*passed, *self._release()]

    def _first_since(self, first_id: int) -> int:
        """Return the first id since a restart of the ids, from that of the first event since."""
        if 0 <= self._reported_from <= first_id:
            return self._reported_from  # the ids go on: a report was wrong, and these disprove it
        # Beyond so many ids, nobody knows where they have started.
        return 0 if first_id <= MAX_GAP_IDS else first_id

    def _restart_before(self, event: Event) -> Sequence[Event]:
        """Return the gap event that announces a restart of the ids if this event is the first."""
        if not self._cause:
            return NOTHING
        announced = self.gap_before(event)
        self._cause = ""
        return announced


def _has(gap: Gap, identity: int) -> bool:
    return (gap.first_id or 0) <= identity <= (gap.last_id or 0)


def _pieces(first: int, last: int, max_ids: int) -> Iterator[Ids]:
    for begin in range(first, last + 1, max_ids):
        yield begin, min(begin + max_ids - 1, last)


def closings(gap: Gap, brought: Iterable[int]) -> Iterator[Gap]:
    """Yield a `filled` or `lost` gap event for each part of a gap.

    `brought` are the ids that are no longer missing, rising.
    """
    expected, last = gap.first_id or 0, gap.last_id or 0
    for begin, end in (*_runs(brought), (last + 1, last + 1)):
        if expected < begin:
            yield replace(gap, first_id=expected, last_id=begin - 1, state="lost")
        if begin <= last:
            yield replace(gap, first_id=begin, last_id=end, state="filled")
        expected = end + 1


def _runs(ids: Iterable[int]) -> Iterator[Ids]:
    """Yield the first and last id of each run of ids without a hole."""
    for _, run in groupby(enumerate(ids), key=lambda place: place[1] - place[0]):
        members = [identity for _, identity in run]
        yield members[0], members[-1]
