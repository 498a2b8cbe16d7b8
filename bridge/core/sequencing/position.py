"""Where each stream's last published record lies: what a new process begins from.

Kafka is the memory: positions are written to a compacted topic every few seconds, in the order of
their offsets. So a position that is there says that those of lower offsets are, and everything
behind the greatest one of a partition is found by reading from it on.
"""

from collections.abc import Iterable, Sequence

import msgspec

from bridge.core.sequencing.rules import is_restart

MESSAGE_TYPE = "position"

# What a stream is called here: message type and symbol.
Name = tuple[str, str]


class Position(msgspec.Struct, gc=False):
    """One stream's last record: `last_id` is -1 where ids are not contiguous, `time` is the
    record's, in microseconds.
    """

    message_type: str
    symbol: str
    last_id: int
    time: int
    partition: int
    offset: int

    @property
    def name(self) -> Name:
        return self.message_type, self.symbol

    @property
    def key(self) -> bytes:
        """The key in the compacted topic, which keeps the newest of each."""
        return f"{self.message_type}:{self.symbol}".encode()


def is_further(identity: int, time: int, position: Position) -> bool:
    """Whether an event is further on in its stream than the position: by its id, unless the ids
    have started again in between.
    """
    if identity >= position.last_id:
        return not is_restart(position.time, time)
    return is_restart(time, position.time)


def furthest(positions: Iterable[Position]) -> dict[Name, Position]:
    """The furthest position of each stream: after a change of the number of partitions a symbol
    has records in two.
    """
    found: dict[Name, Position] = {}
    for position in positions:
        known = found.get(position.name)
        if known is None or is_further(position.last_id, position.time, known):
            found[position.name] = position
    return found


def committed(waiting: Sequence[bytes], tail: Sequence[bytes]) -> list[int]:
    """Which places of a partition's tail hold the first of the waiting records, in their order:
    so many have been written. Others may have written in between.
    """
    places: list[int] = []
    for place, value in enumerate(tail):
        if len(places) < len(waiting) and value == waiting[len(places)]:
            places.append(place)
    return places
