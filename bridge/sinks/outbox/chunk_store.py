"""The records of the outbox that are on disk: one SQLite file of chunks of records, first in,
first out.

A chunk is one row: a table of what it holds, and its records in one checked piece. So a thousand
records cost one step of SQLite, a start reads no record that may wait, and a piece that has gone
bad is named by its ids. Nothing here waits for an event loop: everything blocks, and is to be
called from one thread at a time.

WAL with `synchronous=NORMAL` survives a kill of the process whole; a power cut may cost what was
written since the last checkpoint, never the file (https://sqlite.org/pragma.html#pragma_synchronous).
"""

import fcntl
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import structlog

from bridge.core.records.record import NO_IDENTITY, Key, Record
from bridge.core.sequencing.position import Name, Position, furthest
from bridge.core.sequencing.rules import Ids
from bridge.sinks.outbox import chunk_codec
from bridge.sinks.outbox.chunk_codec import CorruptChunk, RouteRow, Routes

FILE = "outbox.sqlite"
LOCK_FILE = "outbox.lock"
# Kept free for the write-ahead log, under the bound and on the disk: a checkpoint comes at 4 MiB,
# and a chunk, with the pages its removal touches, stays below that. Without it nothing could be
# removed from a full disk: to SQLite that is writing as well.
LOG_MAX_BYTES = 16 * 2**20
# An emptied file that is larger gives its space back.
KEPT_PAGES = 2_000

# `user_version` is the greatest id of those chunks of which something may have been sent.
_SCHEMA = """CREATE TABLE IF NOT EXISTS chunks (
    id INTEGER PRIMARY KEY, routes BLOB NOT NULL, records BLOB NOT NULL)
"""
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

log = structlog.get_logger(__name__)


class Chunk(msgspec.Struct):
    """A chunk: what it holds, and its records in order; None where they cannot be read any more."""

    id: int
    rows: list[RouteRow]
    records: list[Record] | None


class ChunkStore:
    """The file in `folder`, at most `max_bytes` large with its log, or what the disk has; locked.

    Raises BlockingIOError where another process has the folder, OSError or sqlite3.Error where
    the folder cannot be used. A file gone bad is no reason: what can be read of it is taken over.

    `found` is what each chunk held at the start. Chunks up to `read_to` have been read since, those
    up to `begun` by this process or the one before.
    """

    # SQLite's pragma: NORMAL waits for the disk at a checkpoint only.
    synchronous = "NORMAL"

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.bytes = 0
        self.routes = Routes()
        self.found: list[RouteRow] = []
        # The greatest id of each stream that was ever written, where ids are contiguous.
        self.ends: dict[Name, int] = {}
        self.read_to = self.begun = self.last = 0
        self._path = folder / FILE
        self._max_bytes = max_bytes
        self._lock = (folder / LOCK_FILE).open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._open()
        except BaseException:
            self._lock.close()
            raise

    def append(self, records: Sequence[Record], *, begun: bool = False) -> None:
        """Write a chunk behind all others; `begun` where its records are in the queues as well, as
        are those of all before it.
        """
        routes, body, rows = chunk_codec.write(records)
        number = self.last + 1
        self._know(rows)
        self._bound()
        with self._transaction():
            values = (number, routes, body)
            self._database.execute("INSERT INTO chunks VALUES (?, ?, ?)", values)
            if begun:
                self._mark(number)
        self.last = number
        if begun:
            self.read_to = self.begun = number
        with suppress(sqlite3.Error):  # the chunk is written: nothing may say it is not
            self._measure()

    def read(self) -> Chunk | None:
        """The next chunk; it stays in the file, marked as begun.

        Raises CorruptChunk where not even what it holds can be read.
        """
        row = self._next("*", self.read_to)
        if row is None:
            return None
        number, routes, body = row
        rows = chunk_codec.read_routes(routes)
        chunk = Chunk(number, rows, self._records(number, rows, body))
        with suppress(sqlite3.Error):  # a full disk must not keep what it holds
            if number > self.begun:
                self._mark(number)
        self.read_to, self.begun = number, max(number, self.begun)
        return chunk

    def oldest(self, after: int) -> tuple[int, Counter[Key]] | None:
        """The first chunk behind one: its id, and how much of each symbol it holds.

        Raises CorruptChunk.
        """
        row = self._next("id, routes", after)
        return (
            None if row is None else (row[0], chunk_codec.counts(chunk_codec.read_routes(row[1])))
        )

    def remove(self, number: int) -> None:
        """Take out all chunks up to this one."""
        with self._transaction():
            self._database.execute("DELETE FROM chunks WHERE id <= ?", (number,))
        with suppress(sqlite3.Error):
            self._measure()
            self._shrink()

    def positions(self) -> dict[Name, Position]:
        """The furthest record of each stream that was found at the start."""
        return furthest(row.position for row in self.found)

    def ranges(self) -> dict[Name, list[Ids]]:
        """The ids that were found at the start, where they are contiguous, rising."""
        found: dict[Name, list[Ids]] = {}
        for row in self.found:
            if row.first_id != NO_IDENTITY:
                _add(found.setdefault((row.message_type, row.symbol), []), row.ids)
        return {name: sorted(ids) for name, ids in found.items()}

    def recover(self) -> None:
        """Begin a new file with what can still be read of this one and was not read before; the
        old one is set aside. `found` is then what the new one holds.
        """
        with suppress(sqlite3.Error):
            self._database.close()
        broken = self._path.with_name(f"{FILE}.broken-{time.time_ns()}")
        for ending in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                self._path.with_name(FILE + ending).rename(f"{broken}{ending}")
        self._connect()
        with suppress(sqlite3.Error):
            for row in _readable(broken, self.read_to):
                self._database.execute("INSERT OR IGNORE INTO chunks VALUES (?, ?, ?)", row)
        self._mark(max(self.begun, _begun(broken)))
        last = self.last
        self._survey()
        self.last = max(last, self.last)
        log.error("spill_corrupt", set_aside=str(broken), records_saved=self._found_count())

    def close(self) -> None:
        """Let go of the file and the lock."""
        with suppress(sqlite3.Error):
            self._database.close()
        self._lock.close()

    def _open(self) -> None:
        try:
            self._connect()
            self._survey()
        except (sqlite3.DatabaseError, CorruptChunk) as error:
            if not is_corrupt(error):
                raise
            self.recover()

    def _connect(self) -> None:
        self._database = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False, timeout=0
        )
        execute = self._database.execute
        execute(f"PRAGMA synchronous = {self.synchronous}")
        execute("PRAGMA journal_mode = WAL")
        execute(f"PRAGMA journal_size_limit = {LOG_MAX_BYTES // 4}")
        (self._page_size,) = execute("PRAGMA page_size").fetchone()
        execute(_SCHEMA)

    def _bound(self) -> None:
        """Let the file grow to its bound, and no further than the disk has room for it and its log;
        what is free inside it is used in any case.
        """
        parts = (self._path.with_name(FILE + ending) for ending in ("", "-wal"))
        own = sum(part.stat().st_size for part in parts)
        room = min(self._max_bytes, own + shutil.disk_usage(self._path.parent).free)
        # SQLite takes 0 for a question, and never goes below what there is.
        pages = max(1, (room - LOG_MAX_BYTES) // self._page_size)
        self._database.execute(f"PRAGMA max_page_count = {pages}")

    def _survey(self) -> None:
        """See what is there, without reading a record."""
        self.found = []
        self.last = 0
        for number, routes in self._database.execute("SELECT id, routes FROM chunks ORDER BY id"):
            if not self.last:
                self.read_to = max(self.read_to, number - 1)
            self.last = number
            self.found += chunk_codec.read_routes(routes)
        self._know(self.found)
        (self.begun,) = self._database.execute("PRAGMA user_version").fetchone()
        # An emptied file counts on: a mark is never ahead of what is written.
        self.last = max(self.last, self.begun, self.read_to)
        if not self.found:
            self.read_to = self.last
        self._measure()

    def _know(self, rows: list[RouteRow]) -> None:
        for row in rows:
            self.routes.of(row)
            if row.first_id != NO_IDENTITY:
                name = (row.message_type, row.symbol)
                self.ends[name] = max(row.last_id, self.ends.get(name, 0))

    def _records(self, number: int, rows: list[RouteRow], body: object) -> list[Record] | None:
        try:
            return chunk_codec.read_records(body, rows, self.routes)
        except CorruptChunk:
            log.error("spill_chunk_corrupt", chunk=number)  # noqa: TRY400 - the words say it
            return None

    def _next(self, columns: str, after: int) -> tuple[int, bytes, bytes] | None:
        query = f"SELECT {columns} FROM chunks WHERE id > ? ORDER BY id LIMIT 1"  # noqa: S608
        found: tuple[int, bytes, bytes] | None = self._database.execute(query, (after,)).fetchone()
        return found

    def _mark(self, number: int) -> None:
        self._database.execute(f"PRAGMA user_version = {number}")

    def _measure(self) -> None:
        (self._pages,) = self._database.execute("PRAGMA page_count").fetchone()
        (free,) = self._database.execute("PRAGMA freelist_count").fetchone()
        self.bytes = (self._pages - free) * self._page_size

    def _shrink(self) -> None:
        if self._pages > KEPT_PAGES and self._next("id, routes", 0) is None:
            self._database.execute("VACUUM")
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._measure()

    def _found_count(self) -> int:
        return sum(row.count for row in self.found)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:  # SQLite ends some by itself
                self._database.execute("ROLLBACK")
            raise


def is_corrupt(error: Exception) -> bool:
    """Whether the file is damaged, or not an SQLite file."""
    code = getattr(error, "sqlite_errorcode", None) or 0
    return isinstance(error, CorruptChunk) or code & 0xFF in _CORRUPT


def is_full(error: Exception) -> bool:
    """Whether the file has reached its bound, or the disk its end."""
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


def _add(ranges: list[Ids], ids: Ids) -> None:
    if ranges and ranges[-1][0] <= ids[0] <= ranges[-1][1] + 1:
        ids = (ranges[-1][0], max(ids[1], ranges.pop()[1]))
    ranges.append(ids)


def _readable(path: Path, after: int) -> Iterator[tuple[int, bytes, bytes]]:
    """The chunks of a damaged file, from its beginning and from its end up to the damage."""
    for order in ("ASC", "DESC"):
        database = sqlite3.connect(path, isolation_level=None)
        try:
            query = f"SELECT * FROM chunks WHERE id > ? ORDER BY id {order}"  # noqa: S608
            for row in database.execute(query, (after,)):
                if _is_whole(row):
                    yield row
            return  # noqa: TRY300 - whole, after all
        except sqlite3.DatabaseError:
            continue
        finally:
            database.close()


def _begun(path: Path) -> int:
    """The mark of a damaged file; 0 where it cannot be read."""
    database = sqlite3.connect(path, isolation_level=None)
    number: int = 0
    last: int | None = None
    with suppress(sqlite3.DatabaseError):
        (number,) = database.execute("PRAGMA user_version").fetchone()
        (last,) = database.execute("SELECT max(id) FROM chunks").fetchone()
    database.close()
    return min(number, last or 0)


def _is_whole(row: tuple[int, bytes, bytes]) -> bool:
    try:
        chunk_codec.read_routes(row[1])
    except CorruptChunk:
        return False
    return True
