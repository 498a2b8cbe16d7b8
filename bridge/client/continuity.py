"""Checks that the events of a reader are complete and come once, by their ids and gap events.

This is plain data without an event loop. It shares no code with the part of the bridge that puts
events in order.
"""

from bisect import bisect_left
from collections.abc import Callable
from operator import attrgetter
from typing import Literal, NamedTuple

from bridge.client.events import EVENT_TYPES, AggTrade, AnyEvent, BookDelta, Event, Gap, Trade
from bridge.core.model.id_ranges import IdRanges, Ids

# Of each stream; the lowest ranges are forgotten first.
MAX_RANGES = 100_000
RESTARTED = "ids_restarted"

What = Literal["missing", "repeated"]

# The first and the last id of the events whose ids are contiguous.
_ids_of: dict[type[Event], Callable[[Event], Ids]] = {
    Trade: attrgetter("trade_id", "trade_id"),
    AggTrade: attrgetter("agg_trade_id", "agg_trade_id"),
    BookDelta: attrgetter("first_update_id", "last_update_id"),
}


CONTIGUOUS = tuple(str(of.__struct_config__.tag) for of in _ids_of)
"""The message types that are checked."""


class Finding(NamedTuple):
    """Ids of one message type and symbol that are missing without a gap event, or came twice."""

    what: What
    message_type: str
    symbol: str
    first_id: int
    last_id: int

    def __str__(self) -> str:
        ids = f"id {self.first_id}"
        if self.last_id > self.first_id:
            ids = f"ids {self.first_id} to {self.last_id}"
        what = "missing and not announced" if self.what == "missing" else "repeated"
        return f"{self.message_type} of {self.symbol}: {ids} {what}"


def ids_of(event: Event) -> Ids | None:
    """Return the first and the last id of an event; None if its ids are not contiguous."""
    found = _ids_of.get(type(event))
    return found(event) if found else None


class Continuity:
    """The streams of a reader. Only message types with contiguous ids are checked."""

    def __init__(self) -> None:
        self._streams: dict[tuple[type[Event], str], _Stream] = {}

    def announce(self, gap: Gap) -> None:
        """Note a gap event."""
        if (of := EVENT_TYPES.get(gap.kind)) in _ids_of:
            self._stream(of, gap.symbol).announce(gap)

    def follows(self, event: AnyEvent) -> bool:
        """Return whether an event follows the last one of its stream, or has no contiguous ids.

        If it does not, `findings` says what that means, and `accept` continues with it.
        """
        if (ids_of := _ids_of.get(type(event))) is None:
            return True
        stream = self._streams.get((type(event), event.symbol))
        first, last = ids_of(event)
        if stream is None or stream.next_id != first:
            return False
        stream.next_id = last + 1
        return True

    def findings(self, event: AnyEvent) -> list[Finding]:
        """Return what is wrong with the ids up to an event that does not follow the last one, by
        the gap events so far.
        """
        tag, ids = str(event.__struct_config__.tag), _ids_of[type(event)](event)
        found = self._stream(type(event), event.symbol).findings(ids, event.timestamp)
        return [Finding(what, tag, event.symbol, *each) for what, each in found]

    def accept(self, event: AnyEvent) -> None:
        """Note an event that does not follow the last one."""
        stream = self._stream(type(event), event.symbol)
        stream.accept(_ids_of[type(event)](event), event.timestamp)

    def _stream(self, of: type[Event], symbol: str) -> "_Stream":
        return self._streams.setdefault((of, symbol), _Stream())


class _Stream:
    """The ids of one message type and symbol: the next one, and those that may still come."""

    __slots__ = ("_announced", "_first_id", "_missing", "_restarts", "next_id")

    def __init__(self) -> None:
        self.next_id: int | None = None
        self._first_id = 0
        # Announced ranges that may reach beyond `next_id`, in ascending order.
        self._announced: list[Ids] = []
        # Ids that were jumped over. They may come later.
        self._missing = IdRanges()
        # The times of the first events after announced restarts of the ids.
        self._restarts: list[int | None] = []

    def announce(self, gap: Gap) -> None:
        if gap.first_id is None or gap.last_id is None:
            if gap.cause == RESTARTED:
                self._restarts.append(gap.to_time)
            return
        ids = (gap.first_id, gap.last_id)
        place = bisect_left(self._announced, ids)
        if self._announced[place : place + 1] != [ids]:
            self._announced.insert(place, ids)
            del self._announced[:-MAX_RANGES]

    def findings(self, ids: Ids, timestamp: int | None) -> list[tuple[What, Ids]]:
        first, last = ids
        if self.next_id is None or self._restart(first, timestamp) is not None:
            return []
        if first >= self.next_id:
            return [("missing", hole) for hole in self._unannounced(self.next_id, first - 1)]
        if first < self._first_id or self._missing.overlaps(first, last):
            return []
        return [("repeated", ids)]

    def accept(self, ids: Ids, timestamp: int | None) -> None:
        first, last = ids
        restart = self._restart(first, timestamp)
        if restart is not None:
            del self._restarts[restart]
        if self.next_id is None or restart is not None:
            self._first_id, self._missing = first, IdRanges()
            self._continue_after(last)
        elif first >= self.next_id:
            if first > self.next_id:
                self._missing.append(self.next_id, first - 1)
                self._missing.take(max(0, len(self._missing) - MAX_RANGES))
            self._continue_after(last)
        else:
            self._missing.remove(first, last)

    def _continue_after(self, last: int) -> None:
        self.next_id = last + 1
        passed = 0
        while passed < len(self._announced) and self._announced[passed][1] <= last:
            passed += 1
        del self._announced[:passed]

    def _unannounced(self, first: int, last: int) -> list[Ids]:
        """Return the ids that no gap event covers."""
        holes = []
        for begin, end in self._announced:
            if begin > last:
                break
            if first < begin:
                holes.append((first, begin - 1))
            first = max(first, end + 1)
        return [*holes, (first, last)] if first <= last else holes

    def _restart(self, first: int, timestamp: int | None) -> int | None:
        """Return the place of the restart that was announced for these ids; None if none was."""
        next_id = self.next_id or 0
        for place, time in enumerate(self._restarts):
            if first < next_id and (time == timestamp or (time is None and first <= next_id // 2)):
                return place
        return None
