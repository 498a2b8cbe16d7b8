"""Compares an outbox with a disk, and a broker, with plain lists of the pushed records."""

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

from bridge.core.records.record import PriorityRecord, Record, Route, RouteKey
from bridge.core.sequencing.position import Position, StreamKey
from bridge.sinks.outbox.outbox import PartitionQueue, size_of
from bridge.sinks.outbox.spill_accounts import SpillAccounts
from bridge.sinks.outbox.spiller import LINGER_S, Spiller
from bridge.sinks.outbox.spilling_outbox import SpillingOutbox
from bridge.telemetry import SinkCounts, accounts
from tests.support.events import repeatable
from tests.support.journal import Journal, journal_kept
from tests.support.spilling import SMALLEST_BYTES, FrailSpill, Killed, number_of, record, route

pytestmark = pytest.mark.asyncio(loop_factories=["real"])

MAX_BYTES = 40_000
ROUTES = [route(f"S{index}", kind) for index in range(3) for kind in ("trade", "quote")]
ROUTE_OF = {of.route_key: of for of in ROUTES}
TRADE = ROUTES[0]
STREAM = StreamKey("trade", TRADE.symbol)
TRADES = [of.route_key for of in ROUTES if of.message_type == "trade"]


class Broker:
    """The committed records, and their numbers by symbol."""

    def __init__(self) -> None:
        self.numbers: dict[RouteKey, list[int]] = defaultdict(list)
        self.records: list[Record] = []

    def land(self, records: list[Record]) -> None:
        for one in records:
            if not isinstance(one, PriorityRecord):
                self.numbers[one.route.route_key].append(number_of(one))
                self.records.append(one)

    def positions(self) -> dict[StreamKey, Position]:
        return {
            StreamKey("trade", key.decode()): Position("trade", key.decode(), max(numbers), 0, 0, 0)
            for (topic, key), numbers in self.numbers.items()
            if topic.endswith("trade")
        }


class Life:
    """One process: its outbox, its spiller, and the ids it has announced as lost."""

    def __init__(self, folder: Path, spill_bytes: int = 2**30) -> None:
        self.folder = folder
        self.counts = SinkCounts()
        self.outbox = SpillingOutbox(MAX_BYTES, self.counts)
        self.spill = FrailSpill(folder, spill_bytes)
        self.spiller = Spiller(self.outbox, self.spill, self.counts, lambda: None)
        self.received = Counter(self.counts.restored)
        self.lost: dict[RouteKey, set[int]] = defaultdict(set)

    def queues(self) -> list[PartitionQueue]:
        return list(self.outbox._queues.values())

    @property
    def spill_accounts(self) -> SpillAccounts:
        return self.outbox.spill_accounts

    def push(self, new: Record) -> None:
        self.received[new.route.message_type] += 1
        self.outbox.push(new)

    def announce(self) -> None:
        for loss in self.outbox.losses.take():
            if loss.message_type == "trade":
                ids = range(loss.first_id, loss.last_id + 1)
                self.lost[f"binance.spot.{loss.message_type}", loss.symbol.encode()].update(ids)

    def connect(self, broker: Broker) -> None:
        """Find the committed records, as a new producer does first."""
        if restored := self.spiller.restored():
            for one in broker.records:
                restored.see(one.route.topic, one.route.key, one.value)
            self.spiller.settle(restored, broker.positions())
        self.announce()

    async def publish_all(self, broker: Broker) -> None:
        self.connect(broker)
        for _ in range(10_000):
            if not len(self.outbox):
                break
            await self.spiller.work()
            self.announce()
            for queue in self.outbox.idle():
                queue.in_flight = len(queue.records)
                broker.land(self.outbox.acknowledge(queue))
        assert not len(self.outbox), "everything is published in the end"
        await self.spiller.work()
        self.announce()


class OverflowMachine(RuleBasedStateMachine):
    """Pushes, acknowledged and unanswered batches, kills at any step of the disk, and stops.

    After a kill the lost trades are pushed again, as if fetched over REST. They begin after the
    last trade that the broker or the disk holds.
    """

    spill_bytes = 2**30

    def __init__(self) -> None:
        super().__init__()
        self.journal = journal_kept()
        self.journal.__enter__()
        self.loop = asyncio.new_event_loop()
        self.folders: list[Path] = []
        self.numbers: Counter[RouteKey] = Counter()
        self.lost: dict[RouteKey, set[int]] = defaultdict(set)
        # The numbers of quotes that were only in memory when the process was killed.
        self.gone: dict[RouteKey, set[int]] = defaultdict(set)
        self.broker = Broker()
        # Whether the batch of each queue was committed, before the sink knows it.
        self.committed: dict[PartitionQueue, bool] = {}
        self.sent: dict[PartitionQueue, list[Record]] = {}
        self.life = Life(self.folder(), self.spill_bytes)

    def folder(self) -> Path:
        self.folders.append(Path(tempfile.mkdtemp()))
        return self.folders[-1]

    def teardown(self) -> None:
        self.life.spill.fails = False
        self.lose_the_connection()
        self.reconnect()
        self.loop.run_until_complete(self.life.publish_all(self.broker))
        assert self.life.spiller.records_on_disk == 0
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
        """Check that each trade is there once and in order, and each quote not lost in a kill."""
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
        self.loop.run_until_complete(self.life.spiller.work())

    @rule(of=st.sampled_from(ROUTES), count=st.integers(1, 60), size=st.integers(0, 200))
    def push(self, of: Route, count: int, size: int) -> None:
        for _ in range(count):
            self.numbers[of.route_key] += 1
            self.push_one(of.route_key, self.numbers[of.route_key], size)

    def push_one(self, name: RouteKey, number: int, size: int) -> None:
        if self.life.outbox.bytes > MAX_BYTES * 0.8:
            self.work()
        self.life.push(record(ROUTE_OF[name], number, size, self.numbers.total()))

    @rule()
    def let_the_disk_work(self) -> None:
        self.work()

    @precondition(lambda self: self.life.outbox.idle() and not self.life.spiller.unsettled)
    @rule(data=st.data())
    def send(self, data: st.DataObject) -> None:
        idle = self.life.outbox.idle()
        queue = idle[data.draw(st.integers(0, len(idle) - 1))]
        self.send_first(queue, data.draw(st.integers(1, len(queue.records))))

    def send_first(self, queue: PartitionQueue, count: int) -> None:
        queue.in_flight = min(count, len(queue.records))
        self.committed[queue] = False
        self.sent[queue] = list(queue.records)[: queue.in_flight]

    @rule(count=st.integers(1, 40), fate=st.sampled_from(["lost", "committed", "answered"]))
    def send_what_came_back_from_disk(self, count: int, fate: str) -> None:
        self.reconnect()
        if not self.life.spill_accounts.spilling:
            self.life.outbox.spill()
        self.work()
        self.work()
        for queue in self.life.outbox.idle():
            self.send_first(queue, count)
            if fate != "lost":
                self.broker.land(self.sent[queue])
                self.committed[queue] = True
        if fate == "answered":
            self.answer()
            self.work()

    @precondition(lambda self: self.committed)
    @rule(data=st.data())
    def land(self, data: st.DataObject) -> None:
        """Let the broker commit a batch. Its answer may never arrive."""
        queues = [queue for queue, committed in self.committed.items() if not committed]
        if queues:
            queue = queues[data.draw(st.integers(0, len(queues) - 1))]
            self.broker.land(self.sent[queue])
            self.committed[queue] = True

    @rule()
    def answer(self) -> None:
        for queue in [queue for queue, committed in self.committed.items() if committed]:
            self.life.outbox.acknowledge(queue)
            del self.committed[queue]

    def lose_the_connection(self) -> None:
        self.life.outbox.release()

    @rule()
    def lose_the_connection_and_spill(self) -> None:
        """Spill while records are in doubt: the disk holds copies of them."""
        self.lose_the_connection()
        spill_accounts = self.life.spill_accounts
        if not spill_accounts.spilling:
            self.life.outbox.spill()
        self.work()
        self.reconnect()

    @rule()
    def reconnect(self) -> None:
        """Start a new producer, which has read the tails."""
        self.lose_the_connection()
        for queue, committed in self.committed.items():
            if committed:
                queue.in_flight = queue.in_doubt
                self.life.outbox.acknowledge(queue)
        self.committed.clear()
        self.life.connect(self.broker)
        self.life.outbox.clear_in_doubt()

    @rule(partitions=st.integers(1, 3))
    def assign(self, partitions: int) -> None:
        self.reconnect()
        self.life.outbox.assign(lambda of: int(of.symbol[1:]) % partitions)

    @rule()
    def stop_and_start(self) -> None:
        self.lose_the_connection()
        before = self.life.outbox.pending()
        self.life.spiller.close()
        assert self.life.spiller.records_on_disk == before.total()
        self.begin_anew(self.life.folder)
        self.life.connect(self.broker)  # part of a chunk may be committed
        assert len(self.life.outbox) <= before.total()

    @rule()
    def be_killed_and_start(self) -> None:
        self.note_gone()
        self.end_by_kill()

    @precondition(lambda self: len(self.life.outbox) > 0)
    @rule(fuse=st.integers(1, 12))
    def be_killed_at_work(self, fuse: int) -> None:
        """Kill the process before or after any step of the disk."""
        self.note_gone()
        self.life.spill.fuse = fuse
        spill_accounts = self.life.spill_accounts
        if not spill_accounts.spilling:
            self.life.outbox.spill()
        try:
            self.work()
        except Killed:
            self.end_by_kill()
        else:
            self.life.spill.fuse = 0

    def note_gone(self) -> None:
        """Note the quotes that are not on disk yet, and are lost in a kill."""
        spill_accounts = self.life.spill_accounts
        memory = [r for queue in self.life.queues() for r in queue.records]
        if spill_accounts.spilling and not spill_accounts.copies:
            memory = []
        for waiting in (*memory, *spill_accounts.awaiting_write):
            if waiting.route.message_type == "quote":
                self.gone[waiting.route.route_key].add(number_of(waiting))

    def end_by_kill(self) -> None:
        folder = self.folder()
        for file in self.life.folder.iterdir():
            shutil.copy(file, folder)
        self.life.spill.close()
        self.begin_anew(folder)

    def begin_anew(self, folder: Path) -> None:
        self.take_over()
        self.committed.clear()
        self.life = Life(folder, self.spill_bytes)
        known = self.broker.positions()
        for name in TRADES:
            stream = StreamKey("trade", name[1].decode())
            on_disk, ended = self.life.spill.positions(), self.life.spill.ends()
            if stream in ended and stream in known:  # a start without Kafka continues there
                assert ended[stream].last_id >= known[stream].last_id
            ends = [p[stream].last_id for p in (known, on_disk) if stream in p]
            for number in range(max(ends, default=0) + 1, self.numbers[name] + 1):
                self.push_one(name, number, 10)

    @invariant()
    def every_symbol_is_in_order_in_memory(self) -> None:
        seen: dict[RouteKey, list[int]] = defaultdict(list)
        queues = [waiting for queue in self.life.queues() for waiting in queue.records]
        for waiting in (*queues, *self.life.spill_accounts.awaiting_write):
            seen[waiting.route.route_key].append(number_of(waiting))
        for numbers in seen.values():
            assert all(one < next_ for one, next_ in pairwise(numbers))

    @invariant()
    def what_was_sent_stays_in_front(self) -> None:
        for queue in self.committed:
            assert list(queue.records)[: queue.protected] == self.sent[queue]

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
        spill_accounts = self.life.spill_accounts
        queues = sum(size_of(queue.records) for queue in self.life.queues())
        assert spill_accounts.awaiting_write_bytes == size_of(spill_accounts.awaiting_write)
        assert self.life.outbox.bytes == queues + spill_accounts.awaiting_write_bytes


class FailingMachine(OverflowMachine):
    """A small disk that sometimes fails and is too slow: dropped records are announced."""

    spill_bytes = SMALLEST_BYTES

    def check_the_whole_story(self) -> None:
        for name, last in self.numbers.items():
            found = self.broker.numbers[name]
            assert all(one < next_ for one, next_ in pairwise(found))
            if name in TRADES:
                assert {*range(1, last + 1)} <= self.lost[name].union(found)

    def push_one(self, name: RouteKey, number: int, size: int) -> None:
        self.life.push(record(ROUTE_OF[name], number, 3 * size, self.numbers.total()))
        outbox = self.life.outbox
        assert outbox.bytes <= MAX_BYTES or not outbox._waiting()

    @rule(fails=st.booleans())
    def fail_or_work_again(self, *, fails: bool) -> None:
        self.life.spill.fails = fails

    def stop_and_start(self) -> None:
        """Do nothing: a full disk cannot hold all records at a stop."""


TestOverflow = OverflowMachine.TestCase
TestOverflow.settings = settings(repeatable, max_examples=100, stateful_step_count=40)
TestFailing = FailingMachine.TestCase
TestFailing.settings = settings(repeatable, max_examples=60, stateful_step_count=40)


async def filled(life: Life, count: int, size: int = 100, every: int = 20) -> None:
    """Push trades, and let the disk work from time to time."""
    for number in range(1, count + 1):
        life.push(record(TRADE, number, size, number))
        if number % every == 0:
            await life.spiller.work()


async def test_from_half_the_bound_on_records_go_to_the_disk_and_come_back_in_order(
    tmp_path: Path, journal: Journal
) -> None:
    life, broker = Life(tmp_path), Broker()
    await filled(life, 1000)
    assert life.spiller.records_on_disk > 500
    assert life.outbox.bytes <= MAX_BYTES
    assert life.outbox.pending() == {"trade": 1000}
    await life.publish_all(broker)
    assert broker.numbers[TRADE.route_key] == [*range(1, 1001)]
    assert life.counts.dropped == {}
    assert [entry["event"] for entry in journal.entries] == ["spill_started", "spill_ended"]
    life.spiller.close()


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
    assert broker.numbers[TRADE.route_key] == [*range(dropped + 1, 6001)]
    assert life.lost[TRADE.route_key] == {*range(1, dropped + 1)}
    life.spiller.close()


async def test_what_tells_of_a_loss_goes_ahead_when_a_full_disk_gives_it_up(tmp_path: Path) -> None:
    life = Life(tmp_path, SMALLEST_BYTES)
    life.push(record(route("S0", "gap"), 1))
    await filled(life, 6000)
    assert life.counts.dropped["trade", "outbox_full"] > 1000
    assert life.outbox.pending()["gap"] == 1
    assert [number_of(one) for one in life.outbox.priority_records()] == [1]
    life.spiller.close()


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
    await life.spiller.work()
    assert len(journal.named("spill_recovered")) == 1
    await life.publish_all(broker)
    assert broker.numbers[TRADE.route_key] == [*range(dropped + 1, 1001)]
    assert life.lost[TRADE.route_key] == {*range(1, dropped + 1)}
    life.spiller.close()


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
    lost = life.counts.dropped["trade", "spill_corrupt"]
    found = [*broker.numbers[TRADE.route_key]]
    assert lost > 500
    assert len(found) == 1000 - lost
    assert life.lost[TRADE.route_key] == {*range(1, 1001)} - {*found}
    assert journal.named("spill_corrupt")
    life.push(record(TRADE, 1001))
    await life.publish_all(broker)
    assert broker.numbers[TRADE.route_key] == [*found, 1001]
    life.spiller.close()


async def test_a_hole_between_the_topic_and_the_disk_is_noted(tmp_path: Path) -> None:
    """The previous process was killed before it announced the records it had dropped."""
    spill = FrailSpill(tmp_path, 2**30)
    for numbers in (range(50, 60), range(70, 80)):
        spill.append([record(TRADE, number) for number in numbers])
    spill.close()
    life, broker = Life(tmp_path), Broker()
    broker.land([record(TRADE, number) for number in range(1, 41)])
    await life.publish_all(broker)
    assert life.lost[TRADE.route_key] == {*range(41, 50), *range(60, 70)}
    life.spiller.close()


async def test_the_disk_knows_no_end_of_a_stream_whose_later_records_went_past_it(
    tmp_path: Path,
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    life, broker = Life(first), Broker()
    await filled(life, 200)
    assert life.spill.positions() == {}
    for _ in range(10):
        await life.spiller.work()
        (queue,) = life.outbox.idle()
        queue.in_flight = len(queue.records) // 2
        broker.land(life.outbox.acknowledge(queue))
    assert not life.spill_accounts.spilling
    life.push(record(TRADE, 201))
    shutil.copytree(first, second)
    life.spiller.close()

    killed = Life(second)
    assert killed.spill.positions()[STREAM].last_id == 200
    assert killed.spill.ends() == {}
    killed.push(record(TRADE, 300))
    killed.spiller.close()

    again = Life(second)
    assert again.spill.ends()[STREAM].last_id == 300
    again.spiller.close()


async def test_while_kafka_was_not_reached_new_records_go_to_the_disk(tmp_path: Path) -> None:
    life, broker = Life(tmp_path), Broker()
    life.push(record(TRADE, 1))
    life.spiller.close()
    again = Life(tmp_path)
    for number in (2, 3):
        await again.spiller.work()
        again.push(record(TRADE, number))
    await again.spiller.work()
    spilled = [again.spill_accounts.spilling]
    again.connect(broker)
    await again.spiller.work()
    spilled.append(again.spill_accounts.spilling)
    assert spilled == [True, False]
    again.spiller.close()


async def test_cancelled_the_overflow_ends_what_the_disk_is_doing(tmp_path: Path) -> None:
    life = Life(tmp_path)
    running = asyncio.create_task(life.spiller.run())
    for number in range(1, 151):
        life.push(record(TRADE, number, 20, number))
        await asyncio.sleep(0)
    await asyncio.sleep(LINGER_S)
    running.cancel()
    await asyncio.wait((running,))
    life.spiller.close()
    assert life.spiller.records_on_disk == 150
    again, broker = Life(tmp_path), Broker()
    assert again.counts.restored == {"trade": 150}
    await again.publish_all(broker)
    assert broker.numbers[TRADE.route_key] == [*range(1, 151)]
    again.spiller.close()


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
    found = broker.numbers[TRADE.route_key]
    assert 0 < len(found) < 2000
    assert life.lost[TRADE.route_key] == {*range(1, 2001)} - {*found}
    account = accounts(Counter(), life.counts, life.outbox.pending())["trade"]
    assert account.received == account.published + account.dropped == len(found) + account.dropped
    assert journal.named("spill_corrupt") or journal.named("spill_chunk_corrupt")
    life.spiller.close()
