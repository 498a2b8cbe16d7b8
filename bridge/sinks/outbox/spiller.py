"""Moves records of an outbox to the disk and back: the task between outbox.py and chunk_store.py.

What is behind goes to the disk, what was acknowledged leaves it, and as soon as the queues have
room its oldest chunk comes back to them. The disk works in a thread, one call at a time: a chunk
takes a few milliseconds, but a checkpoint may wait for the disk for as long as that likes.
"""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

import structlog

from bridge.core.delivery.replay import ReplayMatcher
from bridge.core.records.record import Key, PriorityRecord, Record
from bridge.core.sequencing.position import Name, Position
from bridge.sinks.outbox.chunk_codec import CorruptChunk, counts, message_types
from bridge.sinks.outbox.chunk_store import Chunk, ChunkStore, is_broken, is_full
from bridge.sinks.outbox.outbox import Outbox
from bridge.sinks.outbox.spill_accounts import RECORD_OVERHEAD_BYTES, SpillAccounts
from bridge.sinks.outbox.spill_losses import BROKEN, SpillLosses
from bridge.telemetry import SinkCounts

# Of the outbox's bound: below it the queues have room for what is on disk.
BRING_BACK_BELOW = 0.25
CHUNK_MAX_RECORDS = 1_000
CHUNK_MAX_BYTES = 2**20
# Of the outbox's bound: no chunk takes up more, a single record aside.
CHUNK_MAX_SHARE = 1 / 16
# What comes within this time is written together.
LINGER_S = 0.05
RETRY_S = 1.0
FAILURES = (OSError, sqlite3.Error, CorruptChunk)

log = structlog.get_logger(__name__)


class Spiller:
    """Keeps the records of one outbox in one file. `wake` tells the sink of filled queues.

    Made, it has brought back what a process before this one may have sent (`restored`): nothing may
    be sent before it is known what has committed of that. Blocks for it. Raises what ChunkStore
    does.
    """

    def __init__(
        self, outbox: Outbox, spill: ChunkStore, sink_counts: SinkCounts, wake: Callable[[], None]
    ) -> None:
        self._changed = asyncio.Event()
        self._urgent = asyncio.Event()
        self._outbox = outbox
        self._store = spill
        self._counts = sink_counts
        self._wake = wake
        self._failing = self._full = False
        self._chunk_max_bytes = min(CHUNK_MAX_BYTES, round(outbox.max_bytes * CHUNK_MAX_SHARE))
        self._spill_accounts = outbox.spill_accounts = SpillAccounts(self._notice)
        # The oldest chunk on disk, and up to where chunks are done with or gone.
        self._oldest: tuple[int, Counter[Key]] | None = None
        self._done_to = spill.read_to
        self._removed_to = spill.read_to
        self._losses = SpillLosses(outbox, self._spill_accounts, spill, sink_counts)
        self.positions = spill.positions()
        self._restore()
        self._is_spilling = self._spill_accounts.spilling

    def restored(self) -> ReplayMatcher | None:
        """What the last process may have sent; None if that is nothing, or settled."""
        if not self.positions:
            return None
        return ReplayMatcher(
            r for r in self._outbox.in_queues() if not isinstance(r, PriorityRecord)
        )

    def settle(self, restored: ReplayMatcher, positions: dict[Name, Position]) -> None:
        """Take out what has committed, and note what neither the topics nor the disk have."""
        self._outbox.clear_in_doubt()
        committed = self._outbox.take_first(restored.committed)
        self._counts.published.update(record.route.message_type for record in committed)
        self._losses.between(positions)
        self.positions = {}
        if committed or self._outbox.losses:
            log.info(
                "spill_reconciled",
                committed=len(committed),
                streams_with_holes=len(self._outbox.losses),
            )

    @property
    def on_disk(self) -> int:
        """Records on disk that have not been acknowledged."""
        spill_accounts = self._spill_accounts
        return (
            spill_accounts.left.total()
            - len(spill_accounts.awaiting_write)
            - len(spill_accounts.copies)
        )

    async def run(self) -> None:
        """Move records along for ever. Cancelled, it ends what the disk is doing."""
        while True:
            await self._changed.wait()
            await self._linger()
            self._changed.clear()
            self._urgent.clear()
            work = asyncio.ensure_future(self.work())
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError:
                await work
                raise

    def _notice(self) -> None:
        self._changed.set()
        if self._spill_accounts.awaiting_write_bytes > self._chunk_max_bytes:
            self._urgent.set()

    async def _linger(self) -> None:
        """Let a chunk come together."""
        if self._failing:
            await asyncio.sleep(RETRY_S)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                await self._urgent.wait()

    async def work(self) -> None:
        """Everything there is to do just now."""
        try:
            await self._write_copies()
            await self._bring_back()
            await self._write(len(self._spill_accounts.awaiting_write))
            await self._remove()
        except FAILURES as error:
            await self._fail(error)
        else:
            self._worked()
        self._counts.spill_bytes = self._store.bytes
        if self._spill_accounts.unread and self._has_room():
            self._changed.set()

    def close(self) -> None:
        """Save what is in memory behind what is on disk; blocks. For good.

        What cannot be saved is not in `on_disk`.
        """
        outbox, spill_accounts = self._outbox, self._spill_accounts
        if not spill_accounts.spilling and len(outbox):
            outbox.spill(spill_accounts)
        try:
            for records in self._chunks(spill_accounts.copies):
                self._store.append(records, begun=True)
            spill_accounts.copies.clear()
            while spill_accounts.awaiting_write:
                self._append(next(self._chunks(spill_accounts.awaiting_write)))
            for records in self._chunks(outbox.announcements()):
                self._store.append(records)
                spill_accounts.left.update(record.route.name for record in records)
            self._store.remove(self._done_to)
        except FAILURES as error:
            log.error("spill_failed", error=str(error))  # noqa: TRY400 - the words say it
        self._store.close()

    def _restore(self) -> None:
        """Bring back what the last process had sent, or might have."""
        spill_accounts, found = self._spill_accounts, self._store.found
        if not found:
            return
        spill_accounts.spilling = True
        spill_accounts.left.update(counts(found))
        spill_accounts.unread.update(message_types(found))
        self._counts.restored.update(message_types(found))
        self._counts.spill_bytes = self._store.bytes
        try:
            self._read_begun()
        except FAILURES as error:
            if not is_broken(error):
                raise
            self._store.recover()
            self._begin_anew()
        self._outbox.mark_in_doubt()
        self._changed.set()
        log.info("spill_found", records=sum(row.count for row in found))

    def _read_begun(self) -> None:
        begun = self._store.begun
        while self._store.read_to < begun and (chunk := self._store.read()):
            self._return(chunk)

    async def _write_copies(self) -> None:
        """What was on its way to a broker is the first on disk, so that a kill leaves no hole."""
        spill_accounts = self._spill_accounts
        while spill_accounts.copies:
            records = next(self._chunks(spill_accounts.copies))
            await self._append_in_thread(records, begun=True)
            del spill_accounts.copies[: len(records)]

    async def _bring_back(self) -> None:
        """The oldest chunks to the queues; with none left, what is behind, and memory is enough."""
        spill_accounts = self._spill_accounts
        while spill_accounts.unread and self._has_room():
            chunk = await asyncio.to_thread(self._store.read)
            if chunk is None:
                raise CorruptChunk
            self._return(chunk)
        if spill_accounts.spilling and not spill_accounts.unread and self._is_small():
            spill_accounts.spilling = self._full = False
            records = self._outbox.take_awaiting_write(len(spill_accounts.awaiting_write))
            spill_accounts.forget(records)
            for record in records:
                self._outbox.put(record)
            self._wake()

    async def _write(self, count: int) -> None:
        spill_accounts = self._spill_accounts
        while count > 0 and spill_accounts.awaiting_write:
            records = next(self._chunks(spill_accounts.awaiting_write))
            spill_accounts.writing = len(records)
            try:
                await self._append_in_thread(records, begun=False)
            finally:
                spill_accounts.writing = 0
            self._written(records)
            count -= len(records)

    async def _append_in_thread(self, records: list[Record], *, begun: bool) -> None:
        """Write a chunk; while there is no room for it, the oldest goes."""
        while True:
            try:
                return await asyncio.to_thread(self._store.append, records, begun=begun)
            except sqlite3.Error as error:
                if not is_full(error) or not await self._drop_oldest():
                    raise

    def _append(self, records: list[Record]) -> None:
        self._store.append(records)
        self._written(records)

    def _written(self, records: list[Record]) -> None:
        self._outbox.take_awaiting_write(len(records))
        self._spill_accounts.unread.update(record.route.message_type for record in records)

    async def _remove(self) -> None:
        """Take out the chunks at the head that are done with."""
        while oldest := await self._find_oldest():
            number, held = oldest
            if number > self._store.read_to or not self._spill_accounts.is_done(held):
                break
            self._gone(number, held)
        await self._remove_done()

    async def _find_oldest(self) -> tuple[int, Counter[Key]] | None:
        if self._oldest is None and self._done_to < self._store.last:
            self._oldest = await asyncio.to_thread(self._store.oldest, self._done_to)
        return self._oldest

    def _gone(self, number: int, held: Counter[Key]) -> None:
        self._spill_accounts.gone(held)
        self._oldest = None
        self._done_to = number

    async def _remove_done(self) -> None:
        if self._removed_to < self._done_to:
            number = self._done_to
            await asyncio.to_thread(self._store.remove, number)
            self._removed_to = number
        if self._spill_accounts.is_empty:
            self._spill_accounts.left.clear()
            self._spill_accounts.done.clear()

    async def _drop_oldest(self) -> bool:
        """Give up the oldest chunk on a full disk; False if there is none."""
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
            done = self._spill_accounts.done
            left = Counter({key: count - done[key] for key, count in held.items()})
            taken = self._outbox.take_first(left)
            self._outbox.give_up(taken, "outbox_full")
        self._gone(number, held)
        await self._remove_done()
        return True

    def _drop_unread(self, chunk: Chunk | None) -> None:
        if chunk is None:
            raise CorruptChunk
        self._spill_accounts.read(message_types(chunk.rows))
        if chunk.records is None:
            self._losses.of_chunk(chunk.rows)
        else:
            self._spill_accounts.settle(chunk.records)
            self._outbox.give_up(chunk.records, "outbox_full")

    def _return(self, chunk: Chunk) -> None:
        """Put a chunk into the queues, or count what cannot be."""
        self._spill_accounts.read(message_types(chunk.rows))
        if chunk.records is None:
            self._losses.of_chunk(chunk.rows)
        for record in chunk.records or ():
            self._outbox.put(record)
        self._losses.came_back(chunk.rows)
        self._wake()

    def _has_room(self) -> bool:
        """Whether the queues have room. If the disk takes nothing, what is behind fills the memory;
        then they have while they are empty, or what is on disk would never get out.
        """
        outbox = self._outbox
        queues = outbox.bytes - self._spill_accounts.awaiting_write_bytes
        below = outbox.max_bytes * BRING_BACK_BELOW
        return queues < below and (outbox.bytes < outbox.max_bytes - below or not queues)

    def _is_small(self) -> bool:
        return self._outbox.bytes < self._outbox.max_bytes * BRING_BACK_BELOW

    def _worked(self) -> None:
        """Log what has changed."""
        if self._is_spilling != self._spill_accounts.spilling:
            self._is_spilling = self._spill_accounts.spilling
            event = "spill_started" if self._is_spilling else "spill_ended"
            log.warning(event, waiting=len(self._outbox), bytes=self._store.bytes)
        if self._failing:
            self._failing = False
            log.info("spill_recovered")

    async def _fail(self, error: Exception) -> None:
        """Go on in memory alone for a while; a broken file is replaced by a new one."""
        self._changed.set()
        if is_broken(error):
            await self._recover()
            return
        if not self._failing:
            self._counts.failures["spill_failed"] += 1
            log.error("spill_failed", error=str(error), retry_in_s=RETRY_S)
        self._failing = True

    async def _recover(self) -> None:
        """Go on with a new file, and what could be saved of the old one."""
        try:
            await asyncio.to_thread(self._store.recover)
        except FAILURES as error:
            log.error("spill_failed", error=str(error), retry_in_s=RETRY_S)  # noqa: TRY400
            self._failing = True
            return
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._counts.failures[BROKEN] += 1
        self._oldest = None
        self._done_to = self._removed_to = self._store.read_to
        self._losses.of_file()
        self._wake()

    def _chunks(self, records: Iterable[Record]) -> Iterator[list[Record]]:
        chunk: list[Record] = []
        size = 0
        for record in records:
            size += len(record.value) + RECORD_OVERHEAD_BYTES
            if chunk and (size > self._chunk_max_bytes or len(chunk) == CHUNK_MAX_RECORDS):
                yield chunk
                chunk, size = [], len(record.value) + RECORD_OVERHEAD_BYTES
            chunk.append(record)
        if chunk:
            yield chunk
