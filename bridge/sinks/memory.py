"""A sink that keeps its records in memory, for tests and measurements."""

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import msgspec

from bridge.core.model.events import AnyEvent, Event
from bridge.core.records.record import Record, Route
from bridge.telemetry import SinkCounts

_decode = msgspec.json.Decoder(AnyEvent).decode


class Unbuffered:
    """The base of sinks without a buffer: no record waits, is dropped, or fails."""

    drop_causes: tuple[str, ...] = ()
    failure_reasons: tuple[str, ...] = ()
    limits: Mapping[str, int] = MappingProxyType({})
    ready = True
    records_on_disk = 0

    def pending(self) -> Counter[str]:
        return Counter()

    def pending_bytes(self) -> int:
        return 0

    def spill_bytes(self) -> int:
        return 0

    def buffer_share(self) -> float:
        return 0.0

    def oldest_received(self) -> int | None:
        return None

    async def run(self) -> None:
        pass

    async def drained(self) -> None:
        pass


class MemorySink(Unbuffered):
    """Publishes to a list."""

    name = "memory"

    def __init__(self) -> None:
        self.counts = SinkCounts()
        self.records: list[Record] = []
        self._events: list[Event] = []

    @property
    def events(self) -> list[Event]:
        """Return the events of the records, decoded."""
        self._events += [_decode(record.value) for record in self.records[len(self._events) :]]
        return self._events

    def push(self, records: Sequence[Record], latest: Mapping[Route, Event]) -> None:  # noqa: ARG002
        self.records += records
        self.counts.published.update(record.route.message_type for record in records)
