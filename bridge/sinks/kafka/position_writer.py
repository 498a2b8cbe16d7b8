"""PositionWriter on their way to their compacted topic: for each stream where its last record
lies.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from operator import attrgetter

import msgspec

from bridge.core.records.record import NO_IDENTITY, Record, Route
from bridge.core.sequencing.position import MESSAGE_TYPE, Name, Position, is_further
from bridge.sinks.outbox.outbox import Outbox, PartitionQueue
from bridge.telemetry import SinkCounts

# How often changed positions are written: what a restart has to read is what came since.
INTERVAL_S = 5.0
# Never reached: positions are put in only when those before them are out, one for each stream.
MAX_BYTES = 256 * 2**20
# Message types that belong to no stream, so no start needs their position.
NO_STREAMS = frozenset({"gap", "invalid"})


class _StreamEnd:
    """Where a stream's last record lies: a position that costs little to change."""

    __slots__ = ("last_id", "message_type", "offset", "partition", "symbol", "time_ms")

    def __init__(self, message_type: str, symbol: str) -> None:
        self.message_type = message_type
        self.symbol = symbol
        self.last_id = NO_IDENTITY
        self.time_ms = self.partition = self.offset = 0

    def position(self) -> Position:
        end = (self.time_ms * 1000, self.partition, self.offset)
        return Position(self.message_type, self.symbol, self.last_id, *end)


class PositionWriter:
    """The positions, and an outbox for those that have changed."""

    def __init__(self, topic: str) -> None:
        self.outbox = Outbox(MAX_BYTES, SinkCounts())
        self.topic = topic
        # By message type and symbol, not by route: what comes back from disk has its own.
        self._ends: defaultdict[str, dict[str, _StreamEnd]] = defaultdict(dict)
        # Each once, in their order: a schedule of the simulation is to be the same each time.
        self._changed: dict[_StreamEnd, None] = {}
        self._routes: dict[Name, Route] = {}

    @property
    def has_unwritten(self) -> bool:
        """Whether something has changed that is not written."""
        return bool(self._changed) or len(self.outbox) > 0

    def resume(self, found: Iterable[Position]) -> None:
        """Write what a start has found before anything else: a record that was known by the tail
        alone would lie before the positions of others, where nobody looks.
        """
        self._push(found)

    def published(
        self, queue: PartitionQueue, records: Sequence[Record], offsets: Sequence[int]
    ) -> None:
        """Note records that have been published, and where they lie."""
        if queue.message_type in NO_STREAMS:
            return
        ends, changed, partition = (
            self._ends[queue.message_type],
            self._changed,
            queue.partition,
        )
        for record, offset in zip(records, offsets, strict=True):
            symbol, identity = record.route.symbol, record.identity
            end = ends.get(symbol)
            if end is None:
                end = ends[symbol] = _StreamEnd(queue.message_type, symbol)
            elif identity < end.last_id and not _is_further(record, end):
                continue  # brought late, into a gap
            end.last_id = identity
            end.time_ms = record.timestamp_ms
            end.partition = partition
            end.offset = offset
            changed[end] = None

    def flush(self) -> None:
        """Put what has changed into the outbox, by offset: where a position was written, those
        before it were.
        """
        if len(self.outbox):
            return
        changed, self._changed = self._changed, {}
        self._push(end.position() for end in changed)

    def _push(self, positions: Iterable[Position]) -> None:
        for position in sorted(positions, key=attrgetter("offset")):
            self.outbox.push(self._record(position))

    def _record(self, position: Position) -> Record:
        own = self._routes.get(position.name)
        if own is None:
            own = Route(MESSAGE_TYPE, position.symbol, self.topic, position.key, "", ())
            self._routes[position.name] = own
        return Record(own, position.time // 1000, position.time, msgspec.json.encode(position))


def _is_further(record: Record, end: _StreamEnd) -> bool:
    return is_further(record.identity, record.timestamp_ms * 1000, end.position())
