"""The position of each stream's last published record, from which a new process continues.

Positions are stored in Kafka: they are written to a compacted topic every few seconds, in the order
of their offsets. So if a position is in the topic, all positions with lower offsets are there too.
All records after the greatest position of a partition are found by reading on from it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from bridge.core.sequencing.contiguous import MAX_GAP_IDS, MAX_OPEN_GAPS
from bridge.core.sequencing.rules import RESTART_EVENTS, RESTART_US, Marks

MESSAGE_TYPE = "position"
# No event is fetched that has an id further below the last one.
MAX_LATE_IDS = MAX_OPEN_GAPS * MAX_GAP_IDS


class StreamKey(NamedTuple):
    """The stream of an event: all events of one message type and symbol, and of one interval if
    they are candles. Only positions tell intervals apart.
    """

    message_type: str
    symbol: str
    interval: str = ""

    def of_all_intervals(self) -> "StreamKey":
        return StreamKey(self.message_type, self.symbol)


class Position(msgspec.Struct, gc=False, omit_defaults=True):
    """The last record of one stream.

    `last_id` is -1 if it is not known what the record completes: then `time` is the time of the
    record, otherwise the newest of the last three, because a single time may be wrong. It is in
    microseconds. For candles `last_id` is the time up to which they are complete (`Candles`).
    Before the first record of a stream, `last_id` is the exchange's last id when the stream was
    first checked, or -1 if there was none. Then `partition` and `offset` are -1. For a record on
    disk they are -1 and 0.

    `mark`, `mark_count` and `ahead` are those of `Marks`.
    """

    message_type: str
    symbol: str
    last_id: int
    time: int
    partition: int
    offset: int
    interval: str = ""
    mark: int = -1
    mark_count: int = 1
    ahead: int = -1

    @property
    def marks(self) -> Marks:
        """Return what was published, if the ids of the stream are not contiguous."""
        return Marks(self.mark, self.mark_count, self.ahead)

    @property
    def stream_key(self) -> StreamKey:
        return StreamKey(self.message_type, self.symbol, self.interval)

    @property
    def key(self) -> bytes:
        """Return the key in the compacted topic, which keeps the newest record of each key."""
        return ":".join(part for part in self.stream_key if part).encode()


def unpublished(key: StreamKey, last_id: int, time: int) -> Position:
    """Return the position of a stream that has no record yet."""
    return Position(key.message_type, key.symbol, last_id, time, partition=-1, offset=-1)


class RestartCheck:
    """Recognises a restart of the ids in one stream's records, in the order of their partition.

    A record below the last id was usually fetched late, to fill a gap. One of these may have a
    wrong time, so a restart takes several, unless the id is below all gaps that may be filled.
    """

    __slots__ = ("_after", "_count", "_last")

    def __init__(self) -> None:
        self._after = self._last = self._count = 0

    def is_certain(self, identity: int, time: int, last_id: int, last_time: int) -> bool:
        """Take a record below the last id; return whether it comes after a restart."""
        if identity < last_id - MAX_LATE_IDS and time > last_time:
            return True
        if time <= last_time + RESTART_US:
            self._count = 0
            return False
        goes_on = self._after == last_id and self._last < identity
        self._count = self._count + 1 if goes_on else 1
        self._after, self._last = last_id, identity
        return self._count >= RESTART_EVENTS


def furthest(positions: Iterable[Position]) -> dict[StreamKey, Position]:
    """Return the furthest position of each stream; the positions may come in any order.

    After a change of the number of partitions, a symbol has records in two of them.
    """
    found: dict[StreamKey, Position] = {}
    for position in positions:
        known = found.get(position.stream_key)
        if known is None or _is_further(position, known):
            found[position.stream_key] = position
    return found


def where_to_continue(
    in_topics: Iterable[Position], on_disk: Iterable[Position]
) -> dict[StreamKey, Position]:
    """Return the position of each stream from those in the topics and those of records on disk.

    Records on disk show what they complete only if ids are contiguous. Where they do not, nothing
    can be fetched after them.
    """
    on_disk = list(on_disk)
    found = furthest((*in_topics, *on_disk))
    unclear = {position.stream_key for position in on_disk if position.last_id < 0}
    return {
        key: msgspec.structs.replace(position, last_id=-1)
        if key.of_all_intervals() in unclear
        else position
        for key, position in found.items()
    }


class Tails:
    """Continues positions with the records after them, in the order of each partition."""

    def __init__(self, positions: Mapping[StreamKey, Position]) -> None:
        self.positions = dict(positions)
        self._restarts: defaultdict[StreamKey, RestartCheck] = defaultdict(RestartCheck)
        self._times: dict[StreamKey, tuple[int, int, int]] = {}

    def see(self, record: Position) -> None:
        """Take the position of the next record."""
        key = record.stream_key
        known = self.positions.get(key)
        if known is None or known.partition != record.partition:
            if known is None or _is_further(record, known):
                self._times[key] = (record.time,) * 3
                self.positions[key] = record
        elif record.last_id >= known.last_id or self._restarts[key].is_certain(
            record.last_id, record.time, known.last_id, known.time
        ):
            _continue_marks(record, known)
            _, second, third = self._times.get(key, (known.time,) * 3)
            self._times[key] = times = (second, third, record.time)
            if record.last_id >= 0:
                record.time = max(times)
            self.positions[key] = record


def _continue_marks(record: Position, known: Position) -> None:
    """Let the marks of a stream's next record include those before it."""
    if record.ahead >= 0:
        record.mark, record.mark_count = known.mark, known.mark_count
    else:
        record.ahead = known.ahead
        if record.mark == known.mark >= 0:
            record.mark_count += known.mark_count


def _is_further(position: Position, known: Position) -> bool:
    """Return whether a position comes after another one. A stream without a record was at its
    position before any event. Otherwise the offset decides, and between partitions the id, unless
    the ids have restarted in between.
    """
    is_comparable = position.partition == known.partition >= 0
    if is_comparable or known.offset < 0 or position.offset < 0:
        return position.offset >= known.offset
    if position.last_id >= known.last_id:
        return known.time <= position.time + RESTART_US
    return position.time > known.time + RESTART_US


def committed(waiting: Sequence[bytes], tail: Sequence[bytes]) -> list[int]:
    """Return the indexes at which the tail of a partition holds the waiting records, in order.

    The number of indexes is the number of waiting records that were written, counted from the
    first. Records of other producers may lie in between.
    """
    places: list[int] = []
    for place, value in enumerate(tail):
        if len(places) < len(waiting) and value == waiting[len(places)]:
            places.append(place)
    return places
