"""What waits for Kafka: in order per partition, bounded in bytes, gone only when acknowledged.

Plain data without an event loop: the pipeline pushes, the sink takes batches off the head of each
lane and says what became of them. A lane has at most one batch in flight, so nothing can overtake
anything. Full, the oldest records that are not in flight go, counted and noted as lost.

A batch whose producer failed may have been written or not: its records are unsure, and stay in
front as they are until the batch has been sent again or found in the partition.

With a disk behind it (`backlog`), half full is enough: what waits then goes there, and what comes
then behind it. `sinks/outbox/spiller.py` moves it along, and back into the lanes.

Before the first contact with Kafka the number of partitions is unknown; records then wait in one
lane a topic, and `assign` sorts them out later. It does so again when the number has changed.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import merge
from itertools import accumulate, chain, islice
from operator import attrgetter

from bridge.core.delivery.losses import Losses
from bridge.core.records.record import Announcement, Key, Record, Route, announcement
from bridge.sinks.outbox.batch_limit import BatchLimit
from bridge.sinks.outbox.spill_accounts import RECORD_OVERHEAD_BYTES, Backlog, size_of
from bridge.telemetry import SinkCounts

# Of the bound, with a disk: from here on records go there. The other half is for what is on its
# way while the disk is slow.
SPILL_ABOVE = 0.5
# The first to be sent and the last to be dropped: what tells of other losses.
TELLING = "gap"

PartitionOf = Callable[[Route], int]


class Lane:
    """The records of one partition, oldest first; the first `in_flight` of them are being sent,
    or the first `unsure` were sent by a producer that failed.

    `limit` is what the broker takes in one batch.
    """

    __slots__ = ("in_flight", "limit", "message_type", "partition", "records", "topic", "unsure")

    def __init__(self, topic: str, partition: int, message_type: str) -> None:
        self.topic = topic
        self.partition = partition
        self.message_type = message_type
        self.records: deque[Record] = deque()
        self.in_flight = 0
        self.unsure = 0
        self.limit = BatchLimit()

    @property
    def kept(self) -> int:
        """How many of the first records may not be dropped."""
        return max(self.in_flight, self.unsure)

    def refuse(self) -> None:
        """What is in flight was too large for the broker: be content with half of it."""
        self.limit.refuse(list(islice(self.records, self.in_flight)))


class Outbox:
    """All lanes, what is on disk behind them, and the bound they share in memory."""

    def __init__(self, max_bytes: int, counts: SinkCounts) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self.losses = Losses()
        self.backlog: Backlog | None = None
        self._counts = counts
        self._partition_of: PartitionOf = lambda _: 0
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._lane_of: dict[Route, Lane] = {}
        self._telling: list[Lane] = []

    def __len__(self) -> int:
        behind = len(self.backlog) if self.backlog is not None else 0
        return behind + sum(len(lane.records) for lane in self._lanes.values())

    def pending(self) -> Counter[str]:
        """Records that wait or are in flight, by message type; those on disk included."""
        pending: Counter[str] = Counter()
        for lane in self._lanes.values():
            pending[lane.message_type] += len(lane.records)
        if self.backlog is not None:
            pending.update(record.route.message_type for record in self.backlog.behind)
            pending.update(self.backlog.unread)
        return pending

    def oldest_received(self) -> int | None:
        """When the frame of the oldest record in memory arrived, in microseconds."""
        return min((lane.records[0].received for lane in self._filled()), default=None)

    def has_room(self, share: float) -> bool:
        """Whether less than this share of the bound is taken, and nothing goes to the disk."""
        is_spilling = self.backlog is not None and self.backlog.spilling
        return self.bytes < self.max_bytes * share and not is_spilling

    def extend(self, records: Sequence[Record]) -> None:
        """Push all that one read has brought: in memory the bound is looked at once."""
        if self.backlog is not None and self._has_to_spill(self.backlog):
            for record in records:
                self.push(record)
            return
        lane_of, size = self._lane_of, 0
        for record in records:
            route = record.route
            try:
                lane = lane_of[route]
            except KeyError:
                lane = self._lane_for(route)
            lane.records.append(record)
            size += len(record.value)
        self.bytes += size + len(records) * RECORD_OVERHEAD_BYTES
        if self.bytes > self.max_bytes:
            self._make_room()

    def push(self, record: Record) -> None:
        """Put a record behind the others of its partition; beyond the bound the oldest go."""
        backlog = self.backlog
        if backlog is None:
            self.put(record)
        else:
            if not backlog.spilling and self._has_to_spill(backlog):
                self.spill(backlog)
            if backlog.spilling and not isinstance(record, Announcement):
                self.bytes += backlog.push(record)
            else:
                self.put(record)
        if self.bytes > self.max_bytes:
            self._make_room()

    def _has_to_spill(self, backlog: Backlog) -> bool:
        return backlog.spilling or self.bytes > self.max_bytes * SPILL_ABOVE

    def put(self, record: Record) -> None:
        """Put a record into its lane, whatever waits on disk."""
        lane = self._lane_of.get(record.route) or self._lane_for(record.route)
        lane.records.append(record)
        self.bytes += len(record.value) + RECORD_OVERHEAD_BYTES

    def spill(self, backlog: Backlog) -> None:
        """From now on everything goes to the disk: what waits by arrival, and before it a copy of
        what cannot wait. What is there already stays as it is.
        """
        backlog.spilling = True
        on_disk = +backlog.left
        leaving = [self._leave(lane, backlog, on_disk) for lane in self._lanes.values()]
        backlog.extend(_by_arrival(leaving))

    def assign(self, partition_of: PartitionOf) -> None:
        """Sort the lanes into the partitions as they are now. Nothing may be in flight or unsure.

        A symbol's records lie in one lane before and after, so their order is kept. Lanes that
        become one are merged by arrival: the oldest stay in front, to be dropped first.
        """
        waiting = list(self.in_lanes())
        self._partition_of = partition_of
        limits = {place: lane.limit for place, lane in self._lanes.items()}
        self._lanes.clear()
        self._lane_of.clear()
        self._telling.clear()
        self._shrink(waiting)
        for record in waiting:
            self.put(record)
        for lane in self._lanes.values():
            lane.limit = limits.get((lane.topic, lane.partition), lane.limit)

    def in_lanes(self) -> Iterator[Record]:
        """The records of all lanes, by arrival, each symbol in its order."""
        lanes = (lane.records for lane in self._lanes.values())
        return merge(*lanes, key=lambda record: record.received)

    def announcements(self) -> list[Record]:
        """What is in the lanes and not to go to the disk."""
        return [record for record in self.in_lanes() if isinstance(record, Announcement)]

    def idle(self) -> list[Lane]:
        """The lanes that have records and none in flight."""
        return [lane for lane in self._filled() if not lane.in_flight]

    def sendable(self) -> Iterator[Lane]:
        """The lanes whose next batch may go: while a gap event waits or is on its way, no others.

        It lies in another topic than what comes behind it, and a process killed in between would
        have published the one and not the other. So this looks again before each lane: pushing
        goes on while a batch is handed over.
        """
        for lane in sorted(self.idle(), key=lambda lane: lane.message_type != TELLING):
            if lane.message_type == TELLING or not any(
                telling.records for telling in self._telling
            ):
                yield lane

    def acknowledge(self, lane: Lane) -> list[Record]:
        """Take out what was in flight: it is published. Returns it."""
        done = [lane.records.popleft() for _ in range(lane.in_flight)]
        lane.in_flight = lane.unsure = 0
        lane.limit.take()
        self._forget(done)
        self._counts.published[lane.message_type] += len(done)
        return done

    def is_telling(self) -> bool:
        """Whether something that tells of losses is in flight."""
        telling = (lane for lane in self._lanes.values() if lane.message_type == TELLING)
        return any(lane.in_flight for lane in telling)

    def release(self) -> None:
        """What was in flight waits again: its batch has failed, or seems to."""
        for lane in self._lanes.values():
            lane.unsure = lane.kept
            lane.in_flight = 0

    def unsure(self) -> list[Lane]:
        """The lanes with records that may have been written."""
        return [lane for lane in self._lanes.values() if lane.unsure]

    def doubt(self) -> None:
        """All in the lanes may have been written: by a process that has gone."""
        for lane in self._lanes.values():
            lane.unsure = len(lane.records)

    def settle(self) -> None:
        """Forget what is unsure: those records are sent like any other, and may come twice."""
        for lane in self._lanes.values():
            lane.unsure = 0

    def take_first(self, counts: Counter[Key]) -> list[Record]:
        """Take so many of each symbol's first records, but for those in flight or unsure, out of
        the lanes; they are accounted for elsewhere.
        """
        taken: list[Record] = []
        counts = counts.copy()
        for lane in self._lanes.values():
            stay: deque[Record] = deque()
            for place, record in enumerate(lane.records):
                key = record.route.name
                wanted = counts[key] > 0 and not isinstance(record, Announcement)
                counts[key] -= wanted
                (taken if wanted and place >= lane.kept else stay).append(record)
            lane.records = stay
        self._forget(taken)
        return taken

    def drop(self, lane: Lane, count: int, cause: str) -> list[Record]:
        """Give up the oldest `count` records of a lane that are not in flight or unsure."""
        kept = [lane.records.popleft() for _ in range(lane.kept)]
        count = min(count, len(lane.records))
        dropped = [lane.records.popleft() for _ in range(count)]
        lane.records.extendleft(reversed(kept))
        self._forget(dropped)
        self.count_dropped(dropped, cause)
        return dropped

    def give_up(self, records: Iterable[Record], cause: str) -> None:
        """Count records that are in no lane any more; what tells of a loss goes ahead instead."""
        dropped = []
        for record in records:
            if record.route.message_type == TELLING:
                self.put(announcement(record))
            else:
                dropped.append(record)
        self.count_dropped(dropped, cause)

    def count_dropped(self, records: Iterable[Record], cause: str) -> None:
        """Count records as given up, and note what is to be announced."""
        for record in records:
            self._counts.dropped[record.route.message_type, cause] += 1
        self.losses.add((r for r in records if r.route.message_type != TELLING), cause)

    def take_behind(self, count: int) -> list[Record]:
        """Take the first records of what is on its way to the disk out of the memory."""
        taken = self.backlog.take_behind(count) if self.backlog is not None else []
        self._shrink(taken)
        return taken

    def _leave(self, lane: Lane, backlog: Backlog, on_disk: Counter[Key]) -> list[Record]:
        """Take out of a lane what may wait on disk; what may not is copied there."""
        records = list(lane.records)
        stay, copies, leaving = records[: lane.kept], records[: lane.kept], records[lane.kept :]
        if on_disk or lane.message_type == TELLING:
            stay, copies, leaving = _by_place(lane, on_disk)
        backlog.copy(copies)
        lane.records = deque(stay)
        return leaving

    def _make_room(self) -> None:
        """Drop the oldest, a hundredth of the bound at a time: searching the lanes for it once a
        record would cost more than the record.
        """
        room = self.max_bytes - self.max_bytes // 100
        self._drop_until(room, [lane for lane in self._waiting() if lane.message_type != TELLING])
        if self.bytes > room and self.backlog is not None:
            self._drop_behind(self.backlog, self.bytes - room)
        if self.bytes > self.max_bytes:
            self._drop_until(room, self._waiting())

    def _drop_until(self, room: int, lanes: list[Lane]) -> None:
        while self.bytes > room and lanes:
            lane = min(lanes, key=lambda lane: lane.records[lane.kept].received)
            records = islice(lane.records, lane.kept, None)
            self.drop(lane, _records_of(records, self.bytes - room), "outbox_full")
            lanes = [lane for lane in lanes if len(lane.records) > lane.kept]

    def _drop_behind(self, backlog: Backlog, size: int) -> None:
        """The disk takes nothing: the oldest on their way to it go."""
        being_written = self.take_behind(backlog.writing)
        dropped = self.take_behind(_records_of(backlog.behind, size))
        backlog.behind.extendleft(reversed(being_written))
        backlog.behind_bytes += size_of(being_written)
        self.bytes += size_of(being_written)
        backlog.forget(dropped)
        self.give_up(dropped, "outbox_full")

    def _filled(self) -> Iterator[Lane]:
        return (lane for lane in self._lanes.values() if lane.records)

    def _waiting(self) -> list[Lane]:
        return [lane for lane in self._filled() if len(lane.records) > lane.kept]

    def _forget(self, records: list[Record]) -> None:
        self._shrink(records)
        if self.backlog is not None and not self.backlog.is_empty:
            self.backlog.settle(records)

    def _shrink(self, records: list[Record]) -> None:
        self.bytes -= size_of(records)

    def _lane_for(self, route: Route) -> Lane:
        place = (route.topic, self._partition_of(route))
        lane = self._lanes.get(place)
        if lane is None:
            lane = self._lanes[place] = Lane(*place, route.message_type)
            if route.message_type == TELLING:
                self._telling.append(lane)
        self._lane_of[route] = lane
        return lane


def _by_place(lane: Lane, on_disk: Counter[Key]) -> tuple[list[Record], list[Record], list[Record]]:
    """The records of a lane that stay, those of them that are not on disk yet, and those that may
    leave. Counts down what is on disk.
    """
    stay: list[Record] = []
    copies: list[Record] = []
    leaving: list[Record] = []
    for place, record in enumerate(lane.records):
        key = record.route.name
        is_apart = isinstance(record, Announcement)
        is_on_disk = on_disk[key] > 0 and not is_apart
        on_disk[key] -= is_on_disk
        may_leave = place >= lane.kept and not is_on_disk and not is_apart
        (leaving if may_leave else stay).append(record)
        if not may_leave and not is_on_disk and not is_apart:
            copies.append(record)
    return stay, copies, leaving


def _by_arrival(lanes: list[list[Record]]) -> list[Record]:
    """The records of all lanes in one, each lane's in its order. A merge takes five times as long,
    and there may be a million of them.
    """
    received = attrgetter("received")
    arrivals = [*chain.from_iterable(accumulate(map(received, lane), max) for lane in lanes)]
    records = [*chain.from_iterable(lanes)]
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
