"""Waiting until records are acknowledged by Kafka, or given up."""

from collections.abc import Collection, Iterable, Sequence

from bridge.core.delivery.losses import Loss
from bridge.core.records.record import Record
from bridge.core.sequencing.position import StreamKey


class AckWaiter:
    """The ids of a stream that are neither acknowledged nor given up."""

    def __init__(self, key: StreamKey, ids: Collection[int]) -> None:
        self.stream_key = key
        self.left = set(ids)
        self.given_up: set[int] = set()


class AckWaiters:
    """All ids that are waited for. False if there are none, which is the usual case."""

    def __init__(self) -> None:
        # One for each gap that is being closed.
        self._waiters: list[AckWaiter] = []

    def __bool__(self) -> bool:
        return bool(self._waiters)

    def begin(self, key: StreamKey, ids: Collection[int]) -> AckWaiter:
        """Start to wait for these ids."""
        waiter = AckWaiter(key, ids)
        self._waiters.append(waiter)
        return waiter

    def end(self, waiter: AckWaiter) -> None:
        """Stop waiting."""
        self._waiters.remove(waiter)

    def acknowledged(self, records: Sequence[Record]) -> None:
        """Note that Kafka has these records."""
        for waiter in self._waiters:
            waiter.left.difference_update(
                record.identity
                for record in records
                if record.route.stream_key == waiter.stream_key
            )

    def lost(self, losses: Iterable[Loss]) -> None:
        """Note that these records were given up."""
        for loss in losses:
            for waiter in self._waiters:
                if waiter.stream_key == loss.stream_key:
                    lost = {i for i in waiter.left if loss.first_id <= i <= loss.last_id}
                    waiter.left -= lost
                    waiter.given_up |= lost
