"""The gaps that were announced as open and have not been reported as filled or lost since.

A killed process leaves such gaps. The events that it fetched for them are in the topic, after the
gap. The other missing events can still be fetched.
"""

from collections.abc import Iterable, Iterator, Mapping

from msgspec.structs import replace

from bridge.core.model.events import Gap
from bridge.core.sequencing.contiguous import closings
from bridge.core.sequencing.position import Position, StreamKey
from bridge.core.sequencing.rules import RESTARTED, Ids


class OpenGaps:
    """Tracks the gap events of a topic in their order (`see`), then the ids published after them
    (`brought`).
    """

    def __init__(self) -> None:
        self._open: dict[StreamKey, list[Gap]] = {}
        # The parts of gaps beyond the positions: see `taken_back`.
        self._ahead: dict[StreamKey, list[Gap]] = {}
        # The time of the first event after the last restart of the ids.
        self._restarted_at: dict[StreamKey, int] = {}
        self._brought: dict[StreamKey, set[int]] = {}

    def __len__(self) -> int:
        return sum(map(len, (*self._ahead.values(), *self._open.values())))

    @property
    def message_types(self) -> set[str]:
        """Return the message types that have such gaps."""
        return {key.message_type for key in (*self._ahead, *self._open)}

    def see(self, gap: Gap) -> None:
        """Take the next gap event."""
        key = StreamKey(gap.kind, gap.symbol)
        if gap.first_id is None or gap.last_id is None:
            # The ids have restarted and now name other events: the old ids cannot be fetched.
            if gap.cause == RESTARTED:
                self._open.pop(key, None)
                self._restarted_at[key] = gap.to_time or 0
            return
        ids = (gap.first_id, gap.last_id)
        left = [part for old in self._open.get(key, ()) for part in _outside(old, ids)]
        self._open[key] = [*left, gap] if gap.state == "open" else left

    def go_back(self, positions: Mapping[StreamKey, Position]) -> None:
        """Split the gaps at the positions after which the streams continue.

        Ids beyond a position were never published. The gap event had overtaken the events that
        precede the gap, and those had not been written. The same holds for all ids if the ids have
        restarted beyond a position. So the stream itself brings these ids, or announces them again
        (`taken_back`). The gaps of a stream without a known position are not tracked any longer,
        and stay open in the topic.
        """
        known = {key: gaps for key, gaps in self._open.items() if key in positions}
        self._open = {}
        for key, gaps in known.items():
            position = positions[key]
            has_restarted = self._restarted_at.get(key, -1) > position.time
            last_id = -1 if has_restarted else position.last_id
            self._ahead[key] = [part for gap in gaps for part in _outside(gap, (0, last_id))]
            self._open[key] = [part for gap in gaps for part in _inside(gap, last_id)]

    def since(self, message_type: str) -> int | None:
        """Return the time of the earliest event that may have been brought for an open gap.

        The time is in microseconds since the epoch, by the records' times: the exchange's, or ours
        if the exchange's is far ahead. It is None if no gap is open, or if the time of any gap is
        unknown.
        """
        times = [
            gap.from_time and min(gap.from_time, gap.received)
            for key, gaps in self._open.items()
            if key.message_type == message_type
            for gap in gaps
        ]
        known = [time for time in times if time is not None]
        return min(known) if known and len(known) == len(times) else None

    def forget(self, message_type: str) -> None:
        """Stop tracking the gaps of a message type; they stay open in the topic."""
        for key in [key for key in self._open if key.message_type == message_type]:
            del self._open[key]

    def brought(self, key: StreamKey, identity: int) -> None:
        """Note that the event with this id is in its topic."""
        ranges = map(_ids, self._open.get(key, ()))
        if any(first <= identity <= last for first, last in ranges):
            self._brought.setdefault(key, set()).add(identity)

    def taken_back(self, streams: Iterable[StreamKey]) -> list[Gap]:
        """Return `filled` gap events for the ids that these streams, now subscribed to, bring. Each
        is returned once.
        """
        ahead = [gap for key in streams for gap in self._ahead.pop(key, ())]
        return [replace(gap, state="filled") for gap in ahead]

    def filled(self) -> list[Gap]:
        """Return `filled` gap events for ids that are in the topic."""
        return [gap for gap in self._closings() if gap.state == "filled"]

    def left(self) -> list[Gap]:
        """Return the ranges that are still missing, as open gaps."""
        return [replace(gap, state="open") for gap in self._closings() if gap.state == "lost"]

    def _closings(self) -> Iterator[Gap]:
        for key, gaps in self._open.items():
            brought = sorted(self._brought.get(key, ()))
            for gap in gaps:
                first, last = _ids(gap)
                yield from closings(gap, (i for i in brought if first <= i <= last))


def _ids(gap: Gap) -> Ids:
    assert gap.first_id is not None  # noqa: S101 - only gaps with ids are kept
    assert gap.last_id is not None  # noqa: S101 - the same
    return gap.first_id, gap.last_id


def _outside(gap: Gap, ids: Ids) -> Iterator[Gap]:
    """Return the parts of a gap before and after a range of ids."""
    first, last = _ids(gap)
    if first <= (end := min(last, ids[0] - 1)):
        yield replace(gap, last_id=end)
    if (begin := max(first, ids[1] + 1)) <= last:
        yield replace(gap, first_id=begin)


def _inside(gap: Gap, last_id: int) -> Iterator[Gap]:
    """Return the part of a gap up to and including an id."""
    first, last = _ids(gap)
    if first <= min(last, last_id):
        yield replace(gap, last_id=min(last, last_id))
