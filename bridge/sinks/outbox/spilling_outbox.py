"""An outbox with a disk: when memory is half full, records wait on disk.

From then on every new record is written to disk. It waits in memory (`SpillAccounts`) until it is
written. `Spiller` writes the records, reads them back into the queues in their order, and removes
what was acknowledged.
"""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from itertools import accumulate, chain
from operator import attrgetter

from bridge.core.model.events import GAP
from bridge.core.records.record import PriorityRecord, Record, RouteKey, priority_record
from bridge.sinks.outbox.outbox import Outbox, PartitionQueue, count_filling, size_of
from bridge.sinks.outbox.spill_accounts import SpillAccounts
from bridge.telemetry import SinkCounts

# The share of the bound above which records go to disk. The other half is for records on their
# way while the disk is slow.
SPILL_ABOVE = 0.5
CHUNK_MAX_BYTES = 2**20
# The largest chunk as a share of the bound, unless a single record is larger.
CHUNK_MAX_SHARE = 1 / 16


class SpillingOutbox(Outbox):
    """The queues in memory, and the accounts of the records on disk."""

    # With more, the other records would stay on disk: see `BRING_BACK_BELOW` of the spiller.
    resting_share = 0.2

    def __init__(self, max_bytes: int, counts: SinkCounts) -> None:
        super().__init__(max_bytes, counts)
        chunk_max_bytes = min(CHUNK_MAX_BYTES, round(max_bytes * CHUNK_MAX_SHARE))
        self.spill_accounts = SpillAccounts(chunk_max_bytes)

    def __len__(self) -> int:
        return super().__len__() + len(self.spill_accounts)

    def pending(self) -> Counter[str]:
        """Count the records that wait or are in flight, those on disk included."""
        pending = super().pending()
        pending.update(record.route.message_type for record in self.spill_accounts.awaiting_write)
        pending.update(self.spill_accounts.unread)
        return pending

    def has_room(self, share: float) -> bool:
        """Return whether less than this share of the bound is taken, and no record waits on
        disk.
        """
        return super().has_room(share) and not self.spill_accounts.spilling

    def extend(self, records: Sequence[Record]) -> None:
        if not self._has_to_spill():
            super().extend(records)
            return
        for record in records:
            self.push(record)

    def push(self, record: Record) -> None:
        accounts = self.spill_accounts
        if not accounts.spilling and self._has_to_spill():
            self.spill()
        if not accounts.spilling or isinstance(record, PriorityRecord):
            super().push(record)
            return
        self.bytes += accounts.push(record)
        if self.bytes > self.max_bytes:
            self._make_room()

    def spill(self) -> None:
        """Move to disk what waits, by arrival. Records that cannot wait on disk stay, and a copy of
        them is written first. Records that are on disk already stay as they are.
        """
        accounts = self.spill_accounts
        accounts.spilling = True
        on_disk = +accounts.left
        leaving = [self._leave(queue, on_disk) for queue in self._queues.values()]
        accounts.extend(_by_arrival(leaving))

    def priority_records(self) -> list[Record]:
        """Return the records in the queues that never go to disk."""
        return [record for record in self.in_queues() if isinstance(record, PriorityRecord)]

    def mark_in_doubt(self) -> None:
        """Put all records in the queues in doubt: the previous process may have sent them."""
        for queue in self._queues.values():
            queue.in_doubt = len(queue.records)

    def take_first(self, counts: Counter[RouteKey]) -> list[Record]:
        """Take this many of the first records of each symbol out of the queues, except those in
        flight or in doubt. The caller accounts for them.
        """
        taken: list[Record] = []
        counts = counts.copy()
        for queue in self._queues.values():
            stay: deque[Record] = deque()
            for index, record in enumerate(queue.records):
                key = record.route.route_key
                is_wanted = counts[key] > 0 and not isinstance(record, PriorityRecord)
                if is_wanted:
                    counts[key] -= 1
                if is_wanted and index >= queue.protected:
                    taken.append(record)
                else:
                    stay.append(record)
            queue.records = stay
        self._forget(taken)
        return taken

    def give_up(self, records: Iterable[Record], cause: str) -> None:
        """Count records that are in no queue as dropped. Gap events are sent first instead."""
        dropped = []
        for record in records:
            if record.route.message_type == GAP:
                self.put(priority_record(record))
            else:
                dropped.append(record)
        self._count_dropped(dropped, cause)

    def take_awaiting_write(self, count: int) -> list[Record]:
        """Take the first records that wait to be written out of the memory."""
        taken = self.spill_accounts.take_awaiting_write(count)
        self._shrink(taken)
        return taken

    def _has_to_spill(self) -> bool:
        return self.spill_accounts.spilling or self.bytes > self.max_bytes * SPILL_ABOVE

    def _leave(self, queue: PartitionQueue, on_disk: Counter[RouteKey]) -> list[Record]:
        """Take out of a queue what may wait on disk; note a copy of what may not."""
        records, protected = list(queue.records), queue.protected
        stay, copies, leaving = records[:protected], records[:protected], records[protected:]
        if on_disk or queue.message_type == GAP:
            stay, copies, leaving = _divide(queue, on_disk)
        self.spill_accounts.copy(copies)
        queue.records = deque(stay)
        return leaving

    def _drop_outside_queues(self, size: int) -> None:
        """Drop the oldest records that await their write: the disk accepts nothing."""
        accounts = self.spill_accounts
        being_written = self.take_awaiting_write(accounts.writing)
        dropped = self.take_awaiting_write(count_filling(accounts.awaiting_write, size))
        accounts.awaiting_write.extendleft(reversed(being_written))
        accounts.awaiting_write_bytes += size_of(being_written)
        self.bytes += size_of(being_written)
        accounts.forget(dropped)
        self.give_up(dropped, "outbox_full")

    def _forget(self, records: Sequence[Record]) -> None:
        super()._forget(records)
        if not self.spill_accounts.is_empty:
            self.spill_accounts.settle(records)


def _divide(
    queue: PartitionQueue, on_disk: Counter[RouteKey]
) -> tuple[list[Record], list[Record], list[Record]]:
    """Return the records of a queue that stay, those of them that are not on disk yet, and those
    that may leave. Count down `on_disk`.
    """
    stay: list[Record] = []
    copies: list[Record] = []
    leaving: list[Record] = []
    for index, record in enumerate(queue.records):
        key = record.route.route_key
        if isinstance(record, PriorityRecord):
            stay.append(record)
        elif on_disk[key] > 0:
            on_disk[key] -= 1
            stay.append(record)
        elif index < queue.protected:
            stay.append(record)
            copies.append(record)
        else:
            leaving.append(record)
    return stay, copies, leaving


def _by_arrival(queues: list[list[Record]]) -> list[Record]:
    """Return the records of all queues in one list, those of each queue in their order. `merge`
    takes five times as long, and there may be a million records.
    """
    received = attrgetter("received")
    arrivals = [*chain.from_iterable(accumulate(map(received, queue), max) for queue in queues)]
    records = [*chain.from_iterable(queues)]
    return [records[index] for index in sorted(range(len(records)), key=arrivals.__getitem__)]
