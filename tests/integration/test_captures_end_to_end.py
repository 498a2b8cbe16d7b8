"""Recorded traffic over a WebSocket: a real Kafka and a real Redis receive every event."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from redis.asyncio import Redis

from bridge.tools.embedded import EmbeddedKafka
from bridge.tools.simulator import Capture, Replay, SimulatedExchange
from tests.support.bridge_process import BridgeProcess, running_bridge
from tests.support.bridge_settings import bridge_settings
from tests.support.brokers import Kafka, RedisAddress
from tests.support.capture_reading import Row, read_capture

FILES = {"BTCUSDT": "btcusdt_20240808.gz", "ETHUSDT": "ethusdt_20240808.gz"}
STREAMS = ["trade", "bookTicker", "depth@100ms"]
TIMEOUT_S = 60
STATUS_FIELDS = (
    *("status_time", "feed", "feed_since", "complete_to", "checked", "owner", "standby"),
    *("complete_trade_id", "complete_agg_trade_id"),
)

pytestmark = pytest.mark.timeout(180)


def test_every_event_of_the_captures_arrives_once_in_order_and_whole(
    kafka: Kafka, redis: RedisAddress, captures: Path, unique: str, tmp_path: Path
) -> None:
    """The simulator plays both captures at full speed.

    Kafka, a Redis subscriber that keeps up, and the latest values must agree with a reader of the
    files that shares no code with the bridge.
    """
    paths = {symbol: captures / "spot" / name for symbol, name in FILES.items()}
    expected = {symbol: read_capture(path) for symbol, path in paths.items()}
    total = sum(len(rows) for kinds in expected.values() for rows in kinds.values())

    async def play() -> tuple[dict[str, list[Row]], dict[str, dict[str, str]]]:
        source = Replay([Capture.read(path) for path in paths.values()])
        async with (
            SimulatedExchange(source, speed=None, start_after_streams=6) as exchange,
            _subscribed(redis.url, total) as published,
        ):
            settings = bridge_settings(exchange, kafka.bootstrap_servers, redis.url, unique)
            settings["binance"] |= {"symbols": list(FILES), "streams": STREAMS}
            # The embedded Kafka creates topics by itself, and refuses to be asked.
            settings["kafka"]["create_topics"] = not isinstance(kafka, EmbeddedKafka)
            async with running_bridge(tmp_path, settings) as bridge:
                await published.wait()
                assert await bridge.stop() == 0
                assert not _troubles(bridge), _troubles(bridge)
                return published.rows, await _latest_values(redis.url)

    published, latest = asyncio.run(play())
    for symbol, kinds in expected.items():
        for kind, rows in kinds.items():
            topic = f"{unique}.binance.spot.{kind}"
            assert _read_with_librdkafka(kafka.bootstrap_servers, topic, symbol) == rows
            assert published[f"binance.spot.{kind}:{symbol}"] == rows
        _assert_latest(latest[symbol], kinds)


class _Subscriber:
    """A Redis subscriber that keeps up, and knows when it has seen `total` messages."""

    def __init__(self, total: int) -> None:
        self.rows: dict[str, list[Row]] = defaultdict(list)
        self._missing = total
        self._complete = asyncio.Event()

    async def read(self, messages: AsyncIterator[dict[str, Any]]) -> None:
        async for message in messages:
            if message["type"] == "pmessage":
                self.rows[message["channel"].decode()].append(_row(message["data"]))
                self._missing -= 1
            if not self._missing:
                self._complete.set()

    async def wait(self) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._complete.wait()
        except TimeoutError:
            pytest.fail(f"Redis: {self._missing} messages missing after {TIMEOUT_S} s")


@asynccontextmanager
async def _subscribed(url: str, total: int) -> AsyncIterator[_Subscriber]:
    subscriber = _Subscriber(total)
    async with Redis.from_url(url, socket_timeout=None) as client, client.pubsub() as pubsub:
        await client.flushdb()
        await pubsub.psubscribe("binance.spot.*")
        reading = asyncio.create_task(subscriber.read(pubsub.listen()))
        try:
            yield subscriber
        finally:
            reading.cancel()
            await asyncio.wait([reading])


async def _latest_values(url: str) -> dict[str, dict[str, str]]:
    async with Redis.from_url(url, decode_responses=True) as client:
        latest: Any = {s: await client.hgetall(f"binance.spot.latest:{s}") for s in FILES}
        prices = await client.hgetall("binance.spot.prices")
    assert prices == {symbol: values["price"] for symbol, values in latest.items()}
    return latest  # type: ignore[no-any-return]  # strings, because of decode_responses


def _assert_latest(latest: dict[str, str], kinds: dict[str, list[Row]]) -> None:
    """Assert that the hash holds the last trade and the last quote with their times."""
    trade, quote = kinds["trade"][-1], kinds["quote"][-1]
    status = {name: latest.pop(name) for name in STATUS_FIELDS}
    assert status["feed"] in {"live", "down"}  # "down" if the bridge has stopped
    assert int(status["complete_trade_id"]) <= trade["trade_id"]
    assert int(latest.pop("quote_time")) > 0  # our own clock: the exchange sends no time
    assert latest == {
        "price": trade["price"],
        "price_time": str(trade["timestamp"]),
        "trade_id": str(trade["trade_id"]),
        "quote_id": str(quote["update_id"]),
        **{name: quote[name] for name in ("bid_price", "bid_volume", "ask_price", "ask_volume")},
    }


def _read_with_librdkafka(bootstrap_servers: str, topic: str, symbol: str) -> list[Row]:
    """Read the events with this key in the order of their partition, with librdkafka (in C)."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": topic,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
        }
    )
    try:
        partitions = consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic].partitions
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        return list(_with_key(consumer, len(partitions), symbol.encode()))
    finally:
        consumer.close()


def _with_key(consumer: Consumer, partitions: int, key: bytes) -> list[Row]:
    rows = []
    ended = 0
    while ended < partitions:
        message = consumer.poll(TIMEOUT_S)
        assert message is not None, "Kafka does not answer"
        error = message.error()
        if error is None:
            if message.key() == key:
                rows.append(_row(message.value() or b""))
        elif error.code() == KafkaError._PARTITION_EOF:
            ended += 1
        else:
            raise KafkaException(error)
    return rows


def _row(value: bytes) -> Row:
    """Return the event without `received`, which the capture files do not have."""
    row: Row = json.loads(value)
    assert row.pop("received") > 0
    return row


def _troubles(bridge: BridgeProcess) -> list[dict[str, Any]]:
    return [line for line in bridge.log if line["level"] in {"warning", "error", "critical"}]
