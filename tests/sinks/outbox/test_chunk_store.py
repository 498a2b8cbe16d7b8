import random
import shutil
import sqlite3
import tempfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bridge.core.records.record import Record
from bridge.core.sequencing.position import StreamKey
from bridge.sinks.outbox.chunk_codec import CorruptChunk, counts
from bridge.sinks.outbox.chunk_store import FILE, LOG_MAX_BYTES, ChunkStore, is_full
from tests.support.events import repeatable
from tests.support.journal import Journal
from tests.support.spilling import (
    LARGE,
    SMALLEST_BYTES,
    QuickSpill,
    content,
    read_all,
    record,
    route,
)

ROUTES = [route("BTCUSDT"), route("币安人生USDT"), route("BTCUSDT", "quote"), route("", "invalid")]


class SpillMachine(RuleBasedStateMachine):
    """Compares a chunk store with a list of chunks, of which the first have been read."""

    def __init__(self) -> None:
        super().__init__()
        self.folders: list[Path] = []
        self.chunks: list[list[Record]] = []
        self.read = self.begun = self.number = 0
        self.spill = QuickSpill(self.folder(), LARGE)

    def folder(self) -> Path:
        self.folders.append(Path(tempfile.mkdtemp()))
        return self.folders[-1]

    def teardown(self) -> None:
        self.spill.close()
        for folder in self.folders:
            shutil.rmtree(folder)

    def records(self, sizes: list[tuple[int, int]]) -> list[Record]:
        made = []
        for place, size in sizes:
            self.number += 1
            made.append(record(ROUTES[place], self.number, size, self.number * 1000))
        return made

    SIZES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3000)), min_size=1, max_size=8)

    @rule(sizes=SIZES)
    def append(self, sizes: list[tuple[int, int]]) -> None:
        self.chunks.append(self.records(sizes))
        self.spill.append(self.chunks[-1])

    @precondition(lambda self: self.read == len(self.chunks))
    @rule(sizes=SIZES)
    def append_what_is_on_its_way(self, sizes: list[tuple[int, int]]) -> None:
        self.chunks.append(self.records(sizes))
        self.spill.append(self.chunks[-1], begun=True)
        self.read = self.begun = len(self.chunks)

    @rule()
    def read_one(self) -> None:
        chunk = self.spill.read()
        if self.read == len(self.chunks):
            assert chunk is None
            return
        assert chunk is not None
        assert chunk.records is not None
        assert content(chunk.records) == content(self.chunks[self.read])
        assert counts(chunk.rows) == Counter(r.route.route_key for r in chunk.records)
        self.read += 1
        self.begun = max(self.begun, self.read)

    @precondition(lambda self: self.read)
    @rule(data=st.data())
    def remove_some(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(1, self.read))
        number, done = 0, self.chunks[:count]
        for chunk in done:
            oldest = self.spill.oldest(number)
            assert oldest is not None
            assert oldest[1] == Counter(r.route.route_key for r in chunk)
            number = oldest[0]
        self.spill.remove(number)
        self.chunks = self.chunks[count:]
        self.read -= count
        self.begun -= count

    @rule()
    def stop_and_start(self) -> None:
        folder = self.folders[-1]
        self.spill.close()
        self.start(folder)

    @rule()
    def be_killed_and_start(self) -> None:
        """Start a new process on a copy of the files as they are at this moment."""
        folder = self.folder()
        for file in self.folders[-2].iterdir():
            shutil.copy(file, folder)
        self.spill.close()
        self.start(folder)

    def start(self, folder: Path) -> None:
        """Start on a folder. No chunk is read yet; the chunks read before are marked as begun."""
        self.spill = QuickSpill(folder, LARGE)
        self.read = 0
        everything = [waiting for chunk in self.chunks for waiting in chunk]
        assert counts(self.spill.found) == Counter(r.route.route_key for r in everything)
        assert self.spill.begun - self.spill.read_to == self.begun
        last = {r.route.symbol: r.identity for r in everything if r.route.message_type == "trade"}
        positions = self.spill.positions().values()
        found = {p.symbol: p.last_id for p in positions if p.message_type == "trade"}
        assert last.items() <= found.items()

    @invariant()
    def it_knows_its_size(self) -> None:
        assert 0 < self.spill.bytes <= LARGE


TestSpill = SpillMachine.TestCase
TestSpill.settings = settings(repeatable, max_examples=40, stateful_step_count=25)


def filled(folder: Path, chunks: int, size: int = 2000) -> list[list[Record]]:
    """Write this many chunks of ten records to a store, and close it."""
    wrote = [
        [record(ROUTES[0], 10 * number + index, size) for index in range(10)]
        for number in range(chunks)
    ]
    spill = ChunkStore(folder, LARGE)
    for records in wrote:
        spill.append(records)
    spill.close()
    return wrote


def test_a_folder_has_one_bridge_at_a_time(tmp_path: Path) -> None:
    spill = ChunkStore(tmp_path, LARGE)
    with pytest.raises(BlockingIOError):
        ChunkStore(tmp_path, LARGE)
    spill.close()
    ChunkStore(tmp_path, LARGE).close()


def test_a_folder_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(sqlite3.OperationalError):
        ChunkStore(tmp_path, LARGE)
    with pytest.raises(FileNotFoundError):
        ChunkStore(tmp_path / "absent", LARGE)


def test_the_bound_holds_for_all_its_files_and_room_made_can_be_used_again(tmp_path: Path) -> None:
    spill = ChunkStore(tmp_path, SMALLEST_BYTES)
    records = [record(ROUTES[0], number, 1000) for number in range(10)]

    def fill() -> int:
        count = 0
        while True:
            try:
                spill.append(records)
            except sqlite3.Error as error:
                if not is_full(error):
                    raise
                return count
            count += 1
            assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= SMALLEST_BYTES

    room = fill()
    assert room > 5
    for _ in range(3):
        assert spill.read()
    spill.remove(spill.read_to)
    assert fill() == 3
    assert len(read_all(spill)) == 10 * room
    spill.close()


def test_a_disk_that_is_full_keeps_room_for_taking_out_what_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = LOG_MAX_BYTES + 2**20

    def usage(folder: Path) -> SimpleNamespace:
        used = sum(file.stat().st_size for file in folder.iterdir())
        return SimpleNamespace(free=max(0, size - used))

    monkeypatch.setattr(shutil, "disk_usage", usage)
    spill = ChunkStore(tmp_path, LARGE)
    records = [record(ROUTES[0], number, 1000) for number in range(10)]

    def append_until_full() -> None:
        while True:
            spill.append(records)
            assert usage(tmp_path).free > LOG_MAX_BYTES // 2

    with pytest.raises(sqlite3.Error) as caught:
        append_until_full()
    assert is_full(caught.value)
    first = spill.read()
    assert first
    spill.remove(first.id)
    spill.append(records)
    spill.close()


def test_an_emptied_file_gives_its_space_back(tmp_path: Path) -> None:
    spill = ChunkStore(tmp_path, LARGE)
    for number in range(100):
        spill.append([record(ROUTES[0], number, 100_000)])
    assert spill.bytes > 8_000_000
    while chunk := spill.read():
        last = chunk.id
    spill.remove(last)
    assert spill.bytes < 100_000
    assert (tmp_path / FILE).stat().st_size < 100_000
    spill.close()


def test_the_ids_found_are_ranges_that_name_what_is_missing(tmp_path: Path) -> None:
    spill = ChunkStore(tmp_path, LARGE)
    for ids in (range(1, 5), range(5, 9), range(12, 15), (9, 10)):
        spill.append([record(ROUTES[0], number) for number in ids])
    spill.append([record(ROUTES[2], 1)])
    spill.close()
    spill = ChunkStore(tmp_path, LARGE)
    assert spill.ranges() == {StreamKey("trade", "BTCUSDT"): [(1, 8), (9, 10), (12, 14)]}
    spill.close()


@pytest.mark.parametrize("text", [b"no database at all" * 1000, b"SQLite format 3\0" * 300])
def test_a_file_that_is_no_database_is_set_aside_and_named(
    text: bytes, tmp_path: Path, journal: Journal
) -> None:
    (tmp_path / FILE).write_bytes(text)
    spill = ChunkStore(tmp_path, LARGE)
    assert spill.read() is None
    spill.append([record(ROUTES[0], 1)])
    assert len(read_all(spill)) == 1
    spill.close()
    (entry,) = journal.named("spill_corrupt")
    assert Path(entry["set_aside"]).read_bytes() == text


def test_a_torn_log_costs_its_last_chunks_only(tmp_path: Path) -> None:
    """After a kill the write-ahead log is left. Here its end is missing too."""
    other = tmp_path / "killed"
    other.mkdir()
    spill = ChunkStore(tmp_path, LARGE)
    wrote = [[record(ROUTES[0], number, 3000)] for number in range(20)]
    for records in wrote:
        spill.append(records)
    for ending in ("", "-wal"):
        shutil.copy(tmp_path / (FILE + ending), other)
    spill.close()
    wal = other / f"{FILE}-wal"
    with wal.open("r+b") as file:
        file.truncate(wal.stat().st_size * 2 // 3)
    torn = ChunkStore(other, LARGE)
    found = content(read_all(torn))
    expected = content(one for records in wrote for one in records)
    assert 5 < len(found) < 20
    assert found == expected[: len(found)]
    torn.close()


@pytest.mark.parametrize("seed", range(30))
def test_a_damaged_file_never_stops_the_start_nor_changes_a_record(
    seed: int, tmp_path: Path, journal: Journal
) -> None:
    expected = content(one for records in filled(tmp_path, 20) for one in records)
    damage = random.Random(seed)
    path = tmp_path / FILE
    raw = bytearray(path.read_bytes())
    if seed % 3 == 0:
        del raw[damage.randrange(len(raw)) :]
    for _ in range(damage.randrange(1, 4) if seed % 3 else 0):
        begin = damage.randrange(len(raw))
        raw[begin : begin + 600] = damage.randbytes(len(raw[begin : begin + 600]))
    path.write_bytes(raw)
    spill = ChunkStore(tmp_path, LARGE)
    found: list[Record] = []
    try:
        while chunk := spill.read():
            found += chunk.records or []
    except (sqlite3.DatabaseError, CorruptChunk):
        spill.recover()
        found += read_all(spill)
    spill.append([record(ROUTES[0], 999)])
    assert len(read_all(spill)) == 1
    spill.close()
    places = [expected.index(one) for one in content(found)]
    assert places == sorted(set(places))
    if len(found) < len(expected) and raw:
        assert journal.named("spill_corrupt") or journal.named("spill_chunk_corrupt")


def test_a_chunk_gone_bad_is_named_by_what_it_held_and_the_others_are_read(
    tmp_path: Path, journal: Journal
) -> None:
    wrote = filled(tmp_path, 5)
    database = sqlite3.connect(tmp_path / FILE)
    database.execute("UPDATE chunks SET records = zeroblob(length(records)) WHERE id = 3")
    database.commit()
    database.close()
    spill = ChunkStore(tmp_path, LARGE)
    chunks = [spill.read() for _ in range(5)]
    spill.close()
    bad = chunks.pop(2)
    assert bad is not None
    assert bad.records is None
    (row,) = bad.rows
    loss = row.loss("spill_corrupt")
    assert (loss.symbol, loss.first_id, loss.last_id, loss.is_exact) == ("BTCUSDT", 20, 29, True)
    del wrote[2]
    found = [content(chunk.records or []) for chunk in chunks if chunk]
    assert found == [*map(content, wrote)]
    assert journal.named("spill_chunk_corrupt")
