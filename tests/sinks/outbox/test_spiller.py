"""An outbox with a disk behind it, and a broker, against plain lists of what was pushed."""

import asyncio
import shutil
import tempfile
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bridge.core.records.record import Announcement, Record, Route
from bridge.core.sequencing.position import Position
from bridge.sinks.outbox.outbox import Lane, Outbox
from bridge.sinks.outbox.spill_accounts import Backlog, size_of
from bridge.sinks.outbox.spiller import LINGER_S, Overflow
from bridge.telemetry import SinkCounts, accounts
from tests.support.events import repeatable
from tests.support.journal import Journal, journal_kept
from tests.support.spilling import SMALLEST_BYTES, FrailSpill, Killed, number_of, record, route

pytestmark = pytest.mark.asyncio(loop_factories=["real"])

MAX_BYTES = 40_000
ROUTES = [route(f"S{index}", kind) for index in range(3) for kind in ("trade", "quote")]
ROUTE_OF = {of.name: of for of in ROUTES}
TRADE = ROUTES[0]
TRADES = [of.name for of in ROUTES if of.message_type == "trade"]
Name = tuple[str, bytes]


class Broker:
    """What has landed: of each symbol the records' numbers, and what they say."""

    def __init__(self) -> None:
        self.numbers: dict[Name, list[int]] = defaultdict(list)
        self.records: list[Record] = []

    def land(self, records: list[Record]) -> None:
        for one in records:
            if not isinstance(one, Announcement):
                self.numbers[one.route.name].append(number_of(one))
                self.records.append(one)

    def positions(self) -> dict[tuple[str, str], Position]:
        return {
            ("trade", key.decode()): Position("trade", key.decode(), max(numbers), 0, 0, 0)
            for (topic, key), numbers in self.numbers.items()
            if topic.endswith("trade")
        }


class Life:
    """One process: its outbox, its overflow, and what it has given up."""

    def __init__(self, folder: Path, spill_bytes: int = 2**30) -> None:
        self.folder = folder
        self.counts = SinkCounts()
        self.outbox = Outbox(MAX_BYTES, self.counts)
        self.spill = FrailSpill(folder, spill_bytes)
        self.overflow = Overflow(self.outbox, self.spill, self.counts, lambda: None)
        self.received = Counter(self.counts.restored)
        self.lost: dict[Name, set[int]] = defaultdict(set)

    def lanes(self) -> list[Lane]:
        return list(self.outbox._lanes.values())

    @property
    def backlog(self) -> Backlog:
        assert self.outbox.backlog is not None
        return self.outbox.backlog

    def push(self, new: Record) -> None:
        self.received[new.route.message_type] += 1
        self.outbox.push(new)

    def announce(self) -> None:
        for loss in self.outbox.losses.take():
            if loss.kind == "trade":
                ids = range(loss.first_id, loss.last_id + 1)
                self.lost[f"binance.spot.{loss.kind}", loss.symbol.encode()].update(ids)

    def connect(self, broker: Broker) -> None:
        """What a new producer does first: see what has landed."""
        if restored := self.overflow.restored():
            for one in broker.records:
                restored.see(one.route.topic, one.route.key, one.value)
            self.overflow.settle(restored, broker.positions())
        self.announce()

    async def publish_all(self, broker: Broker) -> None:
        self.connect(broker)
        for _ in range(10_000):
            if not len(self.outbox):
                break
            await self.overflow.work()
            self.announce()
            for lane in self.outbox.idle():
                lane.in_flight = len(lane.records)
                broker.land(self.outbox.acknowledge(lane))
        assert not len(self.outbox), "everything is published in the end"
        await self.overflow.work()
        self.announce()


class OverflowMachine(RuleBasedStateMachine):
    """Pushes, batches that are answered or not, kills at any step of the disk, stops.

    What a kill takes of the trades is pushed again, as REST would bring it: from behind the last
    that the broker or the disk holds.
    """

    spill_bytes = 2**30

    def __init__(self) -> None:
        super().__init__()
        self.journal = journal_kept()
        self.journal.__enter__()
        self.loop = asyncio.new_event_loop()
        self.folders: list[Path] = []
        self.numbers: Counter[Name] = Counter()
        self.lost: dict[Name, set[int]] = defaultdict(set)
        # Numbers of quotes that were in memory alone when the process was killed.
        self.gone: dict[Name, set[int]] = defaultdict(set)
        self.broker = Broker()
        # What has landed of each lane's batch, before anybody knows.
        self.landed: dict[Lane, bool] = {}
        self.sent: dict[Lane, list[Record]] = {}
        self.life = Life(self.folder(), self.spill_bytes)

    def folder(self) -> Path:
        self.folders.append(Path(tempfile.mkdtemp()))
        return self.folders[-1]

    def teardown(self) -> None:
        self.life.spill.fails = False
        self.lose_the_connection()
        self.reconnect()
        self.loop.run_until_complete(self.life.publish_all(self.broker))
        assert self.life.overflow.on_disk == 0
        (left,) = self.life.spill._database.execute("SELECT count(*) FROM chunks").fetchone()
        assert left == 0, "what was acknowledged leaves the disk"
        self.take_over()
        self.check_the_whole_story()
        self.life.spill.close()
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        for folder in self.folders:
            shutil.rmtree(folder)
        self.journal.__exit__(None, None, None)

    def check_the_whole_story(self) -> None:
        """Every trade once and in order, and every quote that was not in memory alone at a kill."""
        assert not any(self.lost.values())
        for name, last in self.numbers.items():
            found = self.broker.numbers[name]
            assert all(one < next_ for one, next_ in pairwise(found))
            assert {*range(1, last + 1)} - {*found} <= self.gone[name]

    def take_over(self) -> None:
        self.life.announce()
        for name, lost in self.life.lost.items():
            self.lost[name] |= lost

    def work(self) -> None:
        self.loop.run_until_complete(self.life.overflow.work())

    @rule(of=st.sampled_from(ROUTES), count=st.integers(1, 60), size=st.integers(0, 200))
    def push(self, of: Route, count: int, size: int) -> None:
        for _ in range(count):
            self.numbers[of.name] += 1
            self.push_one(of.name, self.numbers[of.name], size)

    def push_one(self, name: Name, number: int, size: int) -> None:
        if self.life.outbox.bytes > MAX_BYTES * 0.8:
            self.work()
        self.life.push(record(ROUTE_OF[name], number, size, self.numbers.total()))

    @rule()
    def let_the_disk_work(self) -> None:
        self.work()

    @precondition(lambda self: self.life.outbox.idle() and not self.life.overflow.positions)
    @rule(data=st.data())
    def send(self, data: st.DataObject) -> None:
        idle = self.life.outbox.idle()
        lane = idle[data.draw(st.integers(0, len(idle) - 1))]
        self.send_first(lane, data.draw(st.integers(1, len(lane.records))))

    def send_first(self, lane: Lane, count: int) -> None:
        lane.in_flight = min(count, len(lane.records))
        self.landed[lane] = False
        self.sent[lane] = list(lane.records)[: lane.in_flight]

    @rule(count=st.integers(1, 40), fate=st.sampled_from(["lost", "landed", "answered"]))
    def send_what_came_back_from_disk(self, count: int, fate: str) -> None:
        self.reconnect()
        if not self.life.backlog.spilling:
            self.life.outbox.spill(self.life.backlog)
        self.work()
        self.work()
        for lane in self.life.outbox.idle():
            self.send_first(lane, count)
            if fate != "lost":
                self.broker.land(self.sent[lane])
                self.landed[lane] = True
        if fate == "answered":
            self.answer()
            self.work()

    @precondition(lambda self: self.landed)
    @rule(data=st.data())
    def land(self, data: st.DataObject) -> None:
        """A broker has written a batch, and its answer may never come."""
        lanes = [lane for lane, landed in self.landed.items() if not landed]
        if lanes:
            lane = lanes[data.draw(st.integers(0, len(lanes) - 1))]
            self.broker.land(self.sent[lane])
            self.landed[lane] = True

    @rule()
    def answer(self) -> None:
        for lane in [lane for lane, landed in self.landed.items() if landed]:
            self.life.outbox.acknowledge(lane)
            del self.landed[lane]

    def lose_the_connection(self) -> None:
        self.life.outbox.release()

    @rule()
    def lose_the_connection_and_spill(self) -> None:
        """Records that are unsure are on disk as copies."""
        self.lose_the_connection()
        backlog = self.life.backlog
        if not backlog.spilling:
            self.life.outbox.spill(backlog)
        self.work()
        self.reconnect()

    @rule()
    def reconnect(self) -> None:
        """A new producer has begun, and read the tails."""
        self.lose_the_connection()
        for lane, landed in self.landed.items():
            if landed:
                lane.in_flight = lane.unsure
                self.life.outbox.acknowledge(lane)
        self.landed.clear()
        self.life.connect(self.broker)
        self.life.outbox.settle()

    @rule(partitions=st.integers(1, 3))
    def assign(self, partitions: int) -> None:
        self.reconnect()
        self.life.outbox.assign(lambda of: int(of.symbol[1:]) % partitions)

    @rule()
    def stop_and_start(self) -> None:
        self.lose_the_connection()
        before = self.life.outbox.pending()
        self.life.overflow.close()
        assert self.life.overflow.on_disk == before.total()
        self.begin_anew(self.life.folder)
        self.life.connect(self.broker)  # of a chunk some may have landed
        assert len(self.life.outbox) <= before.total()

    @rule()
    def be_killed_and_start(self) -> None:
        self.note_gone()
        self.end_by_kill()

    @precondition(lambda self: len(self.life.outbox) > 0)
    @rule(fuse=st.integers(1, 12))
    def be_killed_at_work(self, fuse: int) -> None:
        """At any step of the disk, before it or behind it."""
        self.note_gone()
        self.life.spill.fuse = fuse
        backlog = self.life.backlog
        if not backlog.spilling:
            self.life.outbox.spill(backlog)
        try:
            self.work()
        except Killed:
            self.end_by_kill()
        else:
            self.life.spill.fuse = 0

    def note_gone(self) -> None:
        """Quotes that are not on disk yet."""
        backlog = self.life.backlog
        memory = [r for lane in self.life.lanes() for r in lane.records]
        if backlog.spilling and not backlog.copies:
            memory = []
        for waiting in (*memory, *backlog.behind):
            if waiting.route.message_type == "quote":
                self.gone[waiting.route.name].add(number_of(waiting))

    def end_by_kill(self) -> None:
        folder = self.folder()
        for file in self.life.folder.iterdir():
            shutil.copy(file, folder)
        self.life.spill.close()
        self.begin_anew(folder)

    def begin_anew(self, folder: Path) -> None:
        self.take_over()
        self.landed.clear()
        self.life = Life(folder, self.spill_bytes)
        known = self.broker.positions()
        for name in TRADES:
            stream = ("trade", name[1].decode())
            ends = [p[stream].last_id for p in (known, self.life.overflow.positions) if stream in p]
            for number in range(max(ends, default=0) + 1, self.numbers[name] + 1):
                self.push_one(name, number, 10)

    @invariant()
    def every_symbol_is_in_order_in_memory(self) -> None:
        seen: dict[Name, list[int]] = defaultdict(list)
        lanes = [waiting for lane in self.life.lanes() for waiting in lane.records]
        for waiting in (*lanes, *self.life.backlog.behind):
            seen[waiting.route.name].append(number_of(waiting))
        for numbers in seen.values():
            assert all(one < next_ for one, next_ in pairwise(numbers))

    @invariant()
    def what_was_sent_stays_in_front(self) -> None:
        for lane in self.landed:
            assert list(lane.records)[: lane.kept] == self.sent[lane]

    @invariant()
    def the_accounts_hold(self) -> None:
        counts = self.life.counts
        accounted = counts.published + self.life.outbox.pending()
        for (message_type, cause), count in counts.dropped.items():
            assert cause == "outbox_full"
            accounted[message_type] += count
        assert +accounted == +self.life.received
        assert len(self.life.outbox) == self.life.outbox.pending().total()

    @invariant()
    def bytes_are_those_of_the_records_in_memory(self) -> None:
        backlog = self.life.backlog
        lanes = sum(size_of(lane.records) for lane in self.life.lanes())
        assert backlog.behind_bytes == size_of(backlog.behind)
        assert self.life.outbox.bytes == lanes + backlog.behind_bytes


class FailingMachine(OverflowMachine):
    """A small disk that fails at times, and is not let work in time: what goes is announced."""

    spill_bytes = SMALLEST_BYTES

    def check_the_whole_story(self) -> None:
        for name, last in self.numbers.items():
            found = self.broker.numbers[name]
            assert all(one < next_ for one, next_ in pairwise(found))
            if name in TRADES:
                assert {*range(1, last + 1)} <= self.lost[name].union(found)

    def push_one(self, name: Name, number: int, size: int) -> None:
        self.life.push(record(ROUTE_OF[name], number, 3 * size, self.numbers.total()))
        outbox = self.life.outbox
        assert outbox.bytes <= MAX_BYTES or not outbox._waiting()

    @rule(fails=st.booleans())
    def fail_or_work_again(self, *, fails: bool) -> None:
        self.life.spill.fails = fails

    def stop_and_start(self) -> None:
        """A disk that is full takes not all of it."""


TestOverflow = OverflowMachine.TestCase
TestOverflow.settings = settings(repeatable, max_examples=100, stateful_step_count=40)
TestFailing = FailingMachine.TestCase
TestFailing.settings = settings(repeatable, max_examples=60, stateful_step_count=40)


async def filled(life: Life, count: int, size: int = 100, every: int = 20) -> None:
    """Push trades, and let the disk work now and then."""
    for number in range(1, count + 1):
        life.push(record(TRADE, number, size, number))
        if number % every == 0:
            await life.overflow.work()


async def test_from_half_the_bound_on_records_go_to_the_disk_and_come_back_in_order(
    tmp_path: Path, journal: Journal
) -> None:
    life, broker = Life(tmp_path), Broker()
    await filled(life, 1000)
    assert life.overflow.on_disk > 500
    assert life.outbox.bytes <= MAX_BYTES
    assert life.outbox.pending() == {"trade": 1000}
    await life.publish_all(broker)
    assert broker.numbers[TRADE.name] == [*range(1, 1001)]
    assert life.counts.dropped == {}
    assert [entry["event"] for entry in journal.entries] == ["spill_begins", "spill_ends"]
    life.overflow.close()


async def test_a_full_disk_gives_up_the_oldest_and_says_so_once(
    tmp_path: Path, journal: Journal
) -> None:
    life, broker = Life(tmp_path, SMALLEST_BYTES), Broker()
    await filled(life, 6000)
    dropped = life.counts.dropped["trade", "outbox_full"]
    assert dropped > 1000
    assert len(journal.named("spill_full")) == 1
    assert life.counts.failures == {"spill_full": 1}
    await life.publish_all(broker)
    assert broker.numbers[TRADE.name] == [*range(dropped + 1, 6001)]
    assert life.lost[TRADE.name] == {*range(1, dropped + 1)}
    life.overflow.close()


async def test_what_tells_of_a_loss_goes_ahead_when_a_full_disk_gives_it_up(tmp_path: Path) -> None:
    life = Life(tmp_path, SMALLEST_BYTES)
    life.push(record(route("S0", "gap"), 1))
    await filled(life, 6000)
    assert life.counts.dropped["trade", "outbox_full"] > 1000
    assert life.outbox.pending()["gap"] == 1
    assert [number_of(one) for one in life.outbox.announcements()] == [1]
    life.overflow.close()


async def test_a_failing_disk_leaves_the_memory_and_is_tried_again(
    tmp_path: Path, journal: Journal
) -> None:
    life, broker = Life(tmp_path), Broker()
    life.spill.fails = True
    await filled(life, 1000)
    assert life.counts.failures == {"spill_failed": 1}
    assert len(journal.named("spill_failed")) == 1
    dropped = life.counts.dropped["trade", "outbox_full"]
    assert dropped > 500
    life.spill.fails = False
    await life.overflow.work()
    assert len(journal.named("spill_works_again")) == 1
    await life.publish_all(broker)
    assert broker.numbers[TRADE.name] == [*range(dropped + 1, 1001)]
    assert life.lost[TRADE.name] == {*range(1, dropped + 1)}
    life.overflow.close()


async def test_a_file_broken_under_way_costs_what_it_held_and_no_more(
    tmp_path: Path, journal: Journal
) -> None:
    life, broker = Life(tmp_path), Broker()
    await filled(life, 1000)
    life.spill._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    life.spill._database.execute("PRAGMA cache_size = 0")
    file = tmp_path / "outbox.sqlite"
    with file.open("r+b") as raw:
        raw.write(b"broken" * (file.stat().st_size // 6))
    await life.publish_all(broker)
    lost = life.counts.dropped["trade", "spill_broken"]
    found = [*broker.numbers[TRADE.name]]
    assert lost > 500
    assert len(found) == 1000 - lost
    assert life.lost[TRADE.name] == {*range(1, 1001)} - {*found}
    assert journal.named("spill_broken")
    life.push(record(TRADE, 1001))
    await life.publish_all(broker)
    assert broker.numbers[TRADE.name] == [*found, 1001]
    life.overflow.close()


async def test_a_hole_between_the_topic_and_the_disk_is_noted(tmp_path: Path) -> None:
    """What a process dropped and did not live to announce."""
    spill = FrailSpill(tmp_path, 2**30)
    for numbers in (range(50, 60), range(70, 80)):
        spill.append([record(TRADE, number) for number in numbers])
    spill.close()
    life, broker = Life(tmp_path), Broker()
    broker.land([record(TRADE, number) for number in range(1, 41)])
    await life.publish_all(broker)
    assert life.lost[TRADE.name] == {*range(41, 50), *range(60, 70)}
    life.overflow.close()


async def test_cancelled_the_overflow_ends_what_the_disk_is_doing(tmp_path: Path) -> None:
    life = Life(tmp_path)
    running = asyncio.create_task(life.overflow.run())
    for number in range(1, 151):
        life.push(record(TRADE, number, 20, number))
        await asyncio.sleep(0)
    await asyncio.sleep(LINGER_S)
    running.cancel()
    await asyncio.wait((running,))
    life.overflow.close()
    assert life.overflow.on_disk == 150
    again, broker = Life(tmp_path), Broker()
    assert again.counts.restored == {"trade": 150}
    await again.publish_all(broker)
    assert broker.numbers[TRADE.name] == [*range(1, 151)]
    again.overflow.close()


async def test_damage_in_what_may_have_been_sent_does_not_stop_the_start(
    tmp_path: Path, journal: Journal
) -> None:
    spill = FrailSpill(tmp_path, 2**30)
    for first in range(1, 2001, 100):
        spill.append([record(TRADE, number, 1000) for number in range(first, first + 100)])
    while spill.read():
        pass
    spill.close()
    file = tmp_path / "outbox.sqlite"
    with file.open("r+b") as raw:
        raw.seek(file.stat().st_size // 2)
        raw.write(b"broken" * 20_000)
    life, broker = Life(tmp_path), Broker()
    await life.publish_all(broker)
    found = broker.numbers[TRADE.name]
    assert 0 < len(found) < 2000
    assert life.lost[TRADE.name] == {*range(1, 2001)} - {*found}
    account = accounts(Counter(), life.counts, life.outbox.pending())["trade"]
    assert account.received == account.published + account.dropped == len(found) + account.dropped
    assert journal.named("spill_broken") or journal.named("spill_chunk_broken")
    life.overflow.close()
