"""The accounts of the records that an outbox has given to the disk, by symbol.

    oldest                                                                   newest
    queues (outbox.py)            disk (chunk_store.py)       awaiting write, in memory
    ├── also on disk ─────────┤
                              ├── unread: only on disk ──┤

While anything is on disk, every older record is on disk too, unless it was acknowledged. So a kill
loses the records that await their write, and leaves no hole before them. The records of a symbol
leave in their order. So counting them is enough to know when a chunk is done; no record needs a
mark of its own.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Iterable
from operator import attrgetter

from bridge.core.records.record import PriorityRecord, Record, RouteKey
from bridge.sinks.outbox.outbox import size_of


class SpillAccounts:
    """The records of an outbox that are on disk or await their write.

    `changed` is set when the spiller may have work, `urgent` when more than `chunk_max_bytes` await
    their write.
    """

    def __init__(self, chunk_max_bytes: int) -> None:
        self.chunk_max_bytes = chunk_max_bytes
        self.changed = asyncio.Event()
        self.urgent = asyncio.Event()
        # While set, new records are written to disk.
        self.spilling = False
        # The records that were in flight or in doubt when spilling began. They stay in their
        # queues; these copies are written first.
        self.copies: list[Record] = []
        self.awaiting_write: deque[Record] = deque()
        self.awaiting_write_bytes = 0
        # How many of the first records in `awaiting_write` are being written: they are not dropped.
        self.writing = 0
        # Records that are only on disk, by message type.
        self.unread: Counter[str] = Counter()
        # By symbol: the records on disk or awaiting their write that are neither acknowledged nor
        # dropped, and those that are, since the oldest chunk on disk began.
        self.left: Counter[RouteKey] = Counter()
        self.done: Counter[RouteKey] = Counter()

    def __len__(self) -> int:
        """Return the number of records that are in no queue."""
        return self.unread.total() + len(self.awaiting_write)

    @property
    def is_empty(self) -> bool:
        """Return whether no record is on disk or on its way there."""
        return not self.spilling and not any(self.left.values())

    def push(self, record: Record) -> int:
        """Append a record to those that await their write; return the memory it takes, in bytes."""
        size = size_of((record,))
        self.awaiting_write.append(record)
        self.awaiting_write_bytes += size
        self.left[record.route.route_key] += 1
        self._notify()
        return size

    def extend(self, records: list[Record]) -> None:
        """Append records to those that await their write, as `push` does."""
        self.awaiting_write.extend(records)
        self.awaiting_write_bytes += size_of(records)
        self._count(records)
        self._notify()

    def copy(self, records: list[Record]) -> None:
        """Have a copy of records written that stay in their queues."""
        self.copies += records
        self._count(records)

    def read(self, message_types: Counter[str]) -> None:
        """Note that a chunk with these records was read."""
        self.unread = self.unread - message_types

    def settle(self, records: Iterable[Record]) -> None:
        """Note that records of a queue or of the disk were acknowledged or dropped."""
        for record in records:
            key = record.route.route_key
            if self.left[key] > 0 and not isinstance(record, PriorityRecord):
                self.left[key] -= 1
                self.done[key] += 1
        self._notify()

    def take_awaiting_write(self, count: int) -> list[Record]:
        """Take the first records that await their write."""
        taken = [self.awaiting_write.popleft() for _ in range(min(count, len(self.awaiting_write)))]
        self.awaiting_write_bytes -= size_of(taken)
        return taken

    def forget(self, records: Iterable[Record]) -> None:
        """Note that records that awaited their write will not be written."""
        self.left.subtract(record.route.route_key for record in records)

    def remove_chunk(self, chunk: Counter[RouteKey]) -> None:
        """Note that the oldest chunk, which held these records, has left the disk."""
        self.done.subtract(chunk)

    def is_done(self, chunk: Counter[RouteKey]) -> bool:
        """Return whether every record of the oldest chunk was acknowledged or dropped."""
        return all(self.done[key] >= count for key, count in chunk.items())

    def rebase(self, queues: Counter[RouteKey], disk: Counter[RouteKey]) -> Counter[RouteKey]:
        """Start over with a new file, which holds `disk` and no record of the queues. Return the
        lost records.
        """
        before = +self.left
        self.copies.clear()
        in_queues = queues & before
        awaiting_write = Counter(record.route.route_key for record in self.awaiting_write)
        self.left = in_queues + disk + awaiting_write
        self.done = Counter({key: -count for key, count in in_queues.items()})
        return before - self.left

    def _notify(self) -> None:
        self.changed.set()
        if self.awaiting_write_bytes > self.chunk_max_bytes:
            self.urgent.set()

    def _count(self, records: list[Record]) -> None:
        # By route first, which is quick: there may be a million records.
        for route, count in Counter(map(attrgetter("route"), records)).items():
            self.left[route.route_key] += count
