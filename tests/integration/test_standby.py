"""Bridges that share the shards of the same topics, and take over from each other."""

import asyncio
import json
import signal
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import websockets

from bridge.monitoring.cluster import read_cluster
from bridge.settings import Cluster
from bridge.settings import Kafka as KafkaSettings
from bridge.tools.simulator import Market, SimulatedExchange
from tests.support.bridge_process import BridgeProcess, running_bridge
from tests.support.bridge_settings import bridge_settings
from tests.support.brokers import Choice, Kafka, RedisAddress, read_topic

# Of two shards the first has one of them, and the second two. Of three shards one has none.
SYMBOLS = ["BTCUSDT", "ETHUSDT", "BNBUSDT"]
STREAMS = ["trade", "aggTrade", "bookTicker", "ticker", "depth@100ms", "kline_1m"]
# The field of the exchange, and ours, that orders the events of a stream.
NUMBERS = {
    "trade": ("t", "trade_id"),
    "agg_trade": ("a", "agg_trade_id"),
    "quote": ("u", "update_id"),
    "book_delta": ("u", "last_update_id"),
    "ticker": ("E", "timestamp"),
    "candle": ("E", "timestamp"),
}
MESSAGE_TYPES = dict(
    zip(STREAMS, ("trade", "agg_trade", "quote", "ticker", "book_delta", "candle"), strict=True)
)

TIMEOUT_S = 20

Numbers = dict[tuple[str, str], list[int]]

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize(
    ("end", "before", "after"),
    [
        (signal.SIGKILL, 1, 1),
        (signal.SIGTERM, 1, 1),
        (signal.SIGSTOP, 1, 1),
        (signal.SIGKILL, 2, 2),
        (signal.SIGSTOP, 2, 2),
        (signal.SIGTERM, 1, 2),
        (signal.SIGSTOP, 2, 3),
    ],
)
async def test_a_standby_takes_over_and_every_stream_goes_on_without_a_hole(  # noqa: PLR0917
    brokers: Choice,
    kafka: Kafka,
    redis: RedisAddress,
    unique: str,
    tmp_path: Path,
    end: signal.Signals,
    before: int,
    after: int,
) -> None:
    """Each of the shards is taken over, also if the standby has another number of them."""
    if brokers.kind == "embedded":
        pytest.skip(f"needs a Kafka that fences; {brokers}")
    servers = kafka.bootstrap_servers
    async with AsyncExitStack() as stack:
        settings, sent = await _exchange(stack, servers, redis, unique)
        owner = await _start(stack, tmp_path / "owner", settings, before)
        await owner.logged("positions_read", count=before)
        standby = await _start(stack, tmp_path / "standby", settings, after)
        await standby.logged("standing_by", count=after)
        await standby.logged("connection_open", count=min(after, 2))
        if before == after > 1:
            # The group gives one of two shards to the second bridge.
            assert (await standby.logged("taking_over"))["reason"] == "assigned"
            await owner.logged("standing_by")
        await _all_continue(sent)
        owner.process.send_signal(end)
        taking_over = await standby.logged("taking_over", count=after)
        assert taking_over["reason"] == ("released" if end == signal.SIGTERM else "silent")
        await standby.logged("positions_read", count=after)
        await _flow(servers, unique)
        if end == signal.SIGSTOP:
            owner.process.send_signal(signal.SIGCONT)
            await owner.logged("standing_by", count=before)
            await _flow(servers, unique)
        assert await standby.stop() == 0
        await _assert_whole(servers, unique, sent)


@pytest.mark.parametrize("is_named", [True, False])
async def test_a_rolling_restart_leaves_no_hole_and_ends_with_the_shards_shared(  # noqa: PLR0917
    brokers: Choice,
    kafka: Kafka,
    redis: RedisAddress,
    unique: str,
    tmp_path: Path,
    is_named: bool,  # noqa: FBT001
) -> None:
    """Each of two bridges stops in turn, and comes back."""
    if brokers.kind == "embedded":
        pytest.skip(f"needs a Kafka that fences; {brokers}")
    servers = kafka.bootstrap_servers
    names = ("first", "second")
    cluster = {name: {"instance_id": name} if is_named else {} for name in names}
    async with AsyncExitStack() as stack:
        settings, sent = await _exchange(stack, servers, redis, unique)
        bridges = {
            name: await _start(stack, tmp_path / name, settings, 2, **cluster[name])
            for name in names
        }
        await _one_each(bridges)
        for name in names:
            await _all_continue(sent)
            assert await bridges[name].stop() == 0
            folder = tmp_path / f"{name} again"
            bridges[name] = await _start(stack, folder, settings, 2, **cluster[name])
            assert (await bridges[name].logged("taking_over"))["reason"] == "assigned"
            await bridges[name].logged("positions_read")
        await _all_continue(sent)
        await _flow(servers, unique)
        shared = await _shared(servers, settings)
        if is_named:
            assert shared == {names, names[::-1]}
        for bridge in bridges.values():
            assert await bridge.stop() == 0
            # They write to the position topic together, and are not strangers there.
            assert "kafka_foreign_records" not in {line["event"] for line in bridge.log}
        await _assert_whole(servers, unique, sent)
        statuses = await read_topic(servers, f"{unique}.binance.spot.status")
        last = {record.key: json.loads(record.value) for record in statuses}
        assert {(each["owner"], each["standby"]) for each in last.values()} <= shared


async def _exchange(
    stack: AsyncExitStack, servers: str, redis: RedisAddress, unique: str
) -> tuple[dict[str, Any], Numbers]:
    """Start an exchange. Return the settings of its bridges, and what it sends from now on."""
    exchange = await stack.enter_async_context(
        SimulatedExchange(Market(SYMBOLS, seed=5, trades_per_second=50))
    )
    settings = bridge_settings(
        exchange, servers, redis.url, unique, symbols=SYMBOLS, streams=STREAMS
    )
    return settings, await stack.enter_async_context(_observed(exchange))


async def _one_each(bridges: dict[str, BridgeProcess]) -> None:
    """Wait until each of two bridges owns one of two shards."""
    for bridge in bridges.values():
        await bridge.logged("positions_read")
        await bridge.logged("standing_by")


async def _shared(servers: str, settings: dict[str, Any]) -> set[tuple[str, str]]:
    """Wait until each of two shards has an owner and a standby, and return their names."""
    options = KafkaSettings(bootstrap_servers=[servers], topic=settings["kafka"]["topic"])
    async with asyncio.timeout(TIMEOUT_S):
        while (found := await read_cluster(options, Cluster(standby=1))).wrong:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    return {
        (each.owner.name, each.standby.name) for each in found.shards if each.owner and each.standby
    }


async def _assert_whole(servers: str, unique: str, sent: Numbers) -> None:
    """Assert that nothing is missing, repeated, out of order or announced."""
    gaps = await read_topic(servers, f"{unique}.binance.spot.gap")
    assert [json.loads(gap.value) for gap in gaps] == []
    published = {kind: await _published(servers, unique, kind) for kind in NUMBERS}
    for (kind, symbol), numbers in sent.items():
        found = published[kind][kind, symbol]
        first, last = numbers.index(found[0]), numbers.index(found[-1])
        assert found == numbers[first : last + 1], f"{kind} of {symbol}"


async def _start(
    stack: AsyncExitStack, folder: Path, settings: dict[str, Any], shards: int, **cluster: Any
) -> BridgeProcess:
    folder.mkdir()  # noqa: ASYNC240 - a test
    topic = settings["kafka"]["topic"]
    group = topic.partition(".")[0]
    settings |= {"cluster": {"standby": 1, "shards": shards, "group": group} | cluster}
    return await stack.enter_async_context(running_bridge(folder, settings))


async def _all_continue(sent: Numbers) -> None:
    """Wait until each stream has brought two further events, so that the standby has one of each
    that the owner has published too.
    """
    before = {stream: len(numbers) for stream, numbers in sent.items()}
    async with asyncio.timeout(TIMEOUT_S):
        while any(len(sent[each]) < count + 2 for each, count in before.items()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def _flow(servers: str, unique: str) -> None:
    """Wait until 100 further trades are in the topic."""
    topic = f"{unique}.binance.spot.trade"
    before = len(await read_topic(servers, topic, expected=1))
    await read_topic(servers, topic, expected=before + 100)


async def _published(servers: str, unique: str, kind: str) -> Numbers:
    """Return the numbers of the events in a topic, times in milliseconds."""
    numbers: Numbers = defaultdict(list)
    field = NUMBERS[kind][1]
    for record in await read_topic(servers, f"{unique}.binance.spot.{kind}"):
        event = json.loads(record.value)
        number = event[field] // 1000 if field == "timestamp" else event[field]
        numbers[kind, event["symbol"]].append(number)
    return numbers


@asynccontextmanager
async def _observed(exchange: SimulatedExchange) -> AsyncIterator[Numbers]:
    """Yield what the exchange sends from now on, as one that receives everything sees it."""
    names = [f"{symbol.lower()}@{stream}" for symbol in SYMBOLS for stream in STREAMS]
    numbers: Numbers = defaultdict(list)

    async def read() -> None:
        url = f"{exchange.websocket_url}/stream?streams={'/'.join(names)}"
        async with websockets.connect(url) as websocket:
            async for frame in websocket:
                message = json.loads(frame)
                kind = MESSAGE_TYPES[message["stream"].partition("@")[2]]
                data = message["data"]
                numbers[kind, data["s"]].append(data[NUMBERS[kind][0]])

    reading = asyncio.create_task(read())
    try:
        yield numbers
    finally:
        reading.cancel()
        await asyncio.wait((reading,))
