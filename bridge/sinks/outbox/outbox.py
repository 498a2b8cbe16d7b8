"""The records that wait for Kafka: in order per partition, bounded in bytes, removed only when
acknowledged.

This is plain data without an event loop. The pipeline pushes records. The Kafka sink takes batches
from the head of each queue and says what became of them. A queue has at most one batch in flight,
so no record can overtake another. When the outbox is full, the oldest records that are not in
flight are dropped, counted and noted as losses.

A batch whose producer failed may or may not be in Kafka. Its records are in doubt: they stay at the
head of their queue until the batch was sent again or found in the partition.

Before the first contact with Kafka the number of partitions is unknown. Records then wait in one
queue per topic, and `assign` sorts them later. It sorts them again when the number has changed.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import merge
from itertools import islice

from bridge.core.delivery.losses import Losses
from bridge.core.model.events import GAP
from bridge.core.records.record import Record, Route
from bridge.sinks.outbox.limits import BatchLimit, RefusedRecord, Timestamps
from bridge.telemetry import SinkCounts

# The objects of a record besides its value: the struct, its integers, its slot in the queue.
RECORD_OVERHEAD_BYTES = 200

PartitionOf = Callable[[Route], int]


class PartitionQueue:
    """The records of one partition, oldest first. The first `in_flight` of them are being sent.
    The first `in_doubt` were sent by a producer that failed. `limit` is what the broker accepts in
    one batch, `timestamps` which times it accepts, `refused` which record it does not accept. While
    it `is_resting`, nothing is sent.
    """

    __slots__ = (
        *("in_doubt", "in_flight", "is_resting", "limit"),
        *("message_type", "partition", "records", "refused", "timestamps", "topic"),
    )

    def __init__(self, topic: str, partition: int, message_type: str) -> None:
        self.topic = topic
        self.partition = partition
        self.message_type = message_type
        self.records: deque[Record] = deque()
        self.in_flight = 0
        self.in_doubt = 0
        self.is_resting = False
        self.limit = BatchLimit()
        self.timestamps = Timestamps()
        self.refused = RefusedRecord()

    @property
    def protected(self) -> int:
        """Return how many of the first records must not be dropped."""
        return max(self.in_flight, self.in_doubt)

    def release(self) -> None:
        """Put the records in flight in doubt."""
        self.in_doubt = self.protected
        self.in_flight = 0

    def rest(self) -> None:
        """Send nothing from now on. The records in flight are in doubt."""
        self.release()
        self.is_resting = True

    def batch(self) -> list[Record]:
        """Return the records in flight."""
        return list(islice(self.records, self.in_flight))


class Outbox:
    """All partition queues in memory, and the bound they share. Gap events are sent first and
    dropped last: they announce what else was lost.

    `resting_share` is how much of it the queues that rest may take.
    """

    resting_share = 1.0

    def __init__(self, max_bytes: int, counts: SinkCounts) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self.losses = Losses()
        self.counts = counts
        self._partition_of: PartitionOf = lambda _: 0
        # What applied to the topics that stayed as they were at the last `assign`.
        self._partition_of_unchanged: dict[str, PartitionOf] = {}
        self._queues: dict[tuple[str, int], PartitionQueue] = {}
        self._queue_of: dict[Route, PartitionQueue] = {}
        self._gap_queues: list[PartitionQueue] = []

    def __len__(self) -> int:
        return sum(len(queue.records) for queue in self._queues.values())

    def pending(self) -> Counter[str]:
        """Count the records that wait or are in flight, by message type."""
        pending: Counter[str] = Counter()
        for queue in self._queues.values():
            pending[queue.message_type] += len(queue.records)
        return pending

    def oldest_received(self) -> int | None:
        """Return when the frame of the oldest record in the queues arrived, in microseconds."""
        return min((queue.records[0].received for queue in self._filled()), default=None)

    def heads(self) -> list[Record]:
        """Return the first record of each queue."""
        return [queue.records[0] for queue in self._filled()]

    def has_room(self, share: float) -> bool:
        """Return whether less than this share of the bound is taken."""
        return self.bytes < self.max_bytes * share

    def extend(self, records: Sequence[Record]) -> None:
        """Push the records of one read; the bound is checked once."""
        queue_of, size = self._queue_of, 0
        for record in records:
            route = record.route
            try:
                queue = queue_of[route]
            except KeyError:
                queue = self._queue_for(route)
            queue.records.append(record)
            size += len(record.value)
        self.bytes += size + len(records) * RECORD_OVERHEAD_BYTES
        if self.bytes > self.max_bytes:
            self._make_room()

    def push(self, record: Record) -> None:
        """Append a record to its queue; over the bound the oldest records are dropped."""
        self.put(record)
        if self.bytes > self.max_bytes:
            self._make_room()

    def put(self, record: Record) -> None:
        """Append a record to its queue without checking the bound."""
        queue = self._queue_of.get(record.route) or self._queue_for(record.route)
        queue.records.append(record)
        self.bytes += len(record.value) + RECORD_OVERHEAD_BYTES

    def assign(self, partition_of: PartitionOf, unchanged: Iterable[str] = ()) -> None:
        """Sort the records into the partitions as they are now.

        Topics in `unchanged` and topics with a queue that rests stay as they are. The others may
        have no record in flight or in doubt.

        The records of a symbol lie in one queue before and after, so their order is kept. Queues
        that become one are merged by arrival: the oldest records stay in front, to be dropped
        first.
        """
        waiting = list(self.in_queues())
        earlier = self._queues.copy()
        self._partition_of_unchanged = {
            topic: self._partition_of_unchanged.get(topic, self._partition_of)
            for topic in (*unchanged, *(queue.topic for queue in self.resting()))
        }
        self._partition_of = partition_of
        self._queues.clear()
        self._queue_of.clear()
        self._gap_queues.clear()
        self._shrink(waiting)
        for record in waiting:
            self.put(record)
        for key, queue in self._queues.items():
            if before := earlier.get(key):
                queue.limit, queue.timestamps = before.limit, before.timestamps
                queue.is_resting, queue.in_doubt = before.is_resting, before.in_doubt

    def in_queues(self) -> Iterator[Record]:
        """Yield the records of all queues by arrival, those of each symbol in their order."""
        queues = (queue.records for queue in self._queues.values())
        return merge(*queues, key=lambda record: record.received)

    def idle(self) -> list[PartitionQueue]:
        """Return the queues that have records, and none in flight, and do not rest."""
        return [queue for queue in self._filled() if not (queue.in_flight or queue.is_resting)]

    def resting(self) -> list[PartitionQueue]:
        """Return the queues that rest."""
        return [queue for queue in self._queues.values() if queue.is_resting]

    def trim_resting(self) -> None:
        """Drop the oldest records of the queues that rest until they take no more than their share
        of the bound.
        """
        share = self.resting_share
        if self.has_room(share):
            return
        resting = self.resting()
        surplus = sum(size_of(queue.records) for queue in resting) - self.max_bytes * share
        if surplus > 0:
            waiting = [queue for queue in resting if len(queue.records) > queue.protected]
            self._drop_until(self.bytes - round(surplus), waiting)

    def sendable(self) -> Iterator[PartitionQueue]:
        """Yield the queues whose next batch may be sent. While a gap event waits or is in flight,
        only queues of gap events are.

        A gap event lies in another topic than the events that follow it. A process killed in
        between would have published one without the other. So this looks again before each queue:
        records are pushed while a batch is handed over.
        """
        for queue in sorted(self.idle(), key=lambda queue: queue.message_type != GAP):
            if queue.message_type == GAP or not any(q.records for q in self._gap_queues):
                yield queue

    def acknowledge(self, queue: PartitionQueue) -> list[Record]:
        """Remove the records in flight, which are published, and return them."""
        done = [queue.records.popleft() for _ in range(queue.in_flight)]
        queue.in_flight = queue.in_doubt = 0
        queue.limit.take(done)
        queue.timestamps.take()
        queue.refused.take(len(done))
        self._forget(done)
        self.counts.published[queue.message_type] += len(done)
        return done

    def has_gap_in_flight(self) -> bool:
        """Return whether a gap event is in flight."""
        return any(queue.in_flight for queue in self._gap_queues)

    def release(self) -> None:
        """Put the records in flight in doubt: their producer has failed."""
        for queue in self._queues.values():
            queue.release()

    def in_doubt(self) -> list[PartitionQueue]:
        """Return the queues with records in doubt that do not rest."""
        return [q for q in self._queues.values() if q.in_doubt and not q.is_resting]

    def clear_in_doubt(self) -> None:
        """Send the records in doubt like any other. They may be published twice."""
        for queue in self.in_doubt():
            queue.in_doubt = 0

    def drop(self, queue: PartitionQueue, count: int, cause: str) -> list[Record]:
        """Drop the oldest `count` records of a queue that are not in flight or in doubt."""
        protected = [queue.records.popleft() for _ in range(queue.protected)]
        count = min(count, len(queue.records))
        dropped = [queue.records.popleft() for _ in range(count)]
        queue.records.extendleft(reversed(protected))
        self._forget(dropped)
        self._count_dropped(dropped, cause)
        return dropped

    def _count_dropped(self, records: Sequence[Record], cause: str) -> None:
        """Count dropped records, and note the losses that are to be announced."""
        for record in records:
            self.counts.dropped[record.route.message_type, cause] += 1
        self.losses.add((r for r in records if r.route.message_type != GAP), cause)

    def _make_room(self) -> None:
        """Drop the oldest records, and gap events last, a hundredth of the bound at a time.
        Searching the queues for each single record would cost more than the record.
        """
        room = self.max_bytes - self.max_bytes // 100
        self._drop_until(room, [queue for queue in self._waiting() if queue.message_type != GAP])
        if self.bytes > room:
            self._drop_outside_queues(self.bytes - room)
        if self.bytes > self.max_bytes:
            self._drop_until(room, self._waiting())

    def _drop_outside_queues(self, size: int) -> None:
        """Drop `size` bytes of records that wait in memory but in no queue. Here there are none."""

    def _drop_until(self, room: int, queues: list[PartitionQueue]) -> None:
        while self.bytes > room and queues:
            queue = min(queues, key=lambda queue: queue.records[queue.protected].received)
            records = islice(queue.records, queue.protected, None)
            self.drop(queue, count_filling(records, self.bytes - room), "outbox_full")
            queues = [queue for queue in queues if len(queue.records) > queue.protected]

    def _filled(self) -> Iterator[PartitionQueue]:
        return (queue for queue in self._queues.values() if queue.records)

    def _waiting(self) -> list[PartitionQueue]:
        return [queue for queue in self._filled() if len(queue.records) > queue.protected]

    def _forget(self, records: Sequence[Record]) -> None:
        """Note that records have left the queues for good."""
        self._shrink(records)

    def _shrink(self, records: Iterable[Record]) -> None:
        self.bytes -= size_of(records)

    def _queue_for(self, route: Route) -> PartitionQueue:
        partition_of = self._partition_of_unchanged.get(route.topic, self._partition_of)
        key = (route.topic, partition_of(route))
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = PartitionQueue(*key, route.message_type)
            if route.message_type == GAP:
                self._gap_queues.append(queue)
        self._queue_of[route] = queue
        return queue


def size_of(records: Iterable[Record]) -> int:
    """Return the memory that records take, in bytes."""
    sizes = [len(record.value) for record in records]
    return sum(sizes) + RECORD_OVERHEAD_BYTES * len(sizes)


def count_filling(records: Iterable[Record], size: int) -> int:
    """Return how many of the first records make up `size` bytes."""
    count = 0
    for record in records:
        if size <= 0:
            break
        size -= len(record.value) + RECORD_OVERHEAD_BYTES
        count += 1
    return count
