"""Learns the size of the batches that a broker accepts, from its refusals."""

from collections.abc import Sequence

from bridge.core.records.record import Record

# The limit of a topic may be raised later, but each refusal costs a producer. So a larger batch is
# tried only after this many accepted batches, and after twice as many each time it was refused.
TRY_AFTER_BATCHES = 1_000
MAX_TRY_AFTER_BATCHES = 1_000_000
# No broker accepts more.
BOUNDLESS_BYTES = 2**24


class BatchLimit:
    """The limit of one partition.

    `bytes` is the size of all values in a batch that is accepted; None if no batch was refused.
    `refused` is a record that was refused in a batch of its own.
    """

    __slots__ = ("_taken", "_try_after", "bytes", "refused")

    def __init__(self) -> None:
        self.bytes: int | None = None
        self.refused: Record | None = None
        self._taken = 0
        self._try_after = TRY_AFTER_BATCHES

    def refuse(self, batch: Sequence[Record]) -> None:
        """Note that a batch was too large: halve the limit."""
        if len(batch) == 1:
            self.refused = batch[0]
            return
        if self._taken:
            self._try_after = min(self._try_after * 2, MAX_TRY_AFTER_BATCHES)
        self._taken = 0
        self.bytes = sum(len(record.value) for record in batch) // 2

    def take(self) -> None:
        """Note that a batch was accepted."""
        if self.bytes is None:
            return
        self._taken += 1
        if self._taken % self._try_after == 0:
            self.bytes = self.bytes * 2 if self.bytes < BOUNDLESS_BYTES else None
