"""The position of each stream's last published record, from which a new process continues.

Positions are stored in Kafka: they are written to a compacted topic every few seconds, in the order
of their offsets. So if a position is in the topic, all positions with lower offsets are there too.
All records after the greatest position of a partition are found by reading on from it.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from bridge.core.sequencing.rules import RESTART_US

MESSAGE_TYPE = "position"


class StreamKey(NamedTuple):
    """The stream of an event: all events of one message type and symbol."""

    message_type: str
    symbol: str


class Position(msgspec.Struct, gc=False):
    """The last record of one stream.

    `last_id` is -1 if ids are not contiguous. `time` is the time of the record in microseconds.
    Before the first record of a stream, `last_id` is the exchange's last id when the stream was
    first checked, or -1 if there was none. Then `partition` and `offset` are -1.
    """

    message_type: str
    symbol: str
    last_id: int
    time: int
    partition: int
    offset: int

    @property
    def stream_key(self) -> StreamKey:
        return StreamKey(self.message_type, self.symbol)

    @property
    def key(self) -> bytes:
        """Return the key in the compacted topic, which keeps the newest record of each key."""
        return f"{self.message_type}:{self.symbol}".encode()


def unpublished(key: StreamKey, last_id: int, time: int) -> Position:
    """Return the position of a stream that has no record yet."""
    return Position(*key, last_id, time, partition=-1, offset=-1)


def is_further(identity: int, time: int, position: Position) -> bool:
    """Return whether an event comes after the position in its stream.

    The id decides, unless the ids have restarted in between. A stream that had no record yet was
    at its position before any event.
    """
    if position.offset < 0:
        return True
    if identity >= position.last_id:
        return position.time <= time + RESTART_US
    return time > position.time + RESTART_US


def furthest(positions: Iterable[Position]) -> dict[StreamKey, Position]:
    """Return the furthest position of each stream, with the newest time of those before it.

    After a change of the number of partitions, a symbol has records in two of them.
    """
    found: dict[StreamKey, Position] = {}
    for position in positions:
        known = found.get(position.stream_key)
        if known is None or is_further(position.last_id, position.time, known):
            found[position.stream_key] = position
        elif _is_next(position, known):
            found[position.stream_key] = msgspec.structs.replace(position, time=known.time)
    return found


def _is_next(position: Position, known: Position) -> bool:
    """Return whether a position comes after another one although its time is much older."""
    return (
        position.partition == known.partition
        and position.offset > known.offset >= 0
        and position.last_id >= known.last_id
    )


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
