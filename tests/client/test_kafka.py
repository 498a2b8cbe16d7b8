"""Reading the topics: every event, in order, and a timeout for every wait."""

import asyncio
from contextlib import aclosing

import pytest

from bridge import settings
from bridge.brokers import kafka_consumer
from bridge.client import KafkaReader, kafka_events
from bridge.client import kafka as reading
from bridge.errors import SinkUnavailable
from bridge.tools.embedded import free_port
from tests.support.brokers import Kafka, KafkaBroker, never_answering
from tests.support.publishing import gap, kafka_options, publish, trade


@pytest.fixture
def options(kafka: Kafka, unique: str) -> settings.Kafka:
    return kafka_options(kafka, unique)


async def read(reader: KafkaReader, count: int) -> list[bytes]:
    values: list[bytes] = []
    async with asyncio.timeout(30), aclosing(reader.batches()) as batches:
        async for batch in batches:
            values += batch
            if len(values) >= count:
                break
    return values


async def test_from_the_start_every_record_is_read_in_order(options: settings.Kafka) -> None:
    values = await publish(options, [trade("BTCUSDT", number) for number in range(2500)])
    async with KafkaReader(options, ["trade"], from_start=True) as reader:
        assert await read(reader, 2500) == values


async def test_a_reader_misses_nothing_from_the_moment_it_is_entered(
    options: settings.Kafka,
) -> None:
    await publish(options, [trade("BTCUSDT", 1)])
    async with KafkaReader(options, ["trade"]) as reader:
        values = await publish(options, [trade("BTCUSDT", 2)])
        assert await read(reader, 1) == values


async def test_a_symbol_costs_only_its_own_partition(options: settings.Kafka) -> None:
    symbols = ["BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT"]
    await publish(options, [trade(s, number) for number in range(3) for s in symbols])
    async with KafkaReader(options, ["trade"], symbols=["ethusdt"], from_start=True) as reader:
        assert len(reader._consumer.assignment()) == 1
        assert [b"ETHUSDT" in value for value in await read(reader, 3)] == [True] * 3


async def test_events_of_several_kinds_come_typed(options: settings.Kafka) -> None:
    await publish(options, [trade("BTCUSDT", 7), gap("BTCUSDT")])
    events = kafka_events(options, ["trade", "gap"], from_start=True)
    async with asyncio.timeout(30), aclosing(events):
        message_types = {type(await anext(events)).__name__ for _ in range(2)}
    assert message_types == {"Trade", "Gap"}


async def test_an_absent_topic_is_named_and_not_created(options: settings.Kafka) -> None:
    for _ in range(2):
        with pytest.raises(SinkUnavailable, match=r"no topic \S+\.block_trade"):
            await KafkaReader(options, ["block_trade"]).__aenter__()


async def test_an_absent_broker_is_named() -> None:
    with pytest.raises(SinkUnavailable, match=r"localhost:\d+ cannot be reached"):
        await KafkaReader(f"localhost:{free_port()}", ["trade"]).__aenter__()


async def test_a_broker_that_never_answers_is_given_up() -> None:
    async with never_answering() as address:
        options = settings.Kafka(bootstrap_servers=[address], request_timeout_ms=200)
        with pytest.raises(SinkUnavailable, match=address):
            await KafkaReader(options, ["trade"]).__aenter__()


async def test_a_cluster_that_freezes_behind_a_reader_ends_it(
    own_kafka: KafkaBroker, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "QUIET_S", 0.1)
    monkeypatch.setattr(kafka_consumer, "STOP_TIMEOUT_S", 0.5)
    options = kafka_options(own_kafka, unique)
    await publish(options, [trade("BTCUSDT", 1)])
    options = options.model_copy(update={"request_timeout_ms": 3000})
    async with KafkaReader(options, ["trade"]) as reader:
        await asyncio.to_thread(own_kafka.pause)
        try:
            with pytest.raises(SinkUnavailable, match="does not answer within 3 s"):
                await read(reader, 1)
        finally:
            await asyncio.to_thread(own_kafka.unpause)


def test_servers_that_are_none_are_refused_before_anything_is_opened() -> None:
    with pytest.raises(ValueError, match="bootstrap_servers"):
        KafkaReader("nowhere", ["trade"])
