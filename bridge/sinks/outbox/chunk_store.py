"""The records of the outbox on disk: one SQLite file of chunks, first in, first out.

A chunk is one row. It has a table of its routes, and its records in one block with a checksum. So a
thousand records take one step of SQLite, a start reads only the records it needs, and the ids of a
corrupt block are known. All functions block. Call them from one thread at a time.

WAL with `synchronous=NORMAL` loses nothing if the process is killed. A power cut may lose the
writes since the last checkpoint, but never the file
(https://sqlite.org/pragma.html#pragma_synchronous).
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

from bridge.core.records.record import NO_IDENTITY, Record, RouteKey
from bridge.core.sequencing.position import Position, StreamKey, furthest
from bridge.core.sequencing.rules import Ids
from bridge.sinks.outbox import chunk_codec
from bridge.sinks.outbox.chunk_codec import CorruptChunk, RouteRow, Routes

FILE = "outbox.sqlite"
LOCK_FILE = "outbox.lock"
# Reserved for the write-ahead log, both within the bound and on the disk. A checkpoint comes at
# 4 MiB, and a chunk with the pages that its removal touches is smaller than that. Only copies of
# many large batches in flight are written at once, and may take more for a moment. Without this
# reserve nothing could be removed from a full disk, because SQLite has to write to remove.
LOG_MAX_BYTES = 16 * 2**20
# An empty file with more pages than this is shrunk.
KEPT_PAGES = 2_000

# `user_version` is the greatest id of the chunks with records that may have been sent,
# `application_id` the greatest id of those after which records went past the disk.
_SCHEMA = """CREATE TABLE IF NOT EXISTS chunks (
    id INTEGER PRIMARY KEY, routes BLOB NOT NULL, records BLOB NOT NULL)
"""
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

log = structlog.get_logger(__name__)


class Chunk(msgspec.Struct):
    """A chunk: its table, and its records in order. `records` is None if they are corrupt."""

    id: int
    rows: list[RouteRow]
    records: list[Record] | None


class ChunkStore:
    """The locked file in `folder`. With its log it takes at most `max_bytes`, or the disk's space.

    Raises BlockingIOError if another process uses the folder, and OSError or sqlite3.Error if the
    folder cannot be used. A corrupt file raises no error: its readable chunks are saved to a new
    file.

    `found` holds the rows of all chunks at the start. This process has read the chunks up to
    `read_to`; this process or the previous one has read those up to `begun`. After the chunks up to
    `passed` there were records that were not written: these chunks do not tell where streams end.
    """

    # SQLite's pragma: NORMAL waits for the disk at a checkpoint only.
    synchronous = "NORMAL"

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.bytes = 0
        self.routes = Routes()
        self.found: list[RouteRow] = []
        # The greatest id ever written, for each stream with contiguous ids.
        self.greatest_ids: dict[StreamKey, int] = {}
        self.read_to = self.begun = self.passed = self.last = 0
        self._ends_found: list[RouteRow] = []
        self._path = folder / FILE
        self._max_bytes = max_bytes
        self._lock = (folder / LOCK_FILE).open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._open()
        except BaseException:
            self._lock.close()
            raise

    @property
    def limit_bytes(self) -> int:
        """Return the limit of `bytes`: the rest of the bound is for the log."""
        return self._max_bytes - LOG_MAX_BYTES

    def append(self, *chunks: Sequence[Record], begun: bool = False) -> None:
        """Write chunks after all others: all of them or none.

        `begun` means that their records, and those of all chunks before, are in the queues too.
        """
        number = self.last
        self._bound()
        with self._transaction():
            for records in chunks:
                routes, body, rows = chunk_codec.write(records)
                self._know(rows)
                number += 1
                values = (number, routes, body)
                self._database.execute("INSERT INTO chunks VALUES (?, ?, ?)", values)
            if begun:
                self._mark(number)
        self.last = number
        if begun:
            self.read_to = self.begun = number
        with suppress(sqlite3.Error):  # the chunk is written, so no error may be raised
            self._measure()

    def pass_by(self) -> None:
        """Note that the next records will not be written."""
        self._mark_passed(self.last)
        self.passed = self.last

    def read(self) -> Chunk | None:
        """Return the next chunk, or None. It stays in the file, marked as begun.

        Raises CorruptChunk if its table cannot be read.
        """
        row = self._next("*", self.read_to)
        if row is None:
            return None
        number, routes, body = row
        rows = chunk_codec.read_routes(routes)
        chunk = Chunk(number, rows, self._records(number, rows, body))
        with suppress(sqlite3.Error):  # a full disk must not prevent the read
            if number > self.begun:
                self._mark(number)
        self.read_to, self.begun = number, max(number, self.begun)
        return chunk

    def oldest(self, after: int) -> tuple[int, Counter[RouteKey]] | None:
        """Return the first chunk after `after`: its id, and its number of records by symbol.

        Raises CorruptChunk if its table cannot be read.
        """
        row = self._next("id, routes", after)
        return (
            None if row is None else (row[0], chunk_codec.counts(chunk_codec.read_routes(row[1])))
        )

    def remove(self, number: int) -> None:
        """Remove all chunks up to this one."""
        with self._transaction():
            self._database.execute("DELETE FROM chunks WHERE id <= ?", (number,))
        with suppress(sqlite3.Error):
            self._measure()
            self._shrink()

    def positions(self) -> dict[StreamKey, Position]:
        """Return the position of the last record of each stream found at the start."""
        return furthest(row.position for row in self.found)

    def ends(self) -> dict[StreamKey, Position]:
        """Return the positions of the streams found at the start that have certainly ended there:
        no later record went past the disk.
        """
        return furthest(row.position for row in self._ends_found)

    def ranges(self) -> dict[StreamKey, list[Ids]]:
        """Return the ids found at the start, as rising ranges, for streams with contiguous ids."""
        found: dict[StreamKey, list[Ids]] = {}
        for row in self.found:
            if row.first_id != NO_IDENTITY:
                _add(found.setdefault(row.stream_key, []), row.ids)
        return {key: sorted(ids) for key, ids in found.items()}

    def recover(self) -> None:
        """Set the corrupt file aside, and start a new one with its readable, unread chunks.

        `found` then holds the rows of the new file.
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
        begun, passed = _marks(broken)
        self._mark(max(self.begun, begun))
        self._mark_passed(max(self.passed, passed))
        last = self.last
        self._survey()
        self.last = max(last, self.last)
        log.error("spill_corrupt", set_aside=str(broken), records_saved=self._found_count())

    def close(self) -> None:
        """Close the file, and release the lock."""
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
        """Limit the file to its bound, and to the space that the disk has for it and its log.

        Free pages inside the file are used in any case.
        """
        parts = (self._path.with_name(FILE + ending) for ending in ("", "-wal"))
        own = sum(part.stat().st_size for part in parts)
        room = min(self._max_bytes, own + shutil.disk_usage(self._path.parent).free)
        # For SQLite 0 is a query, and a limit below the current size has no effect.
        pages = max(1, (room - LOG_MAX_BYTES) // self._page_size)
        self._database.execute(f"PRAGMA max_page_count = {pages}")

    def _survey(self) -> None:
        """Read the tables of all chunks, but no records."""
        self.found, self._ends_found = [], []
        self.last = 0
        (self.passed,) = self._database.execute("PRAGMA application_id").fetchone()
        for number, routes in self._database.execute("SELECT id, routes FROM chunks ORDER BY id"):
            if not self.last:
                self.read_to = max(self.read_to, number - 1)
            self.last = number
            rows = chunk_codec.read_routes(routes)
            self.found += rows
            if number > self.passed:
                self._ends_found += rows
        self._know(self.found)
        (self.begun,) = self._database.execute("PRAGMA user_version").fetchone()
        # Ids continue after a file was emptied, so that a mark is never greater than the last id.
        self.last = max(self.last, self.begun, self.passed, self.read_to)
        if not self.found:
            self.read_to = self.last
        self._measure()

    def _know(self, rows: list[RouteRow]) -> None:
        for row in rows:
            self.routes.of(row)
            if row.first_id != NO_IDENTITY:
                key = row.stream_key
                self.greatest_ids[key] = max(row.last_id, self.greatest_ids.get(key, 0))

    def _records(self, number: int, rows: list[RouteRow], body: object) -> list[Record] | None:
        try:
            return chunk_codec.read_records(body, rows, self.routes)
        except CorruptChunk:
            log.error("spill_chunk_corrupt", chunk=number)  # noqa: TRY400 - no traceback needed
            return None

    def _next(self, columns: str, after: int) -> tuple[int, bytes, bytes] | None:
        query = f"SELECT {columns} FROM chunks WHERE id > ? ORDER BY id LIMIT 1"  # noqa: S608
        found: tuple[int, bytes, bytes] | None = self._database.execute(query, (after,)).fetchone()
        return found

    def _mark(self, number: int) -> None:
        self._database.execute(f"PRAGMA user_version = {number}")

    def _mark_passed(self, number: int) -> None:
        self._database.execute(f"PRAGMA application_id = {number}")

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
            if self._database.in_transaction:  # SQLite rolls some back itself
                self._database.execute("ROLLBACK")
            raise


def is_corrupt(error: Exception) -> bool:
    """Return whether the file is corrupt, or not an SQLite file."""
    code = getattr(error, "sqlite_errorcode", None) or 0
    return isinstance(error, CorruptChunk) or code & 0xFF in _CORRUPT


def is_full(error: Exception) -> bool:
    """Return whether the file has reached its bound, or the disk is full."""
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


def _add(ranges: list[Ids], ids: Ids) -> None:
    if ranges and ranges[-1][0] <= ids[0] <= ranges[-1][1] + 1:
        ids = (ranges[-1][0], max(ids[1], ranges.pop()[1]))
    ranges.append(ids)


def _readable(path: Path, after: int) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield the chunks of a corrupt file, from its beginning and from its end up to the damage."""
    for order in ("ASC", "DESC"):
        database = sqlite3.connect(path, isolation_level=None)
        try:
            query = f"SELECT * FROM chunks WHERE id > ? ORDER BY id {order}"  # noqa: S608
            for row in database.execute(query, (after,)):
                if _is_whole(row):
                    yield row
            return  # noqa: TRY300 - all chunks were readable
        except sqlite3.DatabaseError:
            continue
        finally:
            database.close()


def _marks(path: Path) -> tuple[int, int]:
    """Return the marks `begun` and `passed` of a corrupt file; 0 if they cannot be read."""
    database = sqlite3.connect(path, isolation_level=None)
    begun = passed = last = 0
    with suppress(sqlite3.DatabaseError):
        (begun,) = database.execute("PRAGMA user_version").fetchone()
        (passed,) = database.execute("PRAGMA application_id").fetchone()
        last = database.execute("SELECT max(id) FROM chunks").fetchone()[0] or 0
    database.close()
    return min(begun, last), min(passed, last)


def _is_whole(row: tuple[int, bytes, bytes]) -> bool:
    try:
        chunk_codec.read_routes(row[1])
    except CorruptChunk:
        return False
    return True
