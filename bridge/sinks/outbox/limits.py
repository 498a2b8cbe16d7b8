"""Learns from a broker's refusals which batches, timestamps and records it accepts."""

from collections.abc import Sequence

from bridge.core.records.record import Record

# What a topic accepts may change later. A larger size is tried after so many accepted batches that
# the limit keeps small: a refusal costs one request.
TRY_SIZE_AFTER_BATCHES = 100
# A refused timestamp lets the partition rest for a second. So timestamps are tried again after so
# many accepted batches, and after twice as many each time they were refused.
TRY_TIMESTAMPS_AFTER_BATCHES, MAX_TRY_AFTER_BATCHES = 1_000, 1_000_000
# Timestamps that differ less from our clock are recent.
RECENT_MS = 60_000
NO_TIMESTAMP = -1
# If a partition refuses more records one after the other, it is the partition that is wrong.
MAX_REFUSED_IN_ROW = 10


class BatchLimit:
    """The limit of one partition.

    `bytes` is how large all values of a batch may be together; None if no batch was refused, or if
    twice as much was accepted since. `refused` is a record that was refused in a batch of its own.
    """

    __slots__ = ("_kept_small", "_refused_bytes", "bytes", "refused")

    def __init__(self) -> None:
        self.bytes: int | None = None
        self.refused: Record | None = None
        self._refused_bytes = 0
        # How many batches were accepted that the limit kept small.
        self._kept_small = 0

    def refuse(self, batch: Sequence[Record]) -> bool:
        """Note that a batch was too large; return whether another one should be tried at once."""
        if len(batch) == 1:
            is_first = batch[0] is not self.refused
            self.refused = batch[0]
            return is_first
        self._kept_small = 0
        self._refused_bytes = _size_of(batch)
        self.bytes = self._refused_bytes // 2
        return True

    def take(self, batch: Sequence[Record]) -> None:
        """Note that a batch was accepted. If the limit keeps batches small, raise it in the end."""
        if self.bytes is None:
            return
        size = _size_of(batch)
        if size >= 2 * self._refused_bytes:
            self.bytes = None
        elif 2 * size > self.bytes:
            self._kept_small += 1
            if self._kept_small == TRY_SIZE_AFTER_BATCHES:
                self._kept_small = 0
                self.bytes *= 2


class Timestamps:
    """The timestamps that one partition accepts.

    By default each record has the time of its event. If the broker refuses that, only recent times
    are kept, and other records get the time of sending. If it refuses that too, its clock and ours
    differ, and records get no time. `refusals` counts up to 2.
    """

    __slots__ = ("_taken", "_try_after", "refusals")

    def __init__(self) -> None:
        self.refusals = 0
        self._taken = 0
        self._try_after = TRY_TIMESTAMPS_AFTER_BATCHES

    def refuse(self) -> None:
        """Note that the timestamp of some record in a batch was refused."""
        if self._taken:
            self._try_after = min(self._try_after * 2, MAX_TRY_AFTER_BATCHES)
        self._taken = 0
        self.refusals = min(self.refusals + 1, 2)

    def take(self) -> None:
        """Note that a batch was accepted."""
        if self.refusals:
            self._taken += 1
            if self._taken == self._try_after:
                self.refusals = 0

    def replaced(self, timestamp_ms: int, now_ms: int) -> int:
        """Return the timestamp to send after a refusal; -1 for none."""
        if self.refusals > 1:
            return NO_TIMESTAMP
        return timestamp_ms if abs(now_ms - timestamp_ms) <= RECENT_MS else now_ms


class RefusedRecord:
    """Finds by halving the record for which a broker refuses a batch.

    `record` is one that was refused in a batch of its own. `batch_size` is how many records the
    next batch may hold; 0 for any number.
    """

    __slots__ = ("_in_row", "_suspects", "record")

    def __init__(self) -> None:
        self.record: Record | None = None
        # One of so many first records of the queue is refused.
        self._suspects = 0
        self._in_row = 0

    @property
    def batch_size(self) -> int:
        return max(self._suspects // 2, 1) if self._suspects else 0

    def refuse(self, batch: Sequence[Record]) -> bool:
        """Note that a batch was refused; return whether another one should be tried at once."""
        self._suspects = len(batch)
        if len(batch) > 1:
            return True
        if batch[0] is self.record or self._in_row == MAX_REFUSED_IN_ROW:
            return False
        self.record = batch[0]
        self._in_row += 1
        return True

    def take(self, count: int) -> None:
        """Note that a batch of `count` records was accepted."""
        self._suspects = max(self._suspects - count, 0)
        self._in_row = 0

    def dropped(self) -> None:
        """Note that `record` has left the queue."""
        self.record = None
        self._suspects = 0


def _size_of(batch: Sequence[Record]) -> int:
    return sum(len(record.value) for record in batch)
