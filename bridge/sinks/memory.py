"""A sink that keeps what it is given: the fake beside the real ones."""

from collections import Counter
from collections.abc import Sequence

from bridge.core.events import Event
from bridge.core.record import Record
from bridge.telemetry import SinkCounts


class MemorySink:
    """Publishes into a list."""

    name = "memory"
    drop_causes: tuple[str, ...] = ()
    failure_kinds: tuple[str, ...] = ()
    ready = True

    def __init__(self) -> None:
        self.counts = SinkCounts()
        self.records: list[Record] = []
        self.events: list[Event] = []

    def push(self, records: Sequence[Record], events: Sequence[Event]) -> None:
        self.records += records
        self.events += events
        self.counts.published.update(record.route.message_type for record in records)

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
