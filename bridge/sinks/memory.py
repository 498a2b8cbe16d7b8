"""A sink that keeps what it is given: the fake beside the real ones."""

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from bridge.core.model.events import AnyEvent, Event
from bridge.core.records.record import Record, Route
from bridge.telemetry import SinkCounts

_decode = msgspec.json.Decoder(AnyEvent).decode


class Unbuffered:
    """What every sink has to say that takes all at once: nothing waits, goes or fails."""

    drop_causes: tuple[str, ...] = ()
    failure_reasons: tuple[str, ...] = ()
    ready = True

    def pending(self) -> Counter[str]:
        return Counter()

    def pending_bytes(self) -> int:
        return 0

    def oldest_received(self) -> int | None:
        return None

    async def run(self) -> None:
        pass

    async def drained(self) -> None:
        pass


class MemorySink(Unbuffered):
    """Publishes into a list."""

    name = "memory"

    def __init__(self) -> None:
        self.counts = SinkCounts()
        self.records: list[Record] = []
        self._events: list[Event] = []

    @property
    def events(self) -> list[Event]:
        """What the records say."""
        self._events += [_decode(record.value) for record in self.records[len(self._events) :]]
        return self._events

    def push(self, records: Sequence[Record], latest: Mapping[Route, Event]) -> None:  # noqa: ARG002
        self.records += records
        self.counts.published.update(record.route.message_type for record in records)
