"""What the pipeline and the service know of a sink."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

from bridge.core.model.events import Event
from bridge.core.records.record import Record, Route
from bridge.telemetry import SinkCounts


class Sink(Protocol):
    """Takes records without ever waiting, and drains them in its own time."""

    name: str
    counts: SinkCounts
    # Labels of its metrics, known from the start: a series that is not there adds up to nothing.
    drop_causes: tuple[str, ...]
    failure_reasons: tuple[str, ...]

    @property
    def ready(self) -> bool:
        """Connected, and the last thing tried has worked."""
        ...

    def push(self, records: Sequence[Record], latest: Mapping[Route, Event]) -> None:
        """Take what one read has brought: records, and of each route the last event. Where there is
        no room, the sink's policy says what goes.
        """
        ...

    def pending(self) -> Counter[str]:
        """Records in the buffer by message type: the third term of the accounts."""
        ...

    def pending_bytes(self) -> int:
        """What those records take up, in bytes."""
        ...

    def oldest_received(self) -> int | None:
        """When the frame of the oldest record in the buffer arrived, in microseconds."""
        ...

    async def run(self) -> None:
        """Drain for ever. Raises SinkRefused where the settings are wrong at the start."""
        ...

    async def drained(self) -> None:
        """Return when the buffer is empty."""
        ...
