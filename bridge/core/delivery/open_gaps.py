"""What gap events have announced as missing, and nothing has brought or given up since.

A process that was killed leaves such gaps behind: what it had brought of them is in the topic,
late, and the rest can still be asked for.
"""

from collections.abc import Collection, Iterator, Mapping

from msgspec.structs import replace

from bridge.core.model.events import Gap
from bridge.core.sequencing.contiguous import closings
from bridge.core.sequencing.position import Name, Position
from bridge.core.sequencing.rules import Ids


class OpenGaps:
    """Shown the gap events of a topic in their order (`see`), then the ids in the topics behind
    them (`brought`).
    """

    def __init__(self) -> None:
        self._open: dict[Name, list[Gap]] = {}
        self._ahead: list[Gap] = []
        self._brought: dict[Name, set[int]] = {}

    def __len__(self) -> int:
        return len(self._ahead) + sum(map(len, self._open.values()))

    def see(self, gap: Gap) -> None:
        """Take the next gap event."""
        name = (gap.kind, gap.symbol)
        if gap.first_id is None or gap.last_id is None:
            # Ids that have started again are others: nothing can be asked for by the old ones.
            if gap.cause == "ids_restarted":
                self._open.pop(name, None)
            return
        ids = (gap.first_id, gap.last_id)
        left = [part for old in self._open.get(name, ()) for part in _outside(old, ids)]
        self._open[name] = [*left, gap] if gap.state == "open" else left

    def go_back(self, positions: Mapping[Name, Position], streams: Collection[Name]) -> None:
        """These streams go on behind these positions. Where none is known, gaps are left open.

        Ids beyond them have never been passed: a gap event goes ahead of the events before it, and
        these had not been written. So the stream itself brings them now, or announces them again.
        """
        known = {name: gaps for name, gaps in self._open.items() if name in positions}
        self._open = {}
        for name, gaps in known.items():
            last_id = positions[name].last_id
            if name in streams:
                self._ahead += [part for gap in gaps for part in _outside(gap, (0, last_id))]
            self._open[name] = [part for gap in gaps for part in _inside(gap, last_id)]

    def since(self, message_type: str) -> int | None:
        """The time of the earliest event that may have been brought, in microseconds since the
        epoch; None where nothing is open, or nobody knows.
        """
        times = [
            gap.from_time
            for name, gaps in self._open.items()
            if name[0] == message_type
            for gap in gaps
        ]
        known = [time for time in times if time is not None]
        return min(known) if known and len(known) == len(times) else None

    def forget(self, message_type: str) -> None:
        """Leave the gaps of a message_type open."""
        for name in [name for name in self._open if name[0] == message_type]:
            del self._open[name]

    def brought(self, name: Name, identity: int) -> None:
        """An event is in its topic."""
        ranges = map(_ids, self._open.get(name, ()))
        if any(first <= identity <= last for first, last in ranges):
            self._brought.setdefault(name, set()).add(identity)

    def filled(self) -> list[Gap]:
        """Gap events for what has been brought, and for what its stream brings by itself."""
        taken_back = [replace(gap, state="filled") for gap in self._ahead]
        return [*taken_back, *(gap for gap in self._closings() if gap.state == "filled")]

    def left(self) -> list[Gap]:
        """What is still missing, as open gaps."""
        return [replace(gap, state="open") for gap in self._closings() if gap.state == "lost"]

    def _closings(self) -> Iterator[Gap]:
        for name, gaps in self._open.items():
            brought = sorted(self._brought.get(name, ()))
            for gap in gaps:
                first, last = _ids(gap)
                yield from closings(gap, (i for i in brought if first <= i <= last))


def _ids(gap: Gap) -> Ids:
    assert gap.first_id is not None  # noqa: S101 - no others are kept
    assert gap.last_id is not None  # noqa: S101 - the same
    return gap.first_id, gap.last_id


def _outside(gap: Gap, ids: Ids) -> Iterator[Gap]:
    """The parts of a gap before and behind a range of ids."""
    first, last = _ids(gap)
    if first <= (end := min(last, ids[0] - 1)):
        yield replace(gap, last_id=end)
    if (begin := max(first, ids[1] + 1)) <= last:
        yield replace(gap, first_id=begin)


def _inside(gap: Gap, last_id: int) -> Iterator[Gap]:
    """The part of a gap up to an id."""
    first, last = _ids(gap)
    if first <= min(last, last_id):
        yield replace(gap, last_id=min(last, last_id))
