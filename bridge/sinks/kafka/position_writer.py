"""Writes the position of each stream's last record, the status of each symbol, and heartbeats, to
compacted topics.

Only the newest record of a key counts there. So at most one of each waits, and none goes to disk.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from operator import attrgetter

import msgspec

from bridge.core.model.events import STATUS
from bridge.core.records.record import NO_IDENTITY, Record, Route
from bridge.core.records.recorded import READ_FROM_VALUE, position_of
from bridge.core.sequencing.completeness import Committed
from bridge.core.sequencing.position import MESSAGE_TYPE, Position, RestartCheck, StreamKey
from bridge.core.sequencing.rules import MAX_AHEAD_US, NO_MARKS
from bridge.core.sequencing.sequencers import CONTIGUOUS, TIMED
from bridge.sinks.kafka.owner import OWNER
from bridge.sinks.outbox.outbox import Outbox, PartitionQueue
from bridge.telemetry import SinkCounts, now_us

# Changed positions are written this often. A restart reads the records that came since.
INTERVAL_S = 5.0
# Never reached: the outbox holds at most one position per stream and one status per symbol.
MAX_BYTES = 256 * 2**20
# Message types that belong to no stream: a start does not need their positions.
NO_STREAMS = frozenset({"gap", "invalid"})


class _StreamEnd:
    """The position of a stream's last record, in a form that is cheap to change."""

    __slots__ = (
        *("ahead", "last_id", "mark", "mark_count", "offset", "partition", "restart"),
        *("second_ms", "stream_key", "third_ms", "time_ms"),
    )

    def __init__(self, stream_key: StreamKey, time_ms: int = -1) -> None:
        self.stream_key = stream_key
        self.last_id = NO_IDENTITY
        self.mark, self.mark_count, self.ahead = NO_MARKS
        # The times of the last three records, the last one first; -1 before there are so many.
        self.time_ms = time_ms
        self.second_ms = self.third_ms = -1
        self.partition = self.offset = 0
        self.restart = RestartCheck()

    def has_restarted(self, identity: int, time_ms: int) -> bool:
        """Return whether a record below the last id comes after a restart of the ids."""
        return self.restart.is_certain(identity, time_ms * 1000, self.last_id, self._time_us())

    def committed(self) -> Committed:
        """Return what the topic has of the stream. One wrong time of the last three does not
        count.
        """
        middle_ms = sorted((self.time_ms, self.second_ms, self.third_ms))[1]
        return Committed(self.last_id, middle_ms * 1000 - 1 if middle_ms >= 0 else None)

    def _time_us(self) -> int:
        if self.last_id == NO_IDENTITY:
            return self.time_ms * 1000
        return max(self.time_ms, self.second_ms, self.third_ms) * 1000

    def position(self) -> Position:
        message_type, symbol, interval = self.stream_key
        end = (self._time_us(), self.partition, self.offset)
        marks = (self.mark, self.mark_count, self.ahead)
        return Position(message_type, symbol, self.last_id, *end, interval, *marks)


class PositionWriter:
    """Tracks the position of each stream, with an outbox for changed positions and statuses."""

    def __init__(self, topic: str) -> None:
        self.outbox = Outbox(MAX_BYTES, SinkCounts())
        self.topic = topic
        # By message type and symbol, not by route: records read back from disk have other routes.
        # The name is the symbol, and for candles the interval after it.
        self._ends: defaultdict[str, dict[str, _StreamEnd]] = defaultdict(dict)
        # An ordered set: the simulation needs the same order in every run of a schedule.
        self._changed: dict[_StreamEnd, None] = {}
        self._routes: dict[StreamKey, Route] = {}
        # The last ids of streams without records, as of the start.
        self._last_ids: dict[StreamKey, int] = {}
        # The newest status of each symbol, until it goes to the outbox.
        self._statuses: dict[str, Record] = {}

    @property
    def has_unwritten(self) -> bool:
        """Return whether a changed position or a status has not been written yet."""
        return bool(self._changed or self._statuses) or len(self.outbox) > 0

    def committed(self, key: StreamKey) -> Committed | None:
        """Return what the topics have of a stream; None if nothing is known of it."""
        end = self._ends[key.message_type].get(key.symbol)
        if end is not None:
            return end.committed()
        last_id = self._last_ids.get(key)
        return None if last_id is None else Committed(last_id, None)

    def push_statuses(self, records: Iterable[Record]) -> None:
        """Take the statuses of symbols; each replaces one of the same symbol that still waits."""
        self._statuses |= {record.route.symbol: record for record in records}
        self._flush_statuses()

    def push_owner(self, record: Record) -> bool:
        """Take a heartbeat, unless the last one still waits. Return whether it was taken."""
        if self.outbox.pending()[OWNER]:
            return False
        self.outbox.push(record)
        return True

    def resume(self, found: Iterable[Position]) -> None:
        """Write the positions that a start has found, before any other.

        A record found only in a tail has no written position yet. Once other streams have written
        greater offsets, no start would read from an offset before that record.
        """
        found = list(found)
        for position in found:
            if position.offset >= 0:
                ends = self._ends[position.message_type]
                ends.setdefault(position.symbol + position.interval, _end_at(position))
            else:
                self._last_ids[position.stream_key] = position.last_id
        self._push(found)

    def published(
        self, queue: PartitionQueue, records: Sequence[Record], offsets: Sequence[int]
    ) -> None:
        """Note published records and their offsets."""
        if queue.message_type in NO_STREAMS:
            return
        ends, changed = self._ends[queue.message_type], self._changed
        partition = queue.partition
        has_ids = queue.message_type in CONTIGUOUS
        is_timed = queue.message_type in TIMED
        is_read = queue.message_type in READ_FROM_VALUE
        for record, offset in zip(records, offsets, strict=True):
            symbol, mark, interval = record.route.symbol, record.mark, ""
            identity = mark if has_ids else NO_IDENTITY
            if is_read and (
                read := position_of(queue.message_type, record.value, partition, offset)
            ):
                identity, interval = read.last_id, read.interval
            name = symbol + interval
            end = ends.get(name)
            if end is None:
                key = StreamKey(queue.message_type, symbol, interval)
                end = ends[name] = _StreamEnd(key)
            elif identity < end.last_id and not end.has_restarted(identity, record.timestamp_ms):
                continue  # it was fetched late, to fill a gap
            end.third_ms = end.second_ms
            end.second_ms = end.time_ms
            end.time_ms = record.timestamp_ms
            end.last_id = identity
            if is_timed and mark > record.received + MAX_AHEAD_US:
                end.ahead = mark
            elif mark == end.mark:
                end.mark_count += 1
            elif not has_ids:
                end.mark, end.mark_count = mark, 1
            end.partition = partition
            end.offset = offset
            changed[end] = None

    def flush(self) -> None:
        """Put the changed positions into the outbox, unless others still wait there. Do the same
        with the statuses.

        Positions are sorted by offset: if one was written, all lower ones were written too.
        """
        if not self.outbox.pending()[MESSAGE_TYPE]:
            changed, self._changed = self._changed, {}
            self._push(end.position() for end in changed)
        self._flush_statuses()

    def _flush_statuses(self) -> None:
        if not self.outbox.pending()[STATUS]:
            statuses, self._statuses = self._statuses, {}
            self.outbox.extend([*statuses.values()])

    def _push(self, positions: Iterable[Position]) -> None:
        now = now_us()
        for position in sorted(positions, key=attrgetter("offset")):
            self.outbox.push(self._record(position, now))

    def _record(self, position: Position, now: int) -> Record:
        own = self._routes.get(position.stream_key)
        if own is None:
            own = Route(MESSAGE_TYPE, position.symbol, self.topic, position.key, "", ())
            self._routes[position.stream_key] = own
        return Record(own, now // 1000, now, msgspec.json.encode(position))


def _end_at(position: Position) -> _StreamEnd:
    end = _StreamEnd(position.stream_key, position.time // 1000)
    end.last_id = position.last_id
    end.mark, end.mark_count, end.ahead = position.marks
    end.partition, end.offset = position.partition, position.offset
    return end
