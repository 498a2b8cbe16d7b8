"""Gap events by symbol: which ids are missing and why, and at what times the ids restart."""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator
from operator import attrgetter
from typing import NamedTuple

import msgspec

from bridge.tools.audit.rules import NO_EVENT, Id

# Far more interruptions than a stream has. Beyond the limit the lowest ids are forgotten, and
# counted.
ANNOUNCED_MAX_RANGES = 100_000
RESTARTED = "ids_restarted"

_first = attrgetter("first_id")
_last = attrgetter("last_id")


class Announcement(NamedTuple):
    """The latest gap event about a range of ids, both ends included."""

    first_id: int
    last_id: int
    cause: str
    state: str


class GapRecord(msgspec.Struct, tag_field="message_type", tag="gap", gc=False):
    """The fields of a gap event that the audit needs."""

    symbol: str
    kind: str
    first_id: Id | None
    last_id: Id | None
    to_time: int | None
    cause: str
    state: str


class Announced:
    """All gaps that were announced for one symbol.

    `interruptions` counts the gap events without ids. `forgotten` counts the ranges over the limit.
    """

    def __init__(self) -> None:
        self.interruptions = 0
        self.forgotten = 0
        self._ranges: list[Announcement] = []
        self._restarts: Counter[int | None] = Counter()

    def add(self, gap: GapRecord) -> None:
        if gap.first_id is not None and gap.last_id is not None:
            if gap.first_id <= gap.last_id:
                self._put(Announcement(gap.first_id, gap.last_id, gap.cause, gap.state))
        elif gap.cause == RESTARTED:
            self._restarts[gap.to_time] += 1
        else:
            self.interruptions += 1

    def split(self, first: int, last: int) -> Iterator[tuple[int, int, Announcement | None]]:
        """Yield the ids in ascending ranges, each with its announcement, or with None."""
        begin, end = self._place(first, last)
        for said in self._ranges[begin:end]:
            if first < said.first_id:
                yield first, said.first_id - 1, None
            yield max(first, said.first_id), min(last, said.last_id), said
            first = said.last_id + 1
        if first <= last:
            yield first, last, None

    def covers(self, first: int, last: int) -> bool:
        """Return whether all of the ids were announced as missing."""
        return all(said is not None for _, _, said in self.split(first, last))

    def take_restart(self, time: int, *, is_far: bool) -> bool:
        """Return whether a restart of the ids was announced for this time, and use it up.

        An announcement without a time matches the first id that is far below the last one.
        """
        key = time if self._restarts[time] else None
        if not self._restarts[key] or (key is None and not is_far):
            return False
        self._restarts[key] -= 1
        return True

    def _put(self, new: Announcement) -> None:
        begin, end = self._place(new.first_id, new.last_id)
        old = self._ranges[begin:end]
        before = [s._replace(last_id=new.first_id - 1) for s in old[:1] if s[0] < new.first_id]
        after = [s._replace(first_id=new.last_id + 1) for s in old[-1:] if s[1] > new.last_id]
        self._ranges[begin:end] = [*before, new, *after]
        while len(self._ranges) > ANNOUNCED_MAX_RANGES:
            del self._ranges[0]
            self.forgotten += 1

    def _place(self, first: int, last: int) -> tuple[int, int]:
        """Return the slice of `_ranges` that overlaps these ids."""
        begin = bisect_left(self._ranges, first, key=_last)
        return begin, bisect_right(self._ranges, last, begin, key=_first)


class Announcements:
    """The gap events of one message type. `records` counts them."""

    def __init__(self, kind: str) -> None:
        self.records = 0
        self.unreadable = 0
        self._kind = kind
        self._symbols: defaultdict[str, Announced] = defaultdict(Announced)
        self._decode = msgspec.json.Decoder(GapRecord).decode

    def of(self, symbol: str) -> Announced:
        return self._symbols[symbol]

    def observe(self, value: bytes, *, is_settled: bool = True) -> None:
        """Read a record of the gap topic. Records must come in the order of the topic.

        Pass `is_settled=False` if the data that the record is about may lie after the end of the
        audit. `filled` then counts as `open`, because the audit may not read the filling records.
        """
        try:
            gap = self._decode(value)
        except NO_EVENT:
            self.unreadable += 1
            return
        if gap.kind != self._kind:
            return
        if gap.state == "filled" and not is_settled:
            gap.state = "open"
        self.records += 1
        self.of(gap.symbol).add(gap)
