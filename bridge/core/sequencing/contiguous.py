"""Streams whose every id must come: trades and aggregate trades.

A hole holds its stream alone: what comes behind it waits until the missing events are brought
(`fill`) or given up (`give_up`), and then goes on in order. What is given up is announced by a gap
event before the next event, and can still be brought later (`close_gap`).
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from msgspec.structs import replace

from bridge.core.model.events import Event, Gap
from bridge.core.sequencing.rules import Ids, Sequencer, is_restart, time_of

MAX_HELD_EVENTS = 20_000
MAX_OPEN_GAPS = 100
# A larger hole is announced, and fetched afterwards, in pieces of this size.
MAX_GAP_IDS = 10_000
# What `_next` is while a hole holds the stream: no id is this one.
_HOLDING = -1


class Contiguous(Sequencer):
    """Every id exactly once."""

    __slots__ = ("_first_held", "_held", "_next", "_open", "expected")

    def __init__(self, message_type: str, first: str, last: str) -> None:
        super().__init__(message_type, first, last)
        self.expected: int | None = None
        self._next = _HOLDING
        self._held: dict[int, Event] = {}
        self._first_held = 0
        self._open: list[Gap] = []

    @property
    def hole(self) -> Ids | None:
        """The ids that hold the stream, first and last; None while it flows."""
        if not self._held or self.expected is None:
            return None
        return self.expected, self._first_held - 1

    @property
    def last_mark(self) -> int | None:
        """The id of the last event passed on, by this process or the one before."""
        return None if self.expected is None else self.expected - 1

    @property
    def held(self) -> int:
        """Events that wait behind the hole."""
        return len(self._held)

    @property
    def open_gaps(self) -> Sequence[Gap]:
        """What has been announced as missing and may yet be brought, oldest first."""
        return tuple(self._open)

    def resume(self, last_id: int, time: int) -> None:
        """Go on behind an event that was published before this process began."""
        self._timestamp = time
        self._next = self.expected = last_id + 1

    def interrupt(self, cause: str) -> None:
        """Nothing to note: what is missing shows by its ids."""

    def follows(self, first: int, timestamp: int | None, received: int) -> bool:
        if first == self._next:
            self._next = self.expected = first + 1
            self._timestamp = timestamp
            self.last_received = received
            return True
        return False

    def accept(self, event: Event) -> Sequence[Event]:
        identity = self.first_of(event)
        if identity == self._next:
            return self._pass(event)
        return self._accept_unusual(event, identity)

    def fill(self, missing: Iterable[Event]) -> list[Event]:
        """Take events that were fetched, rising; returns what may be passed on now, in order."""
        hole = self.hole
        if hole is None:
            return []
        for event in missing:
            if hole[0] <= self.first_of(event) <= hole[1]:
                self._hold(event, self.first_of(event))
        return self._release()

    def give_up(self, cause: str) -> list[Event]:
        """Announce the hole, and pass on what waits behind it as far as the next one."""
        hole = self.hole
        if hole is None:
            return []
        behind = self._held[self._first_held]
        announced = self.announce(self.gap(hole, behind, cause, "open"))
        self.expected = self._first_held
        return [*announced, *self._release()]

    def announce(self, gap: Gap, max_ids: int = MAX_GAP_IDS) -> list[Event]:
        """Keep a gap open, in pieces; returns these, and the end of gaps forgotten for them."""
        ids = _pieces(gap.first_id or 0, gap.last_id or 0, max_ids)
        gaps = [replace(gap, first_id=first, last_id=last) for first, last in ids]
        self._open += gaps
        forgotten: list[Event] = []
        while len(self._open) > MAX_OPEN_GAPS:
            forgotten += self.close_gap(self._open[0])
        return [*gaps, *forgotten]

    def close_gap(self, gap: Gap, brought: Iterable[int] = ()) -> list[Gap]:
        """Close an open gap of which these ids have been brought, rising; returns what became of
        each part.
        """
        self._open.remove(gap)
        return [*closings(gap, brought)]

    def _accept_unusual(self, event: Event, identity: int) -> Sequence[Event]:
        if self.expected is None or (before := self.last_time) is None:
            return self._pass(event)
        if identity < self.expected:
            if is_restart(time_of(event), before):
                return self._restart(event)
            return self.drop_duplicate()
        if identity in self._held:
            return self.drop_duplicate()
        self._hold(event, identity)
        released = self._release()
        return self.give_up("hold_limit") if len(self._held) > MAX_HELD_EVENTS else released

    def _pass(self, event: Event) -> Sequence[Event]:
        self._next = self.expected = self.last_of(event) + 1
        self.note(event)
        return (event,)

    def _hold(self, event: Event, identity: int) -> None:
        self._first_held = min(self._first_held, identity) if self._held else identity
        self._held.setdefault(identity, event)
        self._next = _HOLDING

    def _release(self) -> list[Event]:
        """What now follows without a hole."""
        passed: list[Event] = []
        while self.expected is not None and (event := self._held.pop(self.expected, None)):
            passed.append(event)
            self.expected += 1
        if passed:
            self.note(passed[-1])
            self._first_held = min(self._held, default=0)
        if not self._held and self.expected is not None:
            self._next = self.expected
        return passed

    def _restart(self, event: Event) -> list[Event]:
        """The ids count from the start again: nothing that is missing can be asked for any more."""
        passed: list[Event] = []
        while self.hole:
            passed += self.give_up("ids_restarted")
        for gap in self.open_gaps:
            passed += self.close_gap(gap)
        return [*passed, self.gap(None, event, "ids_restarted", "lost"), *self._pass(event)]


def _pieces(first: int, last: int, max_ids: int) -> Iterator[Ids]:
    for begin in range(first, last + 1, max_ids):
        yield begin, min(begin + max_ids - 1, last)


def closings(gap: Gap, brought: Iterable[int]) -> Iterator[Gap]:
    """Gap events that tell of each part of a gap whether it was filled or is lost, by the ids that
    have been brought, rising.
    """
    expected, last = gap.first_id or 0, gap.last_id or 0
    for begin, end in (*_runs(brought), (last + 1, last + 1)):
        if expected < begin:
            yield replace(gap, first_id=expected, last_id=begin - 1, state="lost")
        if begin <= last:
            yield replace(gap, first_id=begin, last_id=end, state="filled")
        expected = end + 1


def _runs(ids: Iterable[int]) -> Iterator[Ids]:
    """First and last of each run of ids without a hole."""
    for _, run in groupby(enumerate(ids), key=lambda place: place[1] - place[0]):
        members = [identity for _, identity in run]
        yield members[0], members[-1]
