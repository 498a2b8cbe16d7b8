"""What an outbox has given to the disk: the accounts of it, symbol by symbol.

    oldest                                                                  newest
    queues (outbox.py)            disk (chunk_store.py)      behind, on its way to the disk
    ├── records on disk too ──┤
                              ├── unread: on disk alone ──┤

While anything is on disk, everything older than its newest record is there too, unless it was
acknowledged: so a kill loses what is behind, and nothing in between. A symbol's records leave in
their order: that a chunk is done with shows by counting, without a word for each record.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable
from operator import attrgetter

from bridge.core.records.record import Key, PriorityRecord, Record

# A record's objects beside its value: the struct, its integers, its place in the queue.
RECORD_OVERHEAD_BYTES = 200


class SpillAccounts:
    """Everything of an outbox that is on disk or on its way there; `changed` is called when there
    may be something to do for whoever moves it along.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self.changed = changed
        # While set, new records go behind.
        self.spilling = False
        # What was on its way to a broker when it began: stays in its queues, is first on disk.
        self.copies: list[Record] = []
        self.awaiting_write: deque[Record] = deque()
        self.awaiting_write_bytes = 0
        # The first so many of `behind` are being written: they are not dropped.
        self.writing = 0
        # By message type.
        self.unread: Counter[str] = Counter()
        # By symbol: records on disk or on their way there that have not been acknowledged or given
        # up, and those that have, since the oldest chunk on disk began.
        self.left: Counter[Key] = Counter()
        self.done: Counter[Key] = Counter()

    def __len__(self) -> int:
        """Records that are in no queue."""
        return self.unread.total() + len(self.awaiting_write)

    @property
    def is_empty(self) -> bool:
        """Whether neither the disk nor the way there holds anything that matters."""
        return not self.spilling and not any(self.left.values())

    def push(self, record: Record) -> int:
        """Put a record behind all others; returns the memory it takes, in bytes."""
        size = size_of((record,))
        self.awaiting_write.append(record)
        self.awaiting_write_bytes += size
        self.left[record.route.name] += 1
        self.changed()
        return size

    def extend(self, records: list[Record]) -> None:
        """Put records behind all others, as `push` does."""
        self.awaiting_write.extend(records)
        self.awaiting_write_bytes += size_of(records)
        self._count(records)
        self.changed()

    def copy(self, records: list[Record]) -> None:
        """Take note of records that stay in their queues."""
        self.copies += records
        self._count(records)

    def _count(self, records: list[Record]) -> None:
        """By their routes first, which is quick: there may be a million of them."""
        for route, count in Counter(map(attrgetter("route"), records)).items():
            self.left[route.name] += count

    def read(self, message_types: Counter[str]) -> None:
        """A chunk has been read."""
        self.unread = self.unread - message_types

    def settle(self, records: Iterable[Record]) -> None:
        """Note records that were in a queue, or on disk alone, and are acknowledged or given up."""
        for record in records:
            key = record.route.name
            if self.left[key] > 0 and not isinstance(record, PriorityRecord):
                self.left[key] -= 1
                self.done[key] += 1
        self.changed()

    def take_awaiting_write(self, count: int) -> list[Record]:
        """Take the first records of what is on its way to the disk."""
        taken = [self.awaiting_write.popleft() for _ in range(min(count, len(self.awaiting_write)))]
        self.awaiting_write_bytes -= size_of(taken)
        return taken

    def forget(self, records: Iterable[Record]) -> None:
        """Records that were on their way to the disk will not go there."""
        self.left.subtract(record.route.name for record in records)

    def gone(self, chunk: Counter[Key]) -> None:
        """The oldest chunk has left the disk: this is what it held."""
        self.done.subtract(chunk)

    def is_done(self, chunk: Counter[Key]) -> bool:
        """Whether all of the oldest chunk has been acknowledged or given up."""
        return all(self.done[key] >= count for key, count in chunk.items())

    def rebase(self, queues: Counter[Key], disk: Counter[Key]) -> Counter[Key]:
        """The disk was begun anew: it holds so much, and nothing of what is in the queues. Returns
        what is lost.
        """
        before = +self.left
        self.copies.clear()
        in_queues = queues & before
        behind = Counter(record.route.name for record in self.awaiting_write)
        self.left = in_queues + disk + behind
        self.done = Counter({key: -count for key, count in in_queues.items()})
        return before - self.left


def size_of(records: Iterable[Record]) -> int:
    """The memory records take up, in bytes."""
    sizes = [len(record.value) for record in records]
    return sum(sizes) + RECORD_OVERHEAD_BYTES * len(sizes)
