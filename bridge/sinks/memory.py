"""A sink that keeps what it is given: the fake beside the real ones."""

from collections import Counter

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

    def push(self, record: Record, event: Event) -> None:
        self.records.append(record)
        self.events.append(event)
        self.counts.published[record.route.message_type] += 1

    def wake(self) -> None:
        pass

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
