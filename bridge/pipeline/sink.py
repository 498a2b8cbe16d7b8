"""The interface of a sink, as the pipeline and the service use it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

from bridge.core.model.events import Event
from bridge.core.records.record import Record, Route
from bridge.telemetry import SinkCounts


class Sink(Protocol):
    """Takes records without waiting, and drains them in its own task."""

    name: str
    counts: SinkCounts
    # The label values of its metrics, known from the start, so that every series exists at zero.
    drop_causes: tuple[str, ...]
    failure_reasons: tuple[str, ...]
    # The bounds of its buffers, by the name of the metric.
    limits: Mapping[str, int]

    @property
    def records_on_disk(self) -> int:
        """Return the number of records on disk."""
        ...

    @property
    def ready(self) -> bool:
        """Return whether the sink is connected and its last operation succeeded."""
        ...

    def push(self, records: Sequence[Record], latest: Mapping[Route, Event]) -> None:
        """Take the records of one read, and the last event of each route.

        If the buffer is full, the sink's policy decides what to drop.
        """
        ...

    def pending(self) -> Counter[str]:
        """Return the number of records in the buffer by message type."""
        ...

    def pending_bytes(self) -> int:
        """Return the size of the records in the buffer, in bytes."""
        ...

    def spill_bytes(self) -> int:
        """Return the size of the records on disk, in bytes."""
        ...

    def buffer_share(self) -> float:
        """Return how much of the buffer in memory is taken, 0 to 1."""
        ...

    def oldest_received(self) -> int | None:
        """Return when the frame of the oldest record in the buffer arrived, in microseconds."""
        ...

    async def run(self) -> None:
        """Drain until cancelled. Raises SinkRefused if Kafka refuses the settings at the start."""
        ...

    async def drained(self) -> None:
        """Return when the buffer is empty."""
        ...
