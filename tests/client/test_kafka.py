"""Reading the topics: every event, in order, through failures, and a timeout for every wait."""

import asyncio
import json
from collections.abc import Iterable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions, RecordsToDelete
from msgspec.structs import replace

from bridge import settings
from bridge.brokers import kafka_consumer
from bridge.client import (
    AnyEvent,
    ContinuityBroken,
    FromId,
    Gap,
    KafkaFeed,
    Trade,
    UnknownMessageType,
)
from bridge.client import kafka as kafka_feed
from bridge.client import kafka_consumer as reading
from bridge.client.start import Start
from bridge.core.model.stream import SPOT
from bridge.errors import EventRemoved, RecordsRemoved, SinkUnavailable
from bridge.tools.embedded import free_port
from tests.support.audit_publishing import publish as write_values
from tests.support.brokers import Kafka, KafkaBroker, administration, frozen, never_answering
from tests.support.journal import logged
from tests.support.publishing import gap, kafka_options, publish, trade


@pytest.fixture
def options(kafka: Kafka, unique: str) -> settings.Kafka:
    return kafka_options(kafka, unique)


async def read(feed: KafkaFeed, count: int) -> list[bytes]:
    values: list[bytes] = []
    async with asyncio.timeout(30), aclosing(feed.batches()) as batches:
        async for batch in batches:
            values += batch
            if len(values) >= count:
                break
    return values


async def taken(feed: KafkaFeed, count: int) -> list[AnyEvent]:
    async with asyncio.timeout(60):
        return [await anext(feed) for _ in range(count)]


def ids(events: Iterable[AnyEvent]) -> list[int]:
    return [event.trade_id for event in events if isinstance(event, Trade)]


async def delete_records(kafka: Kafka, partition: str, before: int) -> None:
    topic, _, number = partition.rpartition(":")
    async with administration(kafka) as admin:
        place = TopicPartition(topic, int(number))
        await admin.delete_records({place: RecordsToDelete(before_offset=before)})


async def write_foreign(options: settings.Kafka, *values: bytes) -> None:
    """Write to the partition that has BTCUSDT."""
    async with KafkaFeed(options, "trade", symbols="BTCUSDT", check="off") as feed:
        (name,) = feed.position
    await write_values(options, "trade", values, partition=int(name.rpartition(":")[2]))


async def test_from_the_start_every_record_is_read_in_order(options: settings.Kafka) -> None:
    values = await publish(options, [trade("BTCUSDT", number) for number in range(2500)])
    async with KafkaFeed(options, ["trade"], start="earliest") as feed:
        assert await read(feed, 2500) == values


async def test_a_feed_misses_nothing_from_the_moment_it_is_entered(
    options: settings.Kafka,
) -> None:
    await publish(options, [trade("BTCUSDT", 1)])
    async with KafkaFeed(options, ["trade"]) as feed:
        values = await publish(options, [trade("BTCUSDT", 2)])
        assert await read(feed, 1) == values


async def test_a_symbol_costs_only_its_own_partition(options: settings.Kafka) -> None:
    symbols = ["BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT"]
    await publish(options, [trade(s, number) for number in range(3) for s in symbols])
    async with KafkaFeed(options, ["trade"], symbols=["ethusdt"], start="earliest") as feed:
        assert len(feed.position) == 2
        assert [b"ETHUSDT" in value for value in await read(feed, 3)] == [True] * 3


async def test_events_of_several_kinds_come_typed(options: settings.Kafka) -> None:
    await publish(options, [trade("BTCUSDT", 7), gap("BTCUSDT")])
    async with KafkaFeed(options, ["trade", "gap"], start="earliest") as feed:
        message_types = {type(event).__name__ for event in await taken(feed, 2)}
    assert message_types == {"Trade", "Gap"}


async def test_statuses_of_a_symbol_are_found_in_the_partition_where_all_are(
    options: settings.Kafka,
) -> None:
    status = {"message_type": "status", "venue": SPOT, "timestamp": None, "received": 1}
    status |= {"source": "bridge", "feed": "live", "since": 1, "owner": "someone", "standby": None}
    status |= dict.fromkeys(("trade_id", "agg_trade_id", "complete_to", "checked"))
    symbols = [f"S{number}USDT" for number in range(20)]
    values = [json.dumps(status | {"symbol": symbol}).encode() for symbol in symbols]
    await write_values(options, "status", values, partition=0, keys=symbols)
    for symbol in symbols:
        async with KafkaFeed(options, "status", symbols=symbol, start="earliest") as feed:
            (event,) = await taken(feed, 1)
            assert event.symbol == symbol


async def test_an_absent_topic_is_named_and_not_created(options: settings.Kafka) -> None:
    for _ in range(2):
        with pytest.raises(SinkUnavailable, match=r"no topic \S+\.block_trade"):
            await KafkaFeed(options, ["block_trade"]).__aenter__()


async def test_an_absent_broker_is_named() -> None:
    with pytest.raises(SinkUnavailable, match=r"localhost:\d+ cannot be reached"):
        await KafkaFeed(f"localhost:{free_port()}", ["trade"]).__aenter__()


async def test_a_broker_that_never_answers_is_given_up() -> None:
    async with never_answering() as address:
        options = settings.Kafka(bootstrap_servers=[address], request_timeout_ms=200)
        with pytest.raises(SinkUnavailable, match=address):
            await KafkaFeed(options, ["trade"]).__aenter__()


async def test_a_feed_continues_without_a_loss_after_kafka_was_away(
    own_kafka: KafkaBroker,
    unique: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(reading, "QUIET_S", 0.1)
    monkeypatch.setattr(kafka_consumer, "STOP_TIMEOUT_S", 0.5)
    options = kafka_options(own_kafka, unique)
    await publish(options, [trade("BTCUSDT", number) for number in range(10)])
    quick = options.model_copy(update={"request_timeout_ms": 3000})
    async with KafkaFeed(quick, "trade", start="earliest") as feed:
        first = [await anext(feed) for _ in range(4)]
        coming = asyncio.create_task(taken(feed, 16))
        async with frozen(own_kafka):
            await logged(caplog, "does not answer within 3 s")
        await publish(options, [trade("BTCUSDT", number) for number in range(10, 20)])
        assert ids([*first, *await coming]) == [*range(20)]


async def test_a_feed_continues_at_a_position_that_was_stored(options: settings.Kafka) -> None:
    """Also within a fetch: the position belongs to the last event that was returned."""
    symbols = ("BTCUSDT", "ETHUSDT", "BNBUSDT")
    await publish(options, [trade(s, number) for number in range(20) for s in symbols])
    found: list[AnyEvent] = []
    position: Start = "earliest"
    for count in (1, 7, 0, 30, 22):
        async with KafkaFeed(options, "trade", start=position) as feed:
            found += await taken(feed, count)
            position = json.loads(json.dumps(feed.position))
    for symbol in symbols:
        assert ids([event for event in found if event.symbol == symbol]) == [*range(20)]


async def test_a_gap_event_before_a_stored_position_still_counts(options: settings.Kafka) -> None:
    """It is returned before the events that were fetched with it."""
    events = [*(trade("BTCUSDT", number) for number in (1, 2)), gap("BTCUSDT", 3, 4)]
    await publish(options, [*events, trade("BTCUSDT", 5)])
    async with KafkaFeed(options, ["trade", "gap"], start="earliest") as feed:
        while ids(await taken(feed, 1)) != [1]:
            pass
        position = feed.position
    async with KafkaFeed(options, "trade", start=position, check="raise") as again:
        assert ids(await taken(again, 2)) == [2, 5]


async def test_batches_have_a_position_too(options: settings.Kafka) -> None:
    values = await publish(options, [trade("BTCUSDT", number) for number in range(2500)])
    async with KafkaFeed(options, "trade", start="earliest") as feed:
        first = await read(feed, 1)
    async with KafkaFeed(options, "trade", start=feed.position) as again:
        assert first + await read(again, 2500 - len(first)) == values


async def test_a_feed_starts_at_a_time(real_kafka: Kafka, unique: str) -> None:
    options = kafka_options(real_kafka, unique)
    await publish(options, [trade("BTCUSDT", number) for number in range(5)])
    await asyncio.sleep(0.01)  # records have times in milliseconds
    since = datetime.now(UTC)
    await publish(options, [trade("BTCUSDT", number) for number in range(5, 10)])
    async with KafkaFeed(options, "trade", start=since) as feed:
        assert ids(await taken(feed, 5)) == [*range(5, 10)]
    async with KafkaFeed(options, "trade", start=datetime(1900, 1, 1, tzinfo=UTC)) as feed:
        assert ids(await taken(feed, 10)) == [*range(10)]


async def test_a_start_after_the_last_record_waits_for_the_next(options: settings.Kafka) -> None:
    await publish(options, [trade("BTCUSDT", 1)])
    async with KafkaFeed(options, "trade", start=datetime.now(UTC) + timedelta(days=1)) as feed:
        await publish(options, [trade("BTCUSDT", 2)])
        assert ids(await taken(feed, 1)) == [2]


@pytest.mark.parametrize("offset", [3, 10**9], ids=["removed", "not_there_yet"])
async def test_records_that_are_gone_are_named_and_not_skipped(
    real_kafka: Kafka, unique: str, offset: int
) -> None:
    options = kafka_options(real_kafka, unique)
    await publish(options, [trade("BTCUSDT", number) for number in range(10)])
    async with KafkaFeed(options, "trade", symbols="BTCUSDT", check="off") as feed:
        (name,) = feed.position
    await delete_records(real_kafka, name, 5)
    with pytest.raises(RecordsRemoved, match=rf"no record {offset} of {name}.* from 5 to 10"):
        await KafkaFeed(options, "trade", start={name: offset}).__aenter__()


async def test_records_that_are_removed_before_they_are_read_are_named(
    real_kafka: Kafka, unique: str
) -> None:
    options = kafka_options(real_kafka, unique)
    await publish(options, [trade("BTCUSDT", number) for number in range(10)])
    feed = KafkaFeed(options, "trade", symbols="BTCUSDT", start="earliest", check="off")
    async with feed:
        (name,) = feed.position
        await delete_records(real_kafka, name, 5)
        # As if nothing had been fetched ahead.
        (place,) = feed._consumer.offsets
        feed._consumer._consumer.seek(place, 0)
        with pytest.raises(RecordsRemoved, match=rf"no record 0 of {name}"):
            await taken(feed, 10)


async def test_a_partition_that_is_added_is_read_from_its_beginning(
    real_kafka: Kafka, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "QUIET_S", 0.1)
    monkeypatch.setitem(reading.Consumer.consumer_options, "metadata_max_age_ms", 200)
    options = kafka_options(real_kafka, unique)
    symbols = [f"S{number}USDT" for number in range(40)]
    await publish(options, [trade(symbol, 1) for symbol in symbols])
    async with KafkaFeed(options, "trade", start="earliest") as feed:
        await taken(feed, 40)
        async with administration(real_kafka) as admin:
            more = NewPartitions(total_count=2 * options.partitions)
            await admin.create_partitions({f"{unique}.trade": more})
        await publish(options, [trade(symbol, 2) for symbol in symbols])
        assert sorted(event.symbol for event in await taken(feed, 40)) == sorted(symbols)
        assert len(feed.position) == 3 * options.partitions


async def test_foreign_records_are_passed_over_and_the_first_is_named(
    options: settings.Kafka, caplog: pytest.LogCaptureFixture
) -> None:
    await publish(options, [trade("BTCUSDT", 1)])
    await write_foreign(options, b"\xff", b"[" * 100_000, b"{}")
    await publish(options, [trade("BTCUSDT", 2)])
    async with KafkaFeed(options, "trade", start="earliest") as feed:
        assert ids(await taken(feed, 2)) == [1, 2]
    assert caplog.text.count("Foreign records are passed over") == 1


async def test_an_event_of_a_newer_version_is_named_and_reading_can_go_on(
    options: settings.Kafka,
) -> None:
    await publish(options, [trade("BTCUSDT", 1)])
    await write_foreign(options, b'{"message_type":"hologram"}')
    await publish(options, [trade("BTCUSDT", 2)])
    async with KafkaFeed(options, "trade", start="earliest") as feed:
        assert ids(await taken(feed, 1)) == [1]
        with pytest.raises(UnknownMessageType, match="hologram"):
            await anext(feed)
        assert ids(await taken(feed, 1)) == [2]


async def test_a_gap_event_comes_before_the_first_event_after_its_gap(
    options: settings.Kafka,
) -> None:
    await publish(options, [trade("BTCUSDT", 1), gap("BTCUSDT", 2, 3), trade("BTCUSDT", 4)])
    async with KafkaFeed(options, ["trade", "gap"], start="earliest") as feed:
        before = await taken(feed, 3)
        await publish(options, [gap("BTCUSDT", 5, 6), trade("BTCUSDT", 7)])
        live = await taken(feed, 2)
    assert before.index(find(before, 2)) < before.index(find(before, 4))
    assert live.index(find(live, 5)) < live.index(find(live, 7))
    assert feed.findings == []


def find(events: list[AnyEvent], number: int) -> AnyEvent:
    """Return the trade with this id, or the gap event that begins with it."""
    return next(
        event
        for event in events
        if (isinstance(event, Trade) and event.trade_id == number)
        or (isinstance(event, Gap) and event.first_id == number)
    )


async def test_gap_events_are_read_for_the_check_and_not_returned(options: settings.Kafka) -> None:
    await publish(options, [trade("BTCUSDT", 1), gap("BTCUSDT", 2, 3), trade("BTCUSDT", 4)])
    async with KafkaFeed(options, "trade", start="earliest") as feed:
        assert ids(await taken(feed, 2)) == [1, 4]
    assert feed.findings == []


async def test_gap_events_from_before_the_start_count_and_are_not_returned(
    real_kafka: Kafka, unique: str
) -> None:
    """Their time is that of our clock, and the clock of the exchange may be ahead of it."""
    options = kafka_options(real_kafka, unique)
    earlier = replace(gap("BTCUSDT", 2, 3), received=trade("BTCUSDT", 1).received - 600_000_000)
    events = [earlier, trade("BTCUSDT", 1), trade("BTCUSDT", 4), gap("BTCUSDT", 5, 5)]
    await publish(options, events, at_their_time=True)
    start = datetime.fromtimestamp(1723161254, UTC)
    async with KafkaFeed(options, ["trade", "gap"], start=start) as feed:
        read = await taken(feed, 3)
    assert sorted(ids(read)) == [1, 4]
    assert [event.first_id for event in read if isinstance(event, Gap)] == [5]
    assert feed.findings == []


async def test_a_flood_of_findings_is_counted(
    options: settings.Kafka, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kafka_feed, "FINDINGS_MAX", 3)
    await publish(options, [trade("BTCUSDT", 2 * number) for number in range(10)])
    async with KafkaFeed(options, "trade", start="earliest") as feed:
        await taken(feed, 10)
    assert (len(feed.findings), feed.findings_count) == (3, 9)
    assert caplog.text.count("missing and not announced") == 3
    assert caplog.text.count("More than 3 findings") == 1


async def test_a_loss_that_nobody_has_announced_is_reported(
    options: settings.Kafka, caplog: pytest.LogCaptureFixture
) -> None:
    numbers = [1, 2, 5, 5, 6]
    await publish(options, [trade("BTCUSDT", number) for number in numbers])
    async with KafkaFeed(options, "trade", start="earliest") as feed:
        assert ids(await taken(feed, 5)) == numbers
    assert [str(finding) for finding in feed.findings] == [
        "trade of BTCUSDT: ids 3 to 4 missing and not announced",
        "trade of BTCUSDT: id 5 repeated",
    ]
    assert "ids 3 to 4 missing" in caplog.text


async def test_a_loss_can_raise_and_its_event_follows(options: settings.Kafka) -> None:
    await publish(options, [trade("BTCUSDT", number) for number in (1, 4, 5)])
    async with KafkaFeed(options, "trade", start="earliest", check="raise") as feed:
        assert ids(await taken(feed, 1)) == [1]
        with pytest.raises(ContinuityBroken, match="ids 2 to 3 missing") as broken:
            await anext(feed)
        assert ids(await taken(feed, 2)) == [4, 5]
    assert [(each.first_id, each.last_id) for each in broken.value.findings] == [(2, 3)]


async def test_without_the_check_the_topic_of_gap_events_is_not_needed(
    options: settings.Kafka,
) -> None:
    await publish(options, [trade("BTCUSDT", number) for number in (1, 4)])
    async with KafkaFeed(options, "trade", start="earliest", check="off") as feed:
        assert ids(await taken(feed, 2)) == [1, 4]
        assert {name.rpartition(":")[0] for name in feed.position} == {
            options.topic.format(venue=SPOT, message_type="trade")
        }


@pytest.mark.parametrize("first", [1, 437, 1500, 2999])
async def test_a_feed_starts_at_an_id(real_kafka: Kafka, unique: str, first: int) -> None:
    """Also if trades that were fetched late lie after higher ids, and other symbols between."""
    options = kafka_options(real_kafka, unique)
    late = range(700, 720)
    numbers = [number for number in range(1, 3000) if number not in late]
    numbers[1200:1200] = late
    events = [trade(s, number) for number in numbers for s in ("BTCUSDT", "ETHUSDT")]
    await publish(options, events)
    feed = KafkaFeed(options, "trade", symbols="BTCUSDT", start=FromId(first))
    async with feed:
        read = ids(await taken(feed, 3000 - first))
    assert read == [number for number in numbers if number >= first]


async def test_a_feed_waits_for_an_id_that_has_not_come_yet(real_kafka: Kafka, unique: str) -> None:
    options = kafka_options(real_kafka, unique)
    await publish(options, [trade("BTCUSDT", 1)])
    async with KafkaFeed(options, "trade", symbols="BTCUSDT", start=FromId(3)) as feed:
        await publish(options, [trade("BTCUSDT", number) for number in (2, 3, 4)])
        assert ids(await taken(feed, 2)) == [3, 4]


async def test_an_id_before_the_first_event_is_named(real_kafka: Kafka, unique: str) -> None:
    options = kafka_options(real_kafka, unique)
    await publish(options, [trade("BTCUSDT", number) for number in range(100, 110)])
    feed = KafkaFeed(options, "trade", symbols="BTCUSDT", start=FromId(7))
    with pytest.raises(EventRemoved, match="begins with id 100 of this symbol, after 7"):
        await feed.__aenter__()


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("newest", "'newest' is not earliest, latest"),
        (datetime(2026, 1, 1), "has no time zone"),  # noqa: DTZ001
        ({"binance.spot.quote:0": 1}, "'binance.spot.quote:0', which is no partition of"),
        ({"binance.spot.trade:x": 1}, "'binance.spot.trade:x', which is no partition of"),
        ({"binance.spot.trade:0": -1}, "is -1, which is no offset"),
        ({"binance.spot.trade:0": "1"}, "is '1', which is no offset"),
        (FromId(5), "needs exactly one symbol"),
        (FromId(-5), "the id -5, which is no id"),
    ],
)
def test_a_wrong_start_is_named(start: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KafkaFeed("localhost:9092", "trade", start=start)


def test_an_id_needs_a_message_type_with_contiguous_ids() -> None:
    with pytest.raises(ValueError, match="one message type of trade, agg_trade, book_delta"):
        KafkaFeed("localhost:9092", "quote", symbols="BTCUSDT", start=FromId(5))


def test_an_unknown_check_is_named() -> None:
    with pytest.raises(ValueError, match="'loud' is not report, raise or off"):
        KafkaFeed("localhost:9092", "trade", check="loud")  # type: ignore[arg-type]


def test_servers_that_are_none_are_refused_before_anything_is_opened() -> None:
    with pytest.raises(ValueError, match="bootstrap_servers"):
        KafkaFeed("nowhere", ["trade"])
