"""Learns from a broker's refusals which batches and which timestamps it accepts."""

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
