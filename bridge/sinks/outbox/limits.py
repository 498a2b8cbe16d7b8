"""Learns from a broker's refusals which batches, timestamps and records it accepts."""

from collections.abc import Sequence

from bridge.core.records.record import Record

# What a topic accepts may change later, but each refusal costs time. So what was refused is tried
# again only after this many accepted batches, and after twice as many each time it was refused.
TRY_AFTER_BATCHES = 1_000
MAX_TRY_AFTER_BATCHES = 1_000_000
# No broker accepts more.
BOUNDLESS_BYTES = 2**24
# Timestamps that differ less from our clock are recent.
RECENT_MS = 60_000
NO_TIMESTAMP = -1
# If a partition refuses more records one after the other, it is the partition that is wrong.
MAX_REFUSED_IN_ROW = 10


class Probation:
    """Counts accepted batches until something that was refused is tried again."""

    __slots__ = ("_taken", "_try_after")

    def __init__(self) -> None:
        self._taken = 0
        self._try_after = TRY_AFTER_BATCHES

    def refuse(self) -> None:
        """Note a refusal."""
        if self._taken:
            self._try_after = min(self._try_after * 2, MAX_TRY_AFTER_BATCHES)
        self._taken = 0

    def take(self) -> bool:
        """Note an accepted batch; return whether to try again."""
        self._taken += 1
        return self._taken % self._try_after == 0


class BatchLimit:
    """The limit of one partition.

    `bytes` is the size of all values in a batch that is accepted; None if no batch was refused.
    `refused` is a record that was refused in a batch of its own.
    """

    __slots__ = ("_probation", "bytes", "refused")

    def __init__(self) -> None:
        self.bytes: int | None = None
        self.refused: Record | None = None
        self._probation = Probation()

    def refuse(self, batch: Sequence[Record]) -> None:
        """Note that a batch was too large: halve the limit."""
        if len(batch) == 1:
            self.refused = batch[0]
            return
        self._probation.refuse()
        self.bytes = sum(len(record.value) for record in batch) // 2

    def take(self) -> None:
        """Note that a batch was accepted."""
        if self.bytes is not None and self._probation.take():
            self.bytes = self.bytes * 2 if self.bytes < BOUNDLESS_BYTES else None


class Timestamps:
    """The timestamps that one partition accepts.

    By default each record has the time of its event. If the broker refuses that, only recent times
    are kept, and other records get the time of sending. If it refuses that too, its clock and ours
    differ, and records get no time. `refusals` counts up to 2.
    """

    __slots__ = ("_probation", "refusals")

    def __init__(self) -> None:
        self.refusals = 0
        self._probation = Probation()

    def refuse(self) -> None:
        """Note that the timestamp of some record in a batch was refused."""
        self._probation.refuse()
        self.refusals = min(self.refusals + 1, 2)

    def take(self) -> None:
        """Note that a batch was accepted."""
        if self.refusals and self._probation.take():
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
