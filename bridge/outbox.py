"""What waits for Kafka: in order per partition, bounded in bytes, gone only when acknowledged.

Plain data without an event loop: the pipeline pushes, the sink takes batches off the head of each
lane and says what became of them. A lane has at most one batch in flight, so nothing can overtake
anything. Full, the oldest records that are not in flight go, counted.

A batch whose producer failed may have been written or not: its records are unsure, and stay in
front as they are until the batch has been sent again or found in the partition.

Before the first contact with Kafka the number of partitions is unknown; records then wait in one
lane a topic, and `assign` sorts them out later. It does so again when the number has changed.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from heapq import merge
from itertools import islice

from bridge.core.record import Record, Route
from bridge.telemetry import SinkCounts

# A record's objects beside its value: the struct, its integers, its place in the lane.
RECORD_OVERHEAD_BYTES = 200

PartitionOf = Callable[[Route], int]


class Lane:
    """The records of one partition, oldest first; the first `in_flight` of them are being sent,
    or the first `unsure` were sent by a producer that failed.
    """

    __slots__ = ("in_flight", "message_type", "partition", "records", "topic", "unsure")

    def __init__(self, topic: str, partition: int, message_type: str) -> None:
        self.topic = topic
        self.partition = partition
        self.message_type = message_type
        self.records: deque[Record] = deque()
        self.in_flight = 0
        self.unsure = 0

    @property
    def kept(self) -> int:
        """How many of the first records may not be dropped."""
        return max(self.in_flight, self.unsure)


class Outbox:
    """All lanes, and the bound they share."""

    def __init__(self, max_bytes: int, counts: SinkCounts) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._counts = counts
        self._partition_of: PartitionOf = lambda _: 0
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._lane_of: dict[Route, Lane] = {}

    def __len__(self) -> int:
        return sum(len(lane.records) for lane in self._lanes.values())

    def pending(self) -> Counter[str]:
        """Records that wait or are in flight, by message type."""
        pending: Counter[str] = Counter()
        for lane in self._lanes.values():
            pending[lane.message_type] += len(lane.records)
        return pending

    def oldest_received(self) -> int | None:
        """When the frame of the oldest record arrived, in microseconds."""
        return min((lane.records[0].received for lane in self._filled()), default=None)

    def push(self, record: Record) -> None:
        """Put a record behind the others of its partition; drop the oldest if that is too much."""
        lane = self._lane_of.get(record.route) or self._lane_for(record.route)
        lane.records.append(record)
        self.bytes += len(record.value) + RECORD_OVERHEAD_BYTES
        if self.bytes > self.max_bytes:
            self._make_room()

    def assign(self, partition_of: PartitionOf) -> None:
        """Sort what waits into the partitions as they are now. Nothing may be in flight or unsure.

        A symbol's records lie in one lane before and after, so their order is kept. Lanes that
        become one are merged by arrival: the oldest stay in front, to be dropped first.
        """
        lanes = (lane.records for lane in self._lanes.values())
        waiting = list(merge(*lanes, key=lambda record: record.received))
        self._partition_of = partition_of
        self._lanes.clear()
        self._lane_of.clear()
        self.bytes = 0
        for record in waiting:
            self.push(record)

    def idle(self) -> list[Lane]:
        """The lanes that have records and none in flight."""
        return [lane for lane in self._filled() if not lane.in_flight]

    def acknowledge(self, lane: Lane) -> list[Record]:
        """Take out what was in flight: it is published. Returns it."""
        done = [lane.records.popleft() for _ in range(lane.in_flight)]
        lane.in_flight = lane.unsure = 0
        self._forget(done)
        self._counts.published[lane.message_type] += len(done)
        return done

    def release(self) -> None:
        """What was in flight waits again: its batch has failed, or seems to."""
        for lane in self._lanes.values():
            lane.unsure = lane.kept
            lane.in_flight = 0

    def unsure(self) -> list[Lane]:
        """The lanes with records that may have been written."""
        return [lane for lane in self._lanes.values() if lane.unsure]

    def settle(self) -> None:
        """Forget what is unsure: those records are sent like any other, and may come twice."""
        for lane in self._lanes.values():
            lane.unsure = 0

    def drop(self, lane: Lane, count: int, cause: str) -> None:
        """Give up the oldest `count` records of a lane that are not in flight or unsure."""
        kept = [lane.records.popleft() for _ in range(lane.kept)]
        count = min(count, len(lane.records))
        self._forget([lane.records.popleft() for _ in range(count)])
        self._counts.dropped[lane.message_type, cause] += count
        lane.records.extendleft(reversed(kept))

    def _make_room(self) -> None:
        """Drop the oldest, a hundredth of the bound at a time: searching the lanes for it once a
        record would cost more than the record.
        """
        room = self.max_bytes - self.max_bytes // 100
        while self.bytes > room and (waiting := self._waiting()):
            lane = min(waiting, key=lambda lane: lane.records[lane.kept].received)
            self.drop(lane, _records_of(lane, self.bytes - room), "outbox_full")

    def _filled(self) -> Iterator[Lane]:
        return (lane for lane in self._lanes.values() if lane.records)

    def _waiting(self) -> list[Lane]:
        return [lane for lane in self._filled() if len(lane.records) > lane.kept]

    def _forget(self, records: list[Record]) -> None:
        self.bytes -= sum(len(record.value) + RECORD_OVERHEAD_BYTES for record in records)

    def _lane_for(self, route: Route) -> Lane:
        place = (route.topic, self._partition_of(route))
        lane = self._lanes.get(place) or Lane(*place, route.message_type)
        self._lanes[place] = self._lane_of[route] = lane
        return lane


def _records_of(lane: Lane, size: int) -> int:
    """How many of a lane's waiting records make up `size` bytes."""
    count = 0
    for record in islice(lane.records, lane.kept, None):
        if size <= 0:
            break
        size -= len(record.value) + RECORD_OVERHEAD_BYTES
        count += 1
    return count
