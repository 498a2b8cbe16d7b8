"""A simple audit with sets of ids, slow and easy to read, as a reference for the real one."""

from collections.abc import Iterable
from dataclasses import dataclass, field

Ids = tuple[int, int]


@dataclass
class NaiveAudit:
    """The audit of one stream. `said` is the latest announced state of each id."""

    said: dict[int, str]
    seen: set[int] = field(default_factory=set)
    first: int | None = None
    last: int = -1
    late: int = 0
    repeated: list[int] = field(default_factory=list)
    out_of_order: list[int] = field(default_factory=list)

    def observe(self, first: int, last: int) -> None:
        ids = set(range(first, last + 1))
        if self.first is None:
            if ids <= self.said.keys():
                self.late += 1
                return
            self.first = first
        known = {i for i in ids if self.first <= i <= self.last}
        if known & self.seen:
            self.repeated.append(first)
        elif first < self.last:
            self._straggler(ids)
        self.seen |= ids
        self.last = max(self.last, last)

    def missing(self, *states: str | None) -> set[int]:
        if self.first is None:
            return set()
        unseen = set(range(self.first, self.last + 1)) - self.seen
        return {i for i in unseen if self.said.get(i) in states}

    def _straggler(self, ids: set[int]) -> None:
        if ids <= self.said.keys():
            self.late += 1
        else:
            self.out_of_order.append(min(ids))


def states(gaps: Iterable[tuple[int, int, str]]) -> dict[int, str]:
    """Return the latest state of each id."""
    return {i: state for first, last, state in gaps for i in range(first, last + 1)}
