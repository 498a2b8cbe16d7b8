"""Records for the tests of the spiller: numbered per route, so that order and loss show."""

import sqlite3
from collections.abc import Iterable, Sequence

from bridge.core.records.record import NO_IDENTITY, Record, Route
from bridge.sinks.outbox.chunk_store import LOG_MAX_BYTES, Chunk, ChunkStore

SMALLEST_BYTES = LOG_MAX_BYTES + 40 * 4096
LARGE = 2**30


def route(symbol: str, message_type: str = "trade", topic: str = "") -> Route:
    topic = topic or f"binance.spot.{message_type}"
    return Route(message_type, symbol, topic, symbol.encode(), f"{topic}:{symbol}", ())


def record(of: Route, number: int, size: int = 10, received: int = 0) -> Record:
    """The `number`th record of a route; its id, where ids are contiguous."""
    identity = number if of.message_type in {"trade", "agg_trade"} else NO_IDENTITY
    value = number.to_bytes(4) + b"x" * size
    return Record(of, received // 1000, received, value, identity)


def number_of(of: Record) -> int:
    return int.from_bytes(of.value[:4])


def content(records: Iterable[Record]) -> list[tuple[object, ...]]:
    """All of the records that has to survive: what two of them are compared by."""
    return [
        (
            *(r.route.message_type, r.route.symbol, r.route.topic, r.route.key, r.route.channel),
            *(r.timestamp_ms, r.received, r.identity, r.value),
        )
        for r in records
    ]


def read_all(spill: ChunkStore) -> list[Record]:
    found: list[Record] = []
    while chunk := spill.read():
        found += chunk.records or []
    return found


class Killed(BaseException):
    """The process ends here."""


class QuickSpill(ChunkStore):
    """A disk that is never waited for: what a process has written outlives it all the same."""

    synchronous = "OFF"


class FrailSpill(QuickSpill):
    """A disk that takes nothing while `fails` is set, and that ends the process at the `fuse`th
    step, before it is done or after.
    """

    fails = False
    fuse = 0

    def append(self, records: Sequence[Record], *, begun: bool = False) -> None:
        if self.fails:
            raise sqlite3.OperationalError("disk I/O error")
        self._step()
        super().append(records, begun=begun)
        self._step()

    def read(self) -> Chunk | None:
        self._step()
        chunk = super().read()
        self._step()
        return chunk

    def remove(self, number: int) -> None:
        if self.fails:
            raise sqlite3.OperationalError("disk I/O error")
        self._step()
        super().remove(number)
        self._step()

    def _step(self) -> None:
        self.fuse -= 1
        if self.fuse == 0:
            raise Killed
