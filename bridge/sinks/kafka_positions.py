"""Positions on their way to their compacted topic: for each stream where its last record lies."""

from collections.abc import Iterable, Sequence

import msgspec

from bridge.core.position import MESSAGE_TYPE, Name, Position, is_further
from bridge.core.record import NO_IDENTITY, Record, Route
from bridge.outbox import Lane, Outbox
from bridge.telemetry import SinkCounts

# How often changed positions are written: what a restart has to read is what came since.
INTERVAL_S = 5.0
# Never reached: positions are put in only when those before them are out, one for each stream.
MAX_BYTES = 256 * 2**20
# What is no stream's: nothing begins from there.
NO_STREAMS = frozenset({"gap", "invalid"})


class Positions:
    """The positions, and an outbox for those that have changed."""

    def __init__(self, topic: str) -> None:
        self.outbox = Outbox(MAX_BYTES, SinkCounts())
        self._topic = topic
        self._of: dict[Name, Position] = {}
        self._routes: dict[Name, Route] = {}
        self._changed: set[Name] = set()

    @property
    def are_behind(self) -> bool:
        """Whether something has changed that is not written."""
        return bool(self._changed) or len(self.outbox) > 0

    def resume(self, found: Iterable[Position]) -> None:
        """Write what a start has found before anything else: a record that was known by the tail
        alone would lie before the positions of others, where nobody looks.
        """
        for position in sorted(found, key=lambda position: position.offset):
            self.outbox.push(self._record(position))

    def published(self, lane: Lane, records: Sequence[Record], offsets: Sequence[int]) -> None:
        """Note records that have been published, and where they lie."""
        if lane.message_type in NO_STREAMS:
            return
        placed: Iterable[tuple[Record, int]] = zip(records, offsets, strict=True)
        if records[0].identity == NO_IDENTITY:
            # Nothing comes late: the last one of each route is enough.
            placed = {record.route: (record, offset) for record, offset in placed}.values()
        for record, offset in placed:
            self._note(lane, record, offset)

    def _note(self, lane: Lane, record: Record, offset: int) -> None:
        # By name: what comes back from disk has a route of its own.
        name = (lane.message_type, record.route.symbol)
        position = self._of.get(name)
        if position is None:
            position = self._of[name] = _position(record, lane.partition)
        elif record.identity < position.last_id and not is_further(
            record.identity, record.timestamp_ms * 1000, position
        ):
            return  # brought late, into a gap
        position.last_id = record.identity
        position.time = record.timestamp_ms * 1000
        position.partition = lane.partition
        position.offset = offset
        self._changed.add(name)

    def flush(self) -> None:
        """Put what has changed into the outbox, by offset: where a position was written, those
        before it were.
        """
        if len(self.outbox):
            return
        changed, self._changed = self._changed, set()
        for name in sorted(changed, key=lambda name: self._of[name].offset):
            self.outbox.push(self._record(self._of[name]))

    def _record(self, position: Position) -> Record:
        own = self._routes.get(position.name)
        if own is None:
            own = Route(MESSAGE_TYPE, position.symbol, self._topic, position.key, "", ())
            self._routes[position.name] = own
        return Record(own, position.time // 1000, position.time, msgspec.json.encode(position))


def _position(record: Record, partition: int) -> Position:
    route = record.route
    return Position(route.message_type, route.symbol, record.identity, 0, partition, 0)
