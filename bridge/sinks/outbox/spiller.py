"""Moves records of an outbox to the disk and back.

The spiller writes the records that await their write, removes those that were acknowledged, and
reads the oldest chunk back as soon as the queues have room. The disk is used in a thread, one call
at a time: a chunk takes a few milliseconds, but a checkpoint may wait for the disk much longer.
"""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

import structlog

from bridge.core.delivery.replay import ReplayMatcher
from bridge.core.records.record import PriorityRecord, Record, RouteKey
from bridge.core.sequencing.position import Position, StreamKey
from bridge.sinks.outbox.chunk_codec import CorruptChunk, counts, message_types
from bridge.sinks.outbox.chunk_store import Chunk, ChunkStore, is_corrupt, is_full
from bridge.sinks.outbox.outbox import RECORD_OVERHEAD_BYTES
from bridge.sinks.outbox.spill_losses import CORRUPT, SpillLosses
from bridge.sinks.outbox.spilling_outbox import SpillingOutbox
from bridge.telemetry import SinkCounts

# The share of the outbox's bound below which the queues have room for records on disk.
BRING_BACK_BELOW = 0.25
CHUNK_MAX_RECORDS = 1_000
# Records that arrive within this time are written together.
LINGER_S = 0.05
RETRY_S = 1.0
FAILURES = (OSError, sqlite3.Error, CorruptChunk)

log = structlog.get_logger(__name__)


class Spiller:
    """Keeps the records of one outbox in one file. `wake` tells the sink that queues were filled.

    The constructor blocks: it reads back what the previous process may have sent (`restored`).
    Nothing may be sent before it is known what Kafka has of that. Raises what ChunkStore raises.
    """

    def __init__(
        self,
        outbox: SpillingOutbox,
        store: ChunkStore,
        sink_counts: SinkCounts,
        wake: Callable[[], None],
    ) -> None:
        self._outbox = outbox
        self._accounts = outbox.spill_accounts
        self._store = store
        self._counts = sink_counts
        self._wake = wake
        self._failing = self._full = False
        # The oldest chunk on disk; the last chunk that is done; the last chunk that was removed.
        self._oldest: tuple[int, Counter[RouteKey]] | None = None
        self._done_to = store.read_to
        self._removed_to = store.read_to
        self._losses = SpillLosses(outbox, store, sink_counts)
        # Of the records that the previous process has left, until `settle`.
        self.unsettled = {row.message_type for row in store.found}
        self._restore()
        self._is_spilling = self._accounts.spilling

    def restored(self) -> ReplayMatcher | None:
        """Return what the previous process may have sent; None if there is nothing to find out."""
        if not self.unsettled:
            return None
        return ReplayMatcher(
            r for r in self._outbox.in_queues() if not isinstance(r, PriorityRecord)
        )

    def settle(self, restored: ReplayMatcher, positions: dict[StreamKey, Position]) -> None:
        """Take out the committed records, and note ids that neither the topics nor the disk
        have.
        """
        self._outbox.clear_in_doubt()
        committed = self._outbox.take_first(restored.committed)
        self._counts.published.update(record.route.message_type for record in committed)
        self._losses.between(positions)
        self.unsettled.clear()
        self._accounts.changed.set()
        if committed or self._outbox.losses:
            log.info(
                "spill_reconciled",
                committed=len(committed),
                streams_with_holes=len(self._outbox.losses),
            )

    @property
    def records_on_disk(self) -> int:
        """Return the number of records on disk that are not acknowledged."""
        accounts = self._accounts
        return accounts.left.total() - len(accounts.awaiting_write) - len(accounts.copies)

    async def run(self) -> None:
        """Move records until cancelled. A cancelled spiller finishes the call to the disk first."""
        accounts = self._accounts
        while True:
            await accounts.changed.wait()
            await self._linger()
            accounts.changed.clear()
            accounts.urgent.clear()
            work = asyncio.ensure_future(self.work())
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError:
                await work
                raise

    async def work(self) -> None:
        """Do everything there is to do now."""
        try:
            await self._write_copies()
            await self._bring_back()
            await self._write(len(self._accounts.awaiting_write))
            await self._remove()
        except FAILURES as error:
            await self._fail(error)
        else:
            self._log_changes()
        if self._accounts.unread and self._has_room():
            self._accounts.changed.set()

    def close(self) -> None:
        """Save the records in memory after those on disk, and close the store; blocks.

        Records that cannot be saved are not in `records_on_disk`.
        """
        outbox, accounts = self._outbox, self._accounts
        if not accounts.spilling and len(outbox):
            outbox.spill()
        try:
            if accounts.copies:
                self._store.append(*self._chunks(accounts.copies), begun=True)
            accounts.copies.clear()
            while accounts.awaiting_write:
                records = next(self._chunks(accounts.awaiting_write))
                self._store.append(records)
                self._note_written(records)
            for records in self._chunks(outbox.priority_records()):
                self._store.append(records)
                accounts.left.update(record.route.route_key for record in records)
            self._store.remove(self._done_to)
        except FAILURES as error:
            log.error("spill_failed", error=str(error))  # noqa: TRY400 - the text is enough
        self._store.close()

    @property
    def is_empty(self) -> bool:
        """Return whether no record is on disk or on its way there."""
        return self._accounts.is_empty

    @property
    def bytes(self) -> int:
        """Return the size of the records on disk, in bytes."""
        return self._store.bytes

    def clear(self) -> None:
        """Remove all records on disk, and close the store; blocks."""
        try:
            self._store.remove(self._store.last)
        except FAILURES as error:
            log.error("spill_failed", error=str(error))  # noqa: TRY400 - the text is enough
        self._store.close()

    def _restore(self) -> None:
        """Read back what the previous process has sent or may have sent."""
        accounts, found = self._accounts, self._store.found
        if not found:
            return
        accounts.spilling = True
        accounts.left.update(counts(found))
        accounts.unread.update(message_types(found))
        self._counts.restored.update(message_types(found))
        try:
            self._read_begun()
        except FAILURES as error:
            if not is_corrupt(error):
                raise
            self._store.recover()
            self._start_over()
        self._outbox.mark_in_doubt()
        accounts.changed.set()
        log.info("spill_found", records=sum(row.count for row in found))

    def _read_begun(self) -> None:
        begun = self._store.begun
        while self._store.read_to < begun and (chunk := self._store.read()):
            self._put_back(chunk)

    async def _linger(self) -> None:
        """Wait until a chunk has gathered."""
        if self._failing:
            await asyncio.sleep(RETRY_S)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                await self._accounts.urgent.wait()

    async def _write_copies(self) -> None:
        """Write what was on its way to a broker before anything else, so that a kill leaves no
        hole.
        """
        copies = self._accounts.copies
        if chunks := [*self._chunks(copies)]:
            await self._append_in_thread(*chunks, begun=True)
            del copies[: sum(map(len, chunks))]

    async def _bring_back(self) -> None:
        """Read the oldest chunks into the queues. When none is left, Kafka was reached, and memory
        has room, stop spilling.
        """
        accounts = self._accounts
        while accounts.unread and self._has_room():
            chunk = await asyncio.to_thread(self._store.read)
            if chunk is None:
                raise CorruptChunk
            self._put_back(chunk)
        is_done = not (accounts.unread or self.unsettled) and self._is_small()
        if accounts.spilling and is_done:
            await asyncio.to_thread(self._store.pass_by)
            accounts.spilling = self._full = False
            records = self._outbox.take_awaiting_write(len(accounts.awaiting_write))
            accounts.forget(records)
            for record in records:
                self._outbox.put(record)
            self._wake()

    async def _write(self, count: int) -> None:
        accounts = self._accounts
        while count > 0 and accounts.awaiting_write:
            records = next(self._chunks(accounts.awaiting_write))
            accounts.writing = len(records)
            try:
                await self._append_in_thread(records, begun=False)
            finally:
                accounts.writing = 0
            self._note_written(records)
            count -= len(records)

    async def _append_in_thread(self, *chunks: list[Record], begun: bool) -> None:
        """Write chunks. While the disk has no room for them, drop the oldest chunk."""
        while True:
            try:
                return await asyncio.to_thread(self._store.append, *chunks, begun=begun)
            except sqlite3.Error as error:
                if not is_full(error) or not await self._drop_oldest():
                    raise

    def _note_written(self, records: list[Record]) -> None:
        self._outbox.take_awaiting_write(len(records))
        self._accounts.unread.update(record.route.message_type for record in records)

    async def _remove(self) -> None:
        """Remove the chunks at the head that are done."""
        while oldest := await self._find_oldest():
            number, held = oldest
            if number > self._store.read_to or not self._accounts.is_done(held):
                break
            self._note_done(number, held)
        await self._remove_done()

    async def _find_oldest(self) -> tuple[int, Counter[RouteKey]] | None:
        if self._oldest is None and self._done_to < self._store.last:
            self._oldest = await asyncio.to_thread(self._store.oldest, self._done_to)
        return self._oldest

    def _note_done(self, number: int, held: Counter[RouteKey]) -> None:
        self._accounts.remove_chunk(held)
        self._oldest = None
        self._done_to = number

    async def _remove_done(self) -> None:
        if self._removed_to < self._done_to:
            number = self._done_to
            await asyncio.to_thread(self._store.remove, number)
            self._removed_to = number
        if self._accounts.is_empty:
            self._accounts.left.clear()
            self._accounts.done.clear()

    async def _drop_oldest(self) -> bool:
        """Drop the oldest chunk on a full disk; return False if there is none."""
        if not self._full:
            log.warning("spill_full", bytes=self._store.bytes)
            self._counts.failures["spill_full"] += 1
            self._full = True
        oldest = await self._find_oldest()
        if oldest is None:
            return False
        number, held = oldest
        if number > self._store.read_to:
            self._drop_unread(await asyncio.to_thread(self._store.read))
        else:
            done = self._accounts.done
            left = Counter({key: count - done[key] for key, count in held.items()})
            taken = self._outbox.take_first(left)
            self._outbox.give_up(taken, "outbox_full")
        self._note_done(number, held)
        await self._remove_done()
        return True

    def _drop_unread(self, chunk: Chunk | None) -> None:
        if chunk is None:
            raise CorruptChunk
        self._accounts.read(message_types(chunk.rows))
        if chunk.records is None:
            self._losses.of_chunk(chunk.rows)
        else:
            self._accounts.settle(chunk.records)
            self._outbox.give_up(chunk.records, "outbox_full")

    def _put_back(self, chunk: Chunk) -> None:
        """Put the records of a chunk into the queues; count those that cannot be read as lost."""
        self._accounts.read(message_types(chunk.rows))
        if chunk.records is None:
            self._losses.of_chunk(chunk.rows)
        for record in chunk.records or ():
            self._outbox.put(record)
        self._losses.came_back(chunk.rows)
        self._wake()

    def _has_room(self) -> bool:
        """Return whether the queues have room. If the disk accepts nothing, records that await
        their write fill the memory. Then empty queues count as room: otherwise the records on disk
        would never be sent.
        """
        outbox = self._outbox
        queues = outbox.bytes - self._accounts.awaiting_write_bytes
        below = outbox.max_bytes * BRING_BACK_BELOW
        return queues < below and (outbox.bytes < outbox.max_bytes - below or not queues)

    def _is_small(self) -> bool:
        return self._outbox.bytes < self._outbox.max_bytes * BRING_BACK_BELOW

    def _log_changes(self) -> None:
        if self._is_spilling != self._accounts.spilling:
            self._is_spilling = self._accounts.spilling
            log.warning(
                "spill_started" if self._is_spilling else "spill_ended",
                waiting=len(self._outbox),
                bytes=self._store.bytes,
            )
        if self._failing:
            self._failing = False
            log.info("spill_recovered")

    async def _fail(self, error: Exception) -> None:
        """Continue in memory alone for a while. A corrupt file is replaced by a new one."""
        self._accounts.changed.set()
        if is_corrupt(error):
            await self._recover()
            return
        self._pause(error)

    def _pause(self, error: Exception) -> None:
        """Wait before the next attempt. Log the first failure only."""
        if not self._failing:
            self._counts.failures["spill_failed"] += 1
            log.error("spill_failed", error=str(error), retry_in_s=RETRY_S)
        self._failing = True

    async def _recover(self) -> None:
        """Continue with a new file and what could be saved of the old one."""
        try:
            await asyncio.to_thread(self._store.recover)
        except FAILURES as error:
            self._pause(error)
            return
        self._start_over()

    def _start_over(self) -> None:
        self._counts.failures[CORRUPT] += 1
        self._oldest = None
        self._done_to = self._removed_to = self._store.read_to
        self._losses.of_file()
        self._wake()

    def _chunks(self, records: Iterable[Record]) -> Iterator[list[Record]]:
        chunk: list[Record] = []
        size = 0
        for record in records:
            record_bytes = len(record.value) + RECORD_OVERHEAD_BYTES
            size += record_bytes
            if chunk and (size > self._accounts.chunk_max_bytes or len(chunk) == CHUNK_MAX_RECORDS):
                yield chunk
                chunk, size = [], record_bytes
            chunk.append(record)
        if chunk:
            yield chunk
