"""Topics that are added while the sink runs."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import errors as kafka_errors
from aiokafka.admin import NewTopic

from bridge.brokers.kafka_client import partition_of_key
from bridge.core.model.events import Quote
from bridge.errors import SinkRefused, SinkUnavailable
from bridge.sinks.kafka import producer as kafka_producer
from bridge.sinks.kafka.producer_session import ProducerSession
from bridge.sinks.kafka.sink import KafkaSink
from tests.sinks.kafka.test_sink import configured, ids, sink_for
from tests.support.brokers import Choice, Kafka, administration, read_topic
from tests.support.journal import Journal
from tests.support.sinks import TIME_US, Feeder, at_work, trade, trades

pytestmark = [pytest.mark.asyncio(loop_factories=["real"]), pytest.mark.timeout(90)]

SYMBOLS = ("BTCUSDT", "ETHUSDT", "牛来USDT")


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    """Make Kafka answer the next request about quotes with an error."""
    ensure = kafka_producer.ensure_topics
    errors: list[Exception] = []

    async def ensure_topics(producer: Any, options: Any, topics: list[str], last: str) -> Any:
        if errors and any(topic.endswith("quote") for topic in topics):
            raise errors.pop()
        return await ensure(producer, options, topics, last)

    monkeypatch.setattr("bridge.sinks.kafka.producer_session.ensure_topics", ensure_topics)
    return errors.append


def quote(venue: str, number: int, symbol: str = "BTCUSDT") -> Quote:
    return Quote(venue, symbol, None, TIME_US, "websocket", number, "1", "1", "2", "1")


async def assert_sorted(sink: KafkaSink, kafka: Kafka, feeder: Feeder, venue: str) -> None:
    """Push quotes of all symbols; check that each is in the partition the Java client expects."""
    topic = f"{venue}.quote"
    feeder.push(*(quote(venue, number, symbol) for number in range(1, 5) for symbol in SYMBOLS))
    await sink.drained()
    partitions = defaultdict(set)
    assert sink._session is not None
    for record in await read_topic(kafka.bootstrap_servers, topic, 12):
        partitions[record.key.decode()].add(record.partition)
    for route in {route.symbol: route for route in sink.outbox._queue_of}.values():
        if route.symbol in SYMBOLS:
            expected = partition_of_key(route.key, sink._session.partitions[topic])
            assert partitions[route.symbol] == {expected}


async def test_records_of_an_added_topic_lie_in_the_partitions_of_their_keys(
    kafka: Kafka, unique: str, journal: Journal
) -> None:
    sink = sink_for(kafka.bootstrap_servers, unique)
    feeder = Feeder(sink)
    async with at_work(sink):
        await journal.until("kafka_connected")
        await sink.add_topics([f"{unique}.quote"])
        await assert_sorted(sink, kafka, feeder, unique)
        assert len(journal.named("kafka_connected")) == 1


async def test_a_topic_added_before_the_first_connection_is_made_with_the_others(
    kafka: Kafka, unique: str, journal: Journal
) -> None:
    sink = sink_for(kafka.bootstrap_servers, unique)
    feeder = Feeder(sink)
    await sink.add_topics([f"{unique}.quote"])
    feeder.push(quote(unique, 1))
    async with at_work(sink):
        await journal.until("kafka_connected")
        await sink.drained()
    (record,) = await read_topic(kafka.bootstrap_servers, f"{unique}.quote", 1)
    assert record.key == b"BTCUSDT"


async def test_a_topic_added_while_a_connection_opens_is_known_when_it_is_open(
    kafka: Kafka, unique: str, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = sink_for(kafka.bootstrap_servers, unique)
    take_out_committed = ProducerSession._take_out_committed

    async def slowly(session: ProducerSession) -> None:
        await sink.add_topics([f"{unique}.quote"])
        await take_out_committed(session)

    monkeypatch.setattr(ProducerSession, "_take_out_committed", slowly)
    feeder = Feeder(sink)
    async with at_work(sink):
        await journal.until("kafka_connected")
        await assert_sorted(sink, kafka, feeder, unique)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (SinkUnavailable("Kafka has none of the topics"), SinkUnavailable),
        (kafka_errors.TopicAuthorizationFailedError("quote"), SinkRefused),
    ],
    ids=["absent", "denied"],
)
async def test_a_topic_that_cannot_be_had_changes_nothing(
    *,
    kafka: Kafka,
    unique: str,
    journal: Journal,
    failing: Callable[[Exception], None],
    error: Exception,
    raised: type[Exception],
) -> None:
    sink = sink_for(kafka.bootstrap_servers, unique)
    feeder = Feeder(sink)
    async with at_work(sink):
        await journal.until("kafka_connected")
        failing(error)
        with pytest.raises(raised):
            await sink.add_topics([f"{unique}.quote"])
        feeder.push(*trades(unique, range(1, 3)))
        await sink.drained()
        assert len(journal.named("kafka_connected")) == 1
        await sink.add_topics([f"{unique}.quote"])
        await assert_sorted(sink, kafka, feeder, unique)


async def test_where_kafka_does_not_answer_the_next_producer_makes_the_topic(
    kafka: Kafka, unique: str, journal: Journal, failing: Callable[[Exception], None]
) -> None:
    sink = sink_for(kafka.bootstrap_servers, unique)
    feeder = Feeder(sink)
    async with at_work(sink):
        await journal.until("kafka_connected")
        feeder.push(trade(unique, 1))
        failing(kafka_errors.KafkaConnectionError("gone"))
        await sink.add_topics([f"{unique}.quote"])
        feeder.push(trade(unique, 2))
        await assert_sorted(sink, kafka, feeder, unique)
        assert len(journal.named("kafka_connected")) == 2
    assert ids(await read_topic(kafka.bootstrap_servers, f"{unique}.trade", 2)) == [1, 2]


@pytest.mark.parametrize("kind", ["trade", "position"])
async def test_a_topic_that_is_deleted_is_created_again_as_at_the_start(
    real_kafka: Kafka, unique: str, journal: Journal, kind: str
) -> None:
    sink = sink_for(real_kafka.bootstrap_servers, unique, partitions=3, request_timeout_ms=1500)
    feeder, topic = Feeder(sink), f"{unique}.{kind}"
    async with at_work(sink), administration(real_kafka) as admin, asyncio.timeout(60):
        feeder.push(*trades(unique, range(10)))
        await sink.drained()
        made = await configured(admin, topic)
        await admin.delete_topics([topic])
        # What the broker takes before it knows of the deletion is deleted too.
        while topic in await admin.list_topics():  # noqa: ASYNC110 - a broker has no event
            await asyncio.sleep(0.01)
        feeder.push(*trades(unique, range(10, 20)))
        await journal.until("kafka_topic_created_again")
        feeder.push(*trades(unique, range(20, 30)))
        await sink.drained()
        feeder.check()
        assert await configured(admin, topic) == made
    first = 10 if kind == "trade" else 0
    assert ids(await read_topic(real_kafka.bootstrap_servers, f"{unique}.trade")) == [
        *range(first, 30)
    ]
    for event in ("kafka_unavailable", "kafka_producer_id_discarded", "kafka_foreign_records"):
        assert journal.named(event) == []


async def test_a_topic_that_others_have_created_again_with_fewer_partitions_is_used_as_it_is(
    real_kafka: Kafka, unique: str, journal: Journal
) -> None:
    sink = sink_for(real_kafka.bootstrap_servers, unique, partitions=3, request_timeout_ms=1500)
    feeder, topic = Feeder(sink), f"{unique}.trade"
    async with at_work(sink), administration(real_kafka) as admin, asyncio.timeout(60):
        for symbol in SYMBOLS:
            feeder.push(*trades(unique, range(10), symbol))
        await sink.drained()
        await admin.delete_topics([topic])
        while (await admin.create_topics([NewTopic(topic, 1, 1)])).topic_errors[0][1]:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        for symbol in SYMBOLS:
            feeder.push(*trades(unique, range(10, 20), symbol))
        await sink.drained()
        feeder.check()
    records = await read_topic(real_kafka.bootstrap_servers, topic)
    assert {record.partition for record in records} == {0}
    for symbol in SYMBOLS:
        assert ids(records, symbol) == [*range(10, 20)]
    assert "any more" in journal.named("kafka_unavailable")[0]["error"]


async def test_why_kafka_does_not_create_a_topic_is_in_the_error_that_is_logged_seldom(
    brokers: Choice, kafka: Kafka, unique: str, journal: Journal
) -> None:
    if brokers.kind == "embedded":
        pytest.skip(f"needs a Kafka that creates topics on request only; {brokers}")
    sink = sink_for(
        kafka.bootstrap_servers, unique, replication_factor=99, request_timeout_ms=2_000
    )
    async with at_work(sink):
        entry, *_ = await journal.until("kafka_unavailable")
    assert f"{unique}.trade" in entry["error"]
    assert "does not create them" in entry["error"]
    assert "eplication factor" in entry["error"]
    assert journal.named("kafka_topics_not_created") == []
