"""Sharing the topics in a consumer group: every event at least once, and in order per symbol."""

import asyncio
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import NewPartitions, RecordsToDelete
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import CoordinatorNotAvailableError, GroupAuthorizationFailedError
from aiokafka.structs import TopicPartition

from bridge import settings
from bridge.brokers import kafka_consumer
from bridge.brokers.kafka_consumer import partitions_of_topics
from bridge.client import AnyEvent, FromId, Gap, KafkaFeed, Trade, sync
from bridge.client import kafka_consumer as reading
from bridge.errors import RecordsRemoved, SinkRefused, SinkUnavailable
from tests.support.brokers import Kafka, KafkaBroker, administration, frozen
from tests.support.journal import logged
from tests.support.publishing import gap, kafka_options, publish, trade

SYMBOLS = [f"S{number}USDT" for number in range(12)]


@pytest.fixture
def options(real_kafka: Kafka, unique: str) -> settings.Kafka:
    return kafka_options(real_kafka, unique)


def feed_of(options: settings.Kafka, message_types: Any = "trade", **more: Any) -> KafkaFeed:
    """Return a feed of the group of this test, which is named as its topics."""
    group = options.topic.partition(".")[0]
    return KafkaFeed(options, message_types, **{"start": "earliest", "group": group} | more)


async def taken(feed: KafkaFeed, count: int) -> list[AnyEvent]:
    async with asyncio.timeout(60):
        return [await anext(feed) for _ in range(count)]


def ids(events: Sequence[AnyEvent]) -> list[int]:
    return [event.trade_id for event in events if isinstance(event, Trade)]


def trades(*numbers: int, symbols: Sequence[str] = ("BTCUSDT",)) -> list[Any]:
    return [trade(symbol, number) for number in numbers for symbol in symbols]


class Stopped(Exception):
    """A program that ends without a commit."""


class Collector:
    """Reads feeds in tasks, and keeps what they return."""

    def __init__(self) -> None:
        self.by_symbol: dict[str, list[int]] = defaultdict(list)
        self.readers: dict[str, set[int]] = defaultdict(set)

    async def read(self, number: int, feed: KafkaFeed) -> None:
        async for event in feed:
            assert isinstance(event, Trade)
            self.by_symbol[event.symbol].append(event.trade_id)
            self.readers[event.symbol].add(number)

    async def until(self, last: int) -> None:
        async with asyncio.timeout(60):
            while not all(last in self.by_symbol[symbol] for symbol in SYMBOLS):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    @asynccontextmanager
    async def reading(self, number: int, feed: KafkaFeed) -> AsyncIterator[None]:
        async with feed:
            task = asyncio.create_task(self.read(number, feed))
            try:
                yield
            finally:
                task.cancel()
                await asyncio.wait([task])


async def test_two_processes_share_the_symbols_and_each_event_comes_once(
    options: settings.Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one joins and while one leaves; the order of each symbol is kept."""
    monkeypatch.setattr(reading, "QUIET_S", 0.2)
    await publish(options, trades(*range(1, 51), symbols=SYMBOLS))
    found = Collector()
    async with found.reading(1, feed_of(options)):
        await found.until(50)
        async with found.reading(2, feed_of(options)):
            await publish(options, trades(*range(51, 101), symbols=SYMBOLS))
            await found.until(100)
            await publish(options, trades(*range(101, 111), symbols=SYMBOLS))
            await found.until(110)
            owners = {number for readers in found.readers.values() for number in readers}
            assert owners == {1, 2}
        await publish(options, trades(*range(111, 121), symbols=SYMBOLS))
        await found.until(120)
    assert dict(found.by_symbol) == {symbol: [*range(1, 121)] for symbol in SYMBOLS}


async def test_what_was_fetched_and_not_returned_goes_to_the_next_owner(
    options: settings.Kafka,
) -> None:
    await publish(options, trades(*range(1, 4), symbols=SYMBOLS))
    async with feed_of(options) as first:
        before = await taken(first, 1)
        async with feed_of(options) as second:
            left, right = await together(first, second, count=len(SYMBOLS) * 3, known=before)
    # The event that was in hand comes again if its partition went away.
    again = len(before) + len(left) + len(right) - len(SYMBOLS) * 3
    assert again == len([event for event in right if event in before])
    assert right, "both have symbols"
    for symbol in SYMBOLS:
        of_symbol = [event for event in [*before, *left] if event.symbol == symbol]
        other = [event for event in right if event.symbol == symbol]
        assert ids(of_symbol) in ([], [1], [1, 2, 3])
        assert ids(other) in ([], [1, 2, 3])


async def together(
    *feeds: KafkaFeed, count: int, known: Sequence[AnyEvent] = ()
) -> list[list[AnyEvent]]:
    """Read several feeds until they have returned `count` different events, and those known."""
    found: list[list[AnyEvent]] = [[] for _ in feeds]

    async def read(feed: KafkaFeed, events: list[AnyEvent]) -> None:
        async for event in feed:
            events.append(event)  # noqa: PERF401 - they are looked at meanwhile

    def different() -> int:
        return len({repr(event) for events in (known, *found) for event in events})

    readers = [asyncio.create_task(read(*each)) for each in zip(feeds, found, strict=True)]
    async with asyncio.timeout(60):
        while different() < count:  # noqa: ASYNC110 - a list has no event
            await asyncio.sleep(0.01)
    for reader in readers:
        reader.cancel()
    await asyncio.wait(readers)
    return found


async def test_a_group_continues_after_what_was_returned(options: settings.Kafka) -> None:
    await publish(options, trades(*range(1, 11)))
    async with feed_of(options) as feed:
        assert ids(await taken(feed, 4)) == [1, 2, 3, 4]
    async with feed_of(options) as feed:
        assert ids(await taken(feed, 6)) == [*range(5, 11)]


async def test_what_was_not_committed_comes_again(options: settings.Kafka) -> None:
    await publish(options, trades(*range(1, 11)))
    with suppress(Stopped):
        async with feed_of(options) as feed:
            await taken(feed, 3)
            await feed.commit()
            await taken(feed, 4)
            raise Stopped
    async with feed_of(options) as feed:
        assert ids(await taken(feed, 7)) == [*range(4, 11)]


async def test_after_a_kill_what_was_not_committed_comes_again(
    options: settings.Kafka, unique: str
) -> None:
    await publish(options, trades(*range(1, 11)))
    program = f"""
from bridge import settings
from bridge.client.sync import KafkaFeed

options = settings.Kafka(bootstrap_servers={options.bootstrap_servers}, topic={options.topic!r})
with KafkaFeed(options, "trade", start="earliest", group={unique!r}) as feed:
    for trade in feed:
        print(trade.trade_id, flush=True)
        if trade.trade_id == 3:
            feed.commit()
"""
    words = (sys.executable, "-c", program)
    reader = await asyncio.create_subprocess_exec(*words, stdout=subprocess.PIPE)
    assert reader.stdout
    async with asyncio.timeout(60):
        assert [int(await reader.stdout.readline()) for _ in range(7)] == [*range(1, 8)]
    reader.kill()
    await reader.wait()
    async with feed_of(options) as feed:
        assert ids(await taken(feed, 7)) == [*range(4, 11)]


async def test_a_group_continues_without_a_loss_after_kafka_was_away(
    own_kafka: KafkaBroker,
    unique: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(reading, "QUIET_S", 0.1)
    monkeypatch.setattr(kafka_consumer, "STOP_TIMEOUT_S", 0.5)
    options = kafka_options(own_kafka, unique)
    await publish(options, trades(*range(1, 6)))
    quick = options.model_copy(update={"request_timeout_ms": 3000})
    async with feed_of(quick) as feed:
        assert ids(await taken(feed, 2)) == [1, 2]
        coming = asyncio.create_task(taken(feed, 6))
        async with frozen(own_kafka):
            await logged(caplog, "does not answer within 3 s")
        await publish(options, trades(*range(6, 9)))
        assert ids(await coming) == [*range(3, 9)]


async def test_a_group_misses_nothing_after_its_first_start(options: settings.Kafka) -> None:
    """The first start is committed, although nothing was returned."""
    await publish(options, trades(1))
    with suppress(Stopped):
        async with feed_of(options, start="latest"):
            raise Stopped
    await publish(options, trades(2))
    async with feed_of(options, start="latest") as feed:
        assert ids(await taken(feed, 1)) == [2]


async def test_a_group_starts_at_a_time(options: settings.Kafka) -> None:
    await publish(options, trades(1, 2))
    await asyncio.sleep(0.01)  # records have times in milliseconds
    since = datetime.now(UTC)
    await publish(options, trades(3))
    async with feed_of(options, start=since) as feed:
        assert ids(await taken(feed, 1)) == [3]


async def test_a_gap_event_goes_where_the_events_after_it_go(options: settings.Kafka) -> None:
    await publish(options, trades(1, symbols=SYMBOLS))
    async with feed_of(options, ["trade", "gap"]) as one, feed_of(options, ["trade", "gap"]) as two:
        await publish(options, [gap(symbol, 2, 3) for symbol in SYMBOLS])
        await publish(options, trades(4, symbols=SYMBOLS))
        reads = await together(one, two, count=3 * len(SYMBOLS))
    for events in reads:
        assert events, "both have symbols"
        for symbol in {event.symbol for event in events}:
            of_symbol = [event for event in events if event.symbol == symbol]
            assert [event for event in of_symbol if isinstance(event, Gap)]
            assert not isinstance(of_symbol[-1], Gap)
    assert one.findings == two.findings == []


async def test_a_gap_event_before_the_committed_offset_still_counts(
    options: settings.Kafka,
) -> None:
    await publish(options, [*trades(1, 2), gap("BTCUSDT", 3, 4), *trades(5)])
    wanted = ["trade", "gap"]
    async with feed_of(options, wanted) as feed:
        found = await taken(feed, 2)
        assert isinstance(found[0], Gap)
        assert ids(found) == [1]
    async with feed_of(options, wanted) as feed:
        assert ids(await taken(feed, 2)) == [2, 5]
        assert feed.findings == []


async def test_the_check_begins_anew_with_a_new_partition(options: settings.Kafka) -> None:
    await publish(options, trades(1, symbols=SYMBOLS))
    async with feed_of(options) as feed:
        await taken(feed, len(SYMBOLS))
        async with feed_of(options) as other:
            await publish(options, trades(2, symbols=SYMBOLS))
            await together(feed, other, count=len(SYMBOLS))
        # What the other has read is not missing here.
        await publish(options, trades(3, 5, symbols=SYMBOLS))
        await taken(feed, 2 * len(SYMBOLS))
    assert {str(finding).partition(":")[2] for finding in feed.findings} == {
        " id 4 missing and not announced"
    }


@pytest.mark.parametrize("other", [{"symbols": "BTCUSDT"}, {"message_types": ["trade", "gap"]}])
async def test_a_member_that_reads_something_else_is_refused(
    options: settings.Kafka, other: dict[str, Any]
) -> None:
    """With "gap" it reads the same topics, and may join."""
    await publish(options, trades(1))
    async with feed_of(options):
        if "symbols" in other:
            with pytest.raises(SinkRefused, match="read other message types or symbols"):
                await feed_of(options, **other).__aenter__()
        else:
            async with feed_of(options, **other):
                pass


async def test_a_group_of_another_program_is_refused(options: settings.Kafka, unique: str) -> None:
    await publish(options, trades(1))
    consumer = AIOKafkaConsumer(
        f"{unique}.trade", bootstrap_servers=options.bootstrap_servers, group_id=unique
    )
    await consumer.start()
    try:
        with pytest.raises(SinkRefused, match=f"the group '{unique}' has members that read other"):
            await feed_of(options).__aenter__()
    finally:
        await consumer.stop()


async def test_a_group_that_is_denied_is_named(
    options: settings.Kafka, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def denied(_consumer: AIOKafkaConsumer) -> None:
        raise GroupAuthorizationFailedError(unique)

    await publish(options, trades(1))
    monkeypatch.setattr(AIOKafkaConsumer, "start", denied)
    with pytest.raises(SinkRefused, match=f"Kafka denies the group '{unique}'; grant"):
        await feed_of(options).__aenter__()


async def test_a_group_that_does_not_let_us_in_is_named(
    options: settings.Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def waiting(_consumer: AIOKafkaConsumer) -> None:
        await asyncio.Event().wait()

    await publish(options, trades(1))
    monkeypatch.setattr(AIOKafkaConsumer, "start", waiting)
    feed = feed_of(options)
    feed._consumer._open_timeout_s = 1
    with pytest.raises(SinkUnavailable, match=r"did not let us into the group '\w+' within 1 s"):
        await feed.__aenter__()


async def test_a_reader_waits_no_longer_than_usual_for_a_group_that_no_broker_coordinates(
    options: settings.Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group was sharing its partitions out again when that broker failed."""

    async def has_none(*_: object) -> None:
        raise CoordinatorNotAvailableError

    await publish(options, trades(1))
    async with feed_of(options) as feed:
        await taken(feed, 1)
        with monkeypatch.context() as patch:
            patch.setattr(AIOKafkaClient, "coordinator_lookup", has_none)
            consumer = feed._consumer._consumer
            consumer._coordinator.coordinator_dead()
            consumer._subscription.begin_reassignment()
            async with asyncio.timeout(30):
                assert await feed._consumer.fetch() == {}


async def test_records_that_retention_removed_are_named(
    real_kafka: Kafka, options: settings.Kafka
) -> None:
    await publish(options, trades(*range(1, 11)))
    async with feed_of(options) as feed:
        await taken(feed, 2)
        (name,) = (at for at in feed.position if ".trade:" in at and feed.position[at] == 2)
    topic, _, number = name.rpartition(":")
    async with administration(real_kafka) as admin:
        place = TopicPartition(topic, int(number))
        await admin.delete_records({place: RecordsToDelete(before_offset=5)})
    with pytest.raises(RecordsRemoved, match=rf"no record 2 of {name}"):
        await feed_of(options).__aenter__()


async def test_topics_with_different_numbers_of_partitions_are_refused(
    real_kafka: Kafka, options: settings.Kafka, unique: str
) -> None:
    await publish(options, trades(1))
    async with administration(real_kafka) as admin:
        more = NewPartitions(total_count=options.partitions + 1)
        await admin.create_partitions({f"{unique}.trade": more})
    known: dict[str, list[int]] = {f"{unique}.trade": []}
    while len(known[f"{unique}.trade"]) <= options.partitions:
        known = await partitions_of_topics(options)
    with pytest.raises(SinkRefused, match=rf"{unique}.trade has {options.partitions + 1}"):
        await feed_of(options).__aenter__()
    async with feed_of(options, check="off") as feed:
        assert ids(await taken(feed, 1)) == [1]


async def test_one_symbol_is_read_from_its_partition_alone(options: settings.Kafka) -> None:
    await publish(options, trades(1, symbols=SYMBOLS))
    async with feed_of(options, symbols=SYMBOLS[3]) as feed:
        assert [event.symbol for event in await taken(feed, 1)] == [SYMBOLS[3]]
        assert len(feed.position) == 2


def test_a_group_is_read_in_a_for_loop(options: settings.Kafka, unique: str) -> None:
    asyncio.run(publish(options, trades(*range(1, 11))))
    with sync.KafkaFeed(options, "trade", start="earliest", group=unique) as feed:
        assert ids(list(islice(feed, 3))) == [1, 2, 3]
        feed.commit()
    with sync.KafkaFeed(options, "trade", start="earliest", group=unique) as feed:
        assert ids(list(islice(feed, 7))) == [*range(4, 11)]


@pytest.mark.parametrize("start", [FromId(5), {"binance.spot.trade:0": 1}])
def test_a_start_that_a_group_cannot_have_is_named(start: Any) -> None:
    with pytest.raises(ValueError, match="cannot be used with a group"):
        KafkaFeed("localhost:9092", "trade", symbols="BTCUSDT", start=start, group="mine")


def test_a_group_needs_a_name() -> None:
    with pytest.raises(ValueError, match="group is empty"):
        KafkaFeed("localhost:9092", "trade", group="")


async def test_without_a_group_nothing_can_be_committed() -> None:
    with pytest.raises(RuntimeError, match="without a group commits nothing"):
        await KafkaFeed("localhost:9092", "trade").commit()
