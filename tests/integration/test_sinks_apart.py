"""Neither sink delays the other: while one is unavailable, the other continues."""

import asyncio
import json
from pathlib import Path

import pytest
from redis.asyncio import Redis

from bridge.tools.embedded import free_port
from bridge.tools.simulator import Market, SimulatedExchange
from tests.support.bridge_process import running_bridge
from tests.support.bridge_settings import bridge_settings
from tests.support.brokers import (
    Kafka,
    KafkaBroker,
    RedisAddress,
    RedisProcess,
    RedisServer,
    read_topic,
)

SYMBOLS = ["BTCUSDT", "ETHUSDT"]
TIMEOUT_S = 30
MARKET_BEGIN_MS = 1_760_000_000_000

pytestmark = pytest.mark.timeout(120)


def _exchange() -> SimulatedExchange:
    return SimulatedExchange(Market(SYMBOLS, seed=7, begin_ms=MARKET_BEGIN_MS), speed=20)


async def test_kafka_goes_on_while_redis_is_killed_and_redis_comes_back(
    kafka: Kafka, own_redis: RedisServer | RedisProcess, unique: str, tmp_path: Path
) -> None:
    topic = f"{unique}.binance.spot.trade"
    async with _exchange() as exchange:
        settings = bridge_settings(
            exchange, kafka.bootstrap_servers, own_redis.url, unique, symbols=SYMBOLS
        )
        async with running_bridge(tmp_path, settings) as bridge:
            before = await read_topic(kafka.bootstrap_servers, topic, expected=50)
            await asyncio.to_thread(own_redis.kill)
            await bridge.logged("redis_unavailable")
            await read_topic(kafka.bootstrap_servers, topic, expected=len(before) + 500)
            await asyncio.to_thread(own_redis.start)
            async with Redis.from_url(own_redis.url) as client:
                await _next_message(client, "binance.spot.trade:BTCUSDT")
            assert await bridge.stop() == 0


async def test_redis_goes_on_while_kafka_is_absent_and_the_undelivered_are_counted(
    redis: RedisAddress, unique: str, tmp_path: Path
) -> None:
    async with _exchange() as exchange, Redis.from_url(redis.url) as client:
        nowhere = f"127.0.0.1:{free_port()}"
        settings = bridge_settings(exchange, nowhere, redis.url, unique, symbols=SYMBOLS)
        settings["shutdown_timeout_s"] = 0.5
        async with running_bridge(tmp_path, settings) as bridge:
            await bridge.logged("kafka_unavailable")
            await _next_message(client, "binance.spot.quote:ETHUSDT")
            assert await bridge.stop() == 3
            undelivered = await bridge.logged("records_undelivered")
            assert undelivered["kafka"] > 0
            assert undelivered["redis"] == 0


async def test_what_waits_for_an_absent_kafka_arrives_whole_when_it_comes(
    own_kafka: KafkaBroker, redis: RedisAddress, unique: str, tmp_path: Path
) -> None:
    await asyncio.to_thread(own_kafka.stop)
    async with _exchange() as exchange, Redis.from_url(redis.url) as client:
        settings = bridge_settings(
            exchange, own_kafka.bootstrap_servers, redis.url, unique, symbols=SYMBOLS
        )
        async with running_bridge(tmp_path, settings) as bridge:
            await bridge.logged("kafka_unavailable")
            await _next_message(client, "binance.spot.trade:BTCUSDT")
            await asyncio.to_thread(own_kafka.start)
            await bridge.logged("kafka_connected")
            assert await bridge.stop() == 0
        topic = f"{unique}.binance.spot.trade"
        records = await read_topic(own_kafka.bootstrap_servers, topic)
    for symbol in SYMBOLS:
        ids = [json.loads(r.value)["trade_id"] for r in records if r.key == symbol.encode()]
        assert ids == list(range(ids[0], ids[0] + len(ids)))


async def _next_message(client: Redis, channel: str) -> None:
    """Wait for a message on a channel."""
    async with asyncio.timeout(TIMEOUT_S), client.pubsub() as pubsub:
        await pubsub.subscribe(channel)
        async for message in pubsub.listen():
            if message["type"] == "message":
                return
