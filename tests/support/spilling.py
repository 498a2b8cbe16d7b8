"""Records for the tests of the spiller, numbered per route so that order and loss show."""

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
    """Return the `number`th record of a route; the number is its id if ids are contiguous."""
    identity = number if of.message_type in {"trade", "agg_trade"} else NO_IDENTITY
    value = number.to_bytes(4) + b"x" * size
    return Record(of, received // 1000, received, value, identity)


def number_of(of: Record) -> int:
    return int.from_bytes(of.value[:4])


def content(records: Iterable[Record]) -> list[tuple[object, ...]]:
    """Return the parts of the records that must survive, for comparison."""
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
    """The process is killed here."""


class QuickSpill(ChunkStore):
    """A store that never waits for the disk; written data still outlives the process."""

    synchronous = "OFF"


class FrailSpill(QuickSpill):
    """A store that cannot write while `fails` is set.

    It kills the process at the `fuse`th step, before or after the step is done.
    """

    fails = False
    fuse = 0

    def append(self, *chunks: Sequence[Record], begun: bool = False) -> None:
        if self.fails:
            raise sqlite3.OperationalError("disk I/O error")
        self._step()
        super().append(*chunks, begun=begun)
        self._step()

    def pass_by(self) -> None:
        if self.fails:
            raise sqlite3.OperationalError("disk I/O error")
        self._step()
        super().pass_by()
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
