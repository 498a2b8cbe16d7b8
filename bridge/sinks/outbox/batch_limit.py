"""How much a broker takes in one batch, learned from what it refuses."""

from collections.abc import Sequence

from bridge.core.records.record import Record

# A topic's limit may be raised again, and a refusal costs a producer: so more is tried only after
# so many batches that were taken, and after twice as many each time that it was in vain.
TRY_AFTER_BATCHES = 1_000
MAX_TRY_AFTER_BATCHES = 1_000_000
# No broker takes more.
BOUNDLESS_BYTES = 2**24


class BatchLimit:
    """Of one partition: `bytes` of values that are taken, None where nothing was ever refused;
    `refused` is a record that was refused alone.
    """

    __slots__ = ("_taken", "_try_after", "bytes", "refused")

    def __init__(self) -> None:
        self.bytes: int | None = None
        self.refused: Record | None = None
        self._taken = 0
        self._try_after = TRY_AFTER_BATCHES

    def refuse(self, batch: Sequence[Record]) -> None:
        """These were too much at once: be content with half of them."""
        if len(batch) == 1:
            self.refused = batch[0]
            return
        if self._taken:
            self._try_after = min(self._try_after * 2, MAX_TRY_AFTER_BATCHES)
        self._taken = 0
        self.bytes = sum(len(record.value) for record in batch) // 2

    def take(self) -> None:
        """A batch was taken."""
        if self.bytes is None:
            return
        self._taken += 1
        if self._taken % self._try_after == 0:
            self.bytes = self.bytes * 2 if self.bytes < BOUNDLESS_BYTES else None
