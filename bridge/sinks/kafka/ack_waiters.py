"""Records whose end somebody waits for: acknowledged by Kafka, or given up."""

from collections.abc import Collection, Iterable, Sequence

from bridge.core.delivery.losses import Loss
from bridge.core.records.record import Record
from bridge.core.sequencing.position import Name


class AckWaiter:
    """For these ids of a stream."""

    def __init__(self, name: Name, ids: Collection[int]) -> None:
        self.name = name
        self.left = set(ids)
        self.given_up: set[int] = set()


class AckWaiters:
    """All that is waited for; false where that is nothing, as it mostly is."""

    def __init__(self) -> None:
        # One for each gap that is being closed.
        self._waits: list[AckWaiter] = []

    def __bool__(self) -> bool:
        return bool(self._waits)

    def begin(self, name: Name, ids: Collection[int]) -> AckWaiter:
        """AckWaiter for these ids."""
        wait = AckWaiter(name, ids)
        self._waits.append(wait)
        return wait

    def end(self, wait: AckWaiter) -> None:
        """AckWaiter no longer."""
        self._waits.remove(wait)

    def published(self, records: Sequence[Record]) -> None:
        """These are acknowledged."""
        for wait in self._waits:
            wait.left.difference_update(
                record.identity
                for record in records
                if (record.route.message_type, record.route.symbol) == wait.name
            )

    def lost(self, losses: Iterable[Loss]) -> None:
        """These were given up."""
        for loss in losses:
            for wait in self._waits:
                if wait.name == loss.name:
                    gone = {i for i in wait.left if loss.first_id <= i <= loss.last_id}
                    wait.left -= gone
                    wait.given_up |= gone
