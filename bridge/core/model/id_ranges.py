"""Missing ids, stored as ranges: a range takes 16 bytes, whatever its length."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

Ids = tuple[int, int]


class IdRanges:
    """Disjoint ranges of ids in ascending order, both ends included."""

    def __init__(self) -> None:
        self._firsts = array("q")
        self._lasts = array("q")

    def __len__(self) -> int:
        return len(self._firsts)

    def __iter__(self) -> Iterator[Ids]:
        return zip(self._firsts, self._lasts, strict=True)

    def append(self, first: int, last: int) -> None:
        """Append a range above all others."""
        self._firsts.append(first)
        self._lasts.append(last)

    def overlaps(self, first: int, last: int) -> bool:
        """Return whether one of these ids is present."""
        return bisect_left(self._lasts, first) < bisect_right(self._firsts, last)

    def remove(self, first: int, last: int) -> int:
        """Remove ids, and return how many of them were present."""
        begin, end = bisect_left(self._lasts, first), bisect_right(self._firsts, last)
        if begin >= end:
            return 0
        before = self._count(begin, end)
        rest = ((self._firsts[begin], first - 1), (last + 1, self._lasts[end - 1]))
        kept = [ids for ids in rest if ids[0] <= ids[1]]
        self._firsts[begin:end] = array("q", [ids[0] for ids in kept])
        self._lasts[begin:end] = array("q", [ids[1] for ids in kept])
        return before - self._count(begin, begin + len(kept))

    def take(self, count: int) -> list[Ids]:
        """Remove and return the `count` lowest ranges."""
        taken = list(zip(self._firsts[:count], self._lasts[:count], strict=True))
        del self._firsts[:count], self._lasts[:count]
        return taken

    def _count(self, begin: int, end: int) -> int:
        return sum(self._lasts[begin:end]) - sum(self._firsts[begin:end]) + end - begin
