"""What waits for Kafka: in order per partition, bounded in bytes, gone only when acknowledged.

Plain data without an event loop: the pipeline pushes, the sink takes batches off the head of each
queue and says what became of them. A queue has at most one batch in flight, so nothing can overtake
anything. Full, the oldest records that are not in flight go, counted and noted as lost.

A batch whose producer failed may have been written or not: its records are in_doubt, and stay in
front as they are until the batch has been sent again or found in the partition.

With a disk behind it (`spill_accounts`), half full is enough: what waits then goes there, and what
comes then behind it. `sinks/outbox/spiller.py` moves it along, and back into the queues.

Before the first contact with Kafka the number of partitions is unknown; records then wait in one
queue a topic, and `assign` sorts them out later. It does so again when the number has changed.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import merge
from itertools import accumulate, chain, islice
from operator import attrgetter

from bridge.core.delivery.losses import Losses
from bridge.core.records.record import Key, PriorityRecord, Record, Route, priority_record
from bridge.sinks.outbox.batch_limit import BatchLimit
from bridge.sinks.outbox.spill_accounts import RECORD_OVERHEAD_BYTES, SpillAccounts, size_of
from bridge.telemetry import SinkCounts

# Of the bound, with a disk: from here on records go there. The other half is for what is on its
# way while the disk is slow.
SPILL_ABOVE = 0.5
# The first to be sent and the last to be dropped: what tells of other losses.
GAP = "gap"

PartitionOf = Callable[[Route], int]


class PartitionQueue:
    """The records of one partition, oldest first; the first `in_flight` of them are being sent,
    or the first `in_doubt` were sent by a producer that failed.

    `limit` is what the broker takes in one batch.
    """

    __slots__ = ("in_doubt", "in_flight", "limit", "message_type", "partition", "records", "topic")

    def __init__(self, topic: str, partition: int, message_type: str) -> None:
        self.topic = topic
        self.partition = partition
        self.message_type = message_type
        self.records: deque[Record] = deque()
        self.in_flight = 0
        self.in_doubt = 0
        self.limit = BatchLimit()

    @property
    def kept(self) -> int:
        """How many of the first records may not be dropped."""
        return max(self.in_flight, self.in_doubt)

    def refuse(self) -> None:
        """What is in flight was too large for the broker: be content with half of it."""
        self.limit.refuse(list(islice(self.records, self.in_flight)))


class Outbox:
    """All queues, what is on disk behind them, and the bound they share in memory."""

    def __init__(self, max_bytes: int, counts: SinkCounts) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self.losses = Losses()
        self.spill_accounts: SpillAccounts | None = None
        self._counts = counts
        self._partition_of: PartitionOf = lambda _: 0
        self._queues: dict[tuple[str, int], PartitionQueue] = {}
        self._queue_of: dict[Route, PartitionQueue] = {}
        self._gap_queues: list[PartitionQueue] = []

    def __len__(self) -> int:
        behind = len(self.spill_accounts) if self.spill_accounts is not None else 0
        return behind + sum(len(queue.records) for queue in self._queues.values())

    def pending(self) -> Counter[str]:
        """Records that wait or are in flight, by message type; those on disk included."""
        pending: Counter[str] = Counter()
        for queue in self._queues.values():
            pending[queue.message_type] += len(queue.records)
        if self.spill_accounts is not None:
            pending.update(
                record.route.message_type for record in self.spill_accounts.awaiting_write
            )
            pending.update(self.spill_accounts.unread)
        return pending

    def oldest_received(self) -> int | None:
        """When the frame of the oldest record in memory arrived, in microseconds."""
        return min((queue.records[0].received for queue in self._filled()), default=None)

    def has_room(self, share: float) -> bool:
        """Whether less than this share of the bound is taken, and nothing goes to the disk."""
        is_spilling = self.spill_accounts is not None and self.spill_accounts.spilling
        return self.bytes < self.max_bytes * share and not is_spilling

    def extend(self, records: Sequence[Record]) -> None:
        """Push all that one read has brought: in memory the bound is looked at once."""
        if self.spill_accounts is not None and self._has_to_spill(self.spill_accounts):
            for record in records:
                self.push(record)
            return
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
        """Put a record behind the others of its partition; beyond the bound the oldest go."""
        spill_accounts = self.spill_accounts
        if spill_accounts is None:
            self.put(record)
        else:
            if not spill_accounts.spilling and self._has_to_spill(spill_accounts):
                self.spill(spill_accounts)
            if spill_accounts.spilling and not isinstance(record, PriorityRecord):
                self.bytes += spill_accounts.push(record)
            else:
                self.put(record)
        if self.bytes > self.max_bytes:
            self._make_room()

    def _has_to_spill(self, spill_accounts: SpillAccounts) -> bool:
        return spill_accounts.spilling or self.bytes > self.max_bytes * SPILL_ABOVE

    def put(self, record: Record) -> None:
        """Put a record into its queue, whatever waits on disk."""
        queue = self._queue_of.get(record.route) or self._queue_for(record.route)
        queue.records.append(record)
        self.bytes += len(record.value) + RECORD_OVERHEAD_BYTES

    def spill(self, spill_accounts: SpillAccounts) -> None:
        """From now on everything goes to the disk: what waits by arrival, and before it a copy of
        what cannot wait. What is there already stays as it is.
        """
        spill_accounts.spilling = True
        on_disk = +spill_accounts.left
        leaving = [self._leave(queue, spill_accounts, on_disk) for queue in self._queues.values()]
        spill_accounts.extend(_by_arrival(leaving))

    def assign(self, partition_of: PartitionOf) -> None:
        """Sort the queues into the partitions as they are now. Nothing may be in flight or
        in_doubt.

        A symbol's records lie in one queue before and after, so their order is kept. Queues that
        become one are merged by arrival: the oldest stay in front, to be dropped first.
        """
        waiting = list(self.in_queues())
        self._partition_of = partition_of
        limits = {place: queue.limit for place, queue in self._queues.items()}
        self._queues.clear()
        self._queue_of.clear()
        self._gap_queues.clear()
        self._shrink(waiting)
        for record in waiting:
            self.put(record)
        for queue in self._queues.values():
            queue.limit = limits.get((queue.topic, queue.partition), queue.limit)

    def in_queues(self) -> Iterator[Record]:
        """The records of all queues, by arrival, each symbol in its order."""
        queues = (queue.records for queue in self._queues.values())
        return merge(*queues, key=lambda record: record.received)

    def announcements(self) -> list[Record]:
        """What is in the queues and not to go to the disk."""
        return [record for record in self.in_queues() if isinstance(record, PriorityRecord)]

    def idle(self) -> list[PartitionQueue]:
        """The queues that have records and none in flight."""
        return [queue for queue in self._filled() if not queue.in_flight]

    def sendable(self) -> Iterator[PartitionQueue]:
        """The queues whose next batch may go: while a gap event waits or is on its way, no others.

        It lies in another topic than what comes behind it, and a process killed in between would
        have published the one and not the other. So this looks again before each queue: pushing
        goes on while a batch is handed over.
        """
        for queue in sorted(self.idle(), key=lambda queue: queue.message_type != GAP):
            if queue.message_type == GAP or not any(
                gap_queue.records for gap_queue in self._gap_queues
            ):
                yield queue

    def acknowledge(self, queue: PartitionQueue) -> list[Record]:
        """Take out what was in flight: it is published. Returns it."""
        done = [queue.records.popleft() for _ in range(queue.in_flight)]
        queue.in_flight = queue.in_doubt = 0
        queue.limit.take()
        self._forget(done)
        self._counts.published[queue.message_type] += len(done)
        return done

    def has_gap_in_flight(self) -> bool:
        """Whether something that tells of losses is in flight."""
        gap_queues = (queue for queue in self._queues.values() if queue.message_type == GAP)
        return any(queue.in_flight for queue in gap_queues)

    def release(self) -> None:
        """What was in flight waits again: its batch has failed, or seems to."""
        for queue in self._queues.values():
            queue.in_doubt = queue.kept
            queue.in_flight = 0

    def in_doubt(self) -> list[PartitionQueue]:
        """The queues with records that may have been written."""
        return [queue for queue in self._queues.values() if queue.in_doubt]

    def mark_in_doubt(self) -> None:
        """All in the queues may have been written: by a process that has gone."""
        for queue in self._queues.values():
            queue.in_doubt = len(queue.records)

    def clear_in_doubt(self) -> None:
        """Forget what is in_doubt: those records are sent like any other, and may come twice."""
        for queue in self._queues.values():
            queue.in_doubt = 0

    def take_first(self, counts: Counter[Key]) -> list[Record]:
        """Take so many of each symbol's first records, but for those in flight or in_doubt, out of
        the queues; they are accounted for elsewhere.
        """
        taken: list[Record] = []
        counts = counts.copy()
        for queue in self._queues.values():
            stay: deque[Record] = deque()
            for place, record in enumerate(queue.records):
                key = record.route.name
                wanted = counts[key] > 0 and not isinstance(record, PriorityRecord)
                counts[key] -= wanted
                (taken if wanted and place >= queue.kept else stay).append(record)
            queue.records = stay
        self._forget(taken)
        return taken

    def drop(self, queue: PartitionQueue, count: int, cause: str) -> list[Record]:
        """Give up the oldest `count` records of a queue that are not in flight or in_doubt."""
        kept = [queue.records.popleft() for _ in range(queue.kept)]
        count = min(count, len(queue.records))
        dropped = [queue.records.popleft() for _ in range(count)]
        queue.records.extendleft(reversed(kept))
        self._forget(dropped)
        self.count_dropped(dropped, cause)
        return dropped

    def give_up(self, records: Iterable[Record], cause: str) -> None:
        """Count records that are in no queue any more; what tells of a loss goes ahead instead."""
        dropped = []
        for record in records:
            if record.route.message_type == GAP:
                self.put(priority_record(record))
            else:
                dropped.append(record)
        self.count_dropped(dropped, cause)

    def count_dropped(self, records: Iterable[Record], cause: str) -> None:
        """Count records as given up, and note what is to be announced."""
        for record in records:
            self._counts.dropped[record.route.message_type, cause] += 1
        self.losses.add((r for r in records if r.route.message_type != GAP), cause)

    def take_awaiting_write(self, count: int) -> list[Record]:
        """Take the first records of what is on its way to the disk out of the memory."""
        taken = (
            self.spill_accounts.take_awaiting_write(count)
            if self.spill_accounts is not None
            else []
        )
        self._shrink(taken)
        return taken

    def _leave(
        self, queue: PartitionQueue, spill_accounts: SpillAccounts, on_disk: Counter[Key]
    ) -> list[Record]:
        """Take out of a queue what may wait on disk; what may not is copied there."""
        records = list(queue.records)
        stay, copies, leaving = records[: queue.kept], records[: queue.kept], records[queue.kept :]
        if on_disk or queue.message_type == GAP:
            stay, copies, leaving = _by_place(queue, on_disk)
        spill_accounts.copy(copies)
        queue.records = deque(stay)
        return leaving

    def _make_room(self) -> None:
        """Drop the oldest, a hundredth of the bound at a time: searching the queues for it once a
        record would cost more than the record.
        """
        room = self.max_bytes - self.max_bytes // 100
        self._drop_until(room, [queue for queue in self._waiting() if queue.message_type != GAP])
        if self.bytes > room and self.spill_accounts is not None:
            self._drop_awaiting_write(self.spill_accounts, self.bytes - room)
        if self.bytes > self.max_bytes:
            self._drop_until(room, self._waiting())

    def _drop_until(self, room: int, queues: list[PartitionQueue]) -> None:
        while self.bytes > room and queues:
            queue = min(queues, key=lambda queue: queue.records[queue.kept].received)
            records = islice(queue.records, queue.kept, None)
            self.drop(queue, _records_of(records, self.bytes - room), "outbox_full")
            queues = [queue for queue in queues if len(queue.records) > queue.kept]

    def _drop_awaiting_write(self, spill_accounts: SpillAccounts, size: int) -> None:
        """The disk takes nothing: the oldest on their way to it go."""
        being_written = self.take_awaiting_write(spill_accounts.writing)
        dropped = self.take_awaiting_write(_records_of(spill_accounts.awaiting_write, size))
        spill_accounts.awaiting_write.extendleft(reversed(being_written))
        spill_accounts.awaiting_write_bytes += size_of(being_written)
        self.bytes += size_of(being_written)
        spill_accounts.forget(dropped)
        self.give_up(dropped, "outbox_full")

    def _filled(self) -> Iterator[PartitionQueue]:
        return (queue for queue in self._queues.values() if queue.records)

    def _waiting(self) -> list[PartitionQueue]:
        return [queue for queue in self._filled() if len(queue.records) > queue.kept]

    def _forget(self, records: list[Record]) -> None:
        self._shrink(records)
        if self.spill_accounts is not None and not self.spill_accounts.is_empty:
            self.spill_accounts.settle(records)

    def _shrink(self, records: list[Record]) -> None:
        self.bytes -= size_of(records)

    def _queue_for(self, route: Route) -> PartitionQueue:
        place = (route.topic, self._partition_of(route))
        queue = self._queues.get(place)
        if queue is None:
            queue = self._queues[place] = PartitionQueue(*place, route.message_type)
            if route.message_type == GAP:
                self._gap_queues.append(queue)
        self._queue_of[route] = queue
        return queue


def _by_place(
    queue: PartitionQueue, on_disk: Counter[Key]
) -> tuple[list[Record], list[Record], list[Record]]:
    """The records of a queue that stay, those of them that are not on disk yet, and those that may
    leave. Counts down what is on disk.
    """
    stay: list[Record] = []
    copies: list[Record] = []
    leaving: list[Record] = []
    for place, record in enumerate(queue.records):
        key = record.route.name
        is_apart = isinstance(record, PriorityRecord)
        is_on_disk = on_disk[key] > 0 and not is_apart
        on_disk[key] -= is_on_disk
        may_leave = place >= queue.kept and not is_on_disk and not is_apart
        (leaving if may_leave else stay).append(record)
        if not may_leave and not is_on_disk and not is_apart:
            copies.append(record)
    return stay, copies, leaving


def _by_arrival(queues: list[list[Record]]) -> list[Record]:
    """The records of all queues in one, each queue's in its order. A merge takes five times as
    long, and there may be a million of them.
    """
    received = attrgetter("received")
    arrivals = [*chain.from_iterable(accumulate(map(received, queue), max) for queue in queues)]
    records = [*chain.from_iterable(queues)]
    return [records[place] for place in sorted(range(len(records)), key=arrivals.__getitem__)]


def _records_of(records: Iterable[Record], size: int) -> int:
    """How many of the first records make up `size` bytes."""
    count = 0
    for record in records:
        if size <= 0:
            break
        size -= len(record.value) + RECORD_OVERHEAD_BYTES
        count += 1
    return count
