"""The rules for candles and block trades: REST has what was missed, but no id shows it.

After an interruption the stream waits. Its next events are held until REST has brought what lies
between the last event and the first one after the interruption (`fill`), or until that is given up
(`give_up`). A gap event precedes them in both cases: `filled` or `lost`.

    events        missing after an interruption           complete up to
    candle        the candles that closed meanwhile       the end of the last closed candle
    block_trade   the ids in between, if there are any    the last id

The updates of a candle before it closes are not brought back: the next one replaces them.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from bridge.core.model.events import BlockTrade, Candle, Event, Gap
from bridge.core.sequencing.rules import (
    NO_MARKS,
    NOTHING,
    GapState,
    Ids,
    Marks,
    Monotonic,
    Sequencer,
    TimeOrdered,
)

MAX_HELD_EVENTS = 20_000
# The last closed candles that are remembered, to recognise their duplicates.
_MAX_CLOSED = 64


class Backfilled(Sequencer):
    """Holds the stream back after an interruption. Used together with the rule of its order."""

    def __init__(self, message_type: str, first: str, last: str) -> None:
        super().__init__(message_type, first, last)
        # The events that wait, each with the cause of an interruption just before it, or "".
        self._held: deque[tuple[str, Event]] = deque()
        # The cause of an interruption after the events that wait.
        self._next_cause = ""
        self._newest_hole = 0

    @property
    def complete_to(self) -> int | None:
        """Return up to where no event is missing, as `end_of` counts; None if it is not known."""
        raise NotImplementedError

    def begin_of(self, event: Any) -> int:
        """Return up to where events must come before this event."""
        raise NotImplementedError

    def end_of(self, event: Any) -> int:
        """Return up to where the stream is complete after this event, if it was before."""
        raise NotImplementedError

    def is_known(self, event: Event) -> bool:  # noqa: ARG002 - for candles
        """Return whether an event has been passed on or fetched before, by its place."""
        return False

    @property
    def held(self) -> int:
        """Return the number of events that wait."""
        return len(self._held)

    @property
    def is_interrupted(self) -> bool:
        return not self._held and super().is_interrupted

    @property
    def newest_mark(self) -> int | None:
        return self.first_of(self._held[-1][1]) if self._held else super().newest_mark

    @property
    def hole(self) -> Ids | None:
        """Return the first and last place at which an event may be missing; None if none may."""
        if not self._held or self.complete_to is None:
            return None
        return self.complete_to + 1, self.begin_of(self._held[0][1])

    @property
    def newest_id(self) -> int:
        """Return the end of the newest hole."""
        return self._newest_hole

    @property
    def until(self) -> Event:
        """Return the first event after the hole."""
        return self._held[0][1]

    def interrupt(self, cause: str) -> None:
        super().interrupt(cause)
        if self._held:
            self._next_cause = cause

    def accept(self, event: Event) -> Sequence[Event]:
        if self._held or (self._cause and self._has_hole_before(event)):
            return self._hold(event)
        return self._accept(event)

    def fill(self, missing: Iterable[Event]) -> list[Event]:
        """Take the fetched events of the hole, rising; return the events that may now pass."""
        hole = self.hole
        if hole is None:
            return []
        self._complete(hole[1])
        inside = [event for event in missing if hole[0] <= self.end_of(event) <= hole[1]]
        fetched = [event for event in inside if not self.is_known(event)]
        self.note_fetched(fetched)
        return self._release(fetched)

    def give_up(self, _cause: str) -> list[Event]:
        """Announce the hole as lost, with the cause of the interruption; return the events up to
        the next hole.
        """
        return self._release([]) if self._held else []

    def gap_state(self, until: Event) -> GapState:
        return "lost" if self.complete_to is None or self._has_hole_before(until) else "filled"

    def note_fetched(self, events: Iterable[Event]) -> None:
        """Note the events that are passed on because they were fetched."""

    def _complete(self, end: int) -> None:
        """Note that no event is missing up to this place."""
        raise NotImplementedError

    def _accept(self, event: Event) -> Sequence[Event]:
        """Pass an event as the rule of the stream's order does."""
        return self.drop_duplicate() if self.is_known(event) else super().accept(event)

    def _has_hole_before(self, event: Event) -> bool:
        """Return whether events may be missing before this one that can be fetched."""
        return self.complete_to is not None and self.begin_of(event) > self.complete_to

    def _hold(self, event: Event) -> Sequence[Event]:
        cause = self._next_cause if self._held else self._cause
        self._held.append((cause, event))
        self._next_cause = ""
        if cause:
            self._newest_hole = self.begin_of(event)
        return self.give_up("hold_limit") if len(self._held) > MAX_HELD_EVENTS else NOTHING

    def _release(self, fetched: Sequence[Event]) -> list[Event]:
        """Return the first waiting event with its gap event and the fetched ones before it, and
        the events after it up to the next hole.
        """
        passed = self._passed()
        announced = 1 if passed and isinstance(passed[0], Gap) else 0
        passed[announced:announced] = fetched
        while self._held and not (self._held[0][0] and self._has_hole_before(self._held[0][1])):
            passed += self._passed()
        if self._held:
            self._cause = self._held[0][0]
        else:
            self._cause = self._cause or self._next_cause
            self._low_cause, self._next_cause = self._next_cause, ""
        return passed

    def _passed(self) -> list[Event]:
        """Return the first waiting event, unless it is a duplicate."""
        cause, event = self._held.popleft()
        self._cause, self._low_cause = cause or self._cause, cause
        return [*self._accept(event)]


class Candles(Backfilled, TimeOrdered):
    """The candles of one interval. Places are times in microseconds. Each closes once, whatever the
    times of its events are.
    """

    def __init__(self, message_type: str, first: str, last: str) -> None:
        super().__init__(message_type, first, last)
        self._closed_to: int | None = None
        self._closed: deque[int] = deque(maxlen=_MAX_CLOSED)

    @property
    def complete_to(self) -> int | None:
        """Return the time up to which all closed candles were passed on."""
        return self._closed_to

    def begin_of(self, event: Candle) -> int:
        return event.open_time - 1

    def end_of(self, event: Candle) -> int:
        return closed_to(event.open_time, event.close_time, closed=event.closed)

    def resume(self, last_id: int, time: int, marks: Marks = NO_MARKS) -> None:
        """Continue after a record; `last_id` is the time up to which candles are complete."""
        super().resume(last_id, time, marks)
        self._closed_to = last_id if last_id >= 0 else None

    def note(self, event: Event) -> None:
        super().note(event)
        if isinstance(event, Candle):
            self._closed_to = self.end_of(event)
            if event.closed:
                self._closed.append(event.open_time)

    def is_known(self, event: Event) -> bool:
        return isinstance(event, Candle) and event.closed and event.open_time in self._closed

    def note_fetched(self, events: Iterable[Event]) -> None:
        self._closed.extend(event.open_time for event in events if isinstance(event, Candle))

    def _complete(self, end: int) -> None:
        self._closed_to = end


class BlockTrades(Backfilled, Monotonic):
    """Block trades. Whether their ids have holes is not documented. Places are ids."""

    @property
    def complete_to(self) -> int | None:
        """Return the last id."""
        return self.last_mark

    def begin_of(self, event: BlockTrade) -> int:
        return event.trade_id - 1

    def end_of(self, event: BlockTrade) -> int:
        return event.trade_id

    def resume(self, last_id: int, time: int, marks: Marks = NO_MARKS) -> None:
        super().resume(last_id, time, marks)
        self._highest = last_id

    def _complete(self, end: int) -> None:
        self._highest = end


def closed_to(open_time: int, close_time: int, *, closed: bool) -> int:
    """Return up to which microsecond candles are complete after one, if they were before it.

    The exchange's close time is the last millisecond, or the last microsecond.
    """
    return close_time // 1000 * 1000 + 999 if closed else open_time - 1
