"""The Redis sink against a real server."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from msgspec.structs import replace
from redis.asyncio import Redis

from bridge.brokers.redis_client import connect
from bridge.core.model.events import Event, Quote, Trade
from bridge.core.records.latest_values import latest_key, prices_key
from bridge.settings import load_settings
from bridge.sinks.redis.access import SCRIPT
from bridge.sinks.redis.sink import VALUES_REST_S, RedisSink
from tests.support.brokers import Choice, RedisAddress, RedisProcess, RedisServer
from tests.support.journal import Journal
from tests.support.sinks import TIME_US, Feeder, agg_trade, at_work, ticker, trade, trades

pytestmark = [pytest.mark.asyncio(loop_factories=["real"]), pytest.mark.timeout(60)]


def sink_for(redis: RedisAddress, venue: str, **options: Any) -> RedisSink:
    overrides = {"binance": {"symbols": ["BTCUSDT"]}, "redis": {"url": redis.url} | options}
    return RedisSink(load_settings(environment={}, overrides=overrides).redis, venue)


@pytest.fixture
async def client(redis: RedisAddress) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis.url, decode_responses=True) as client:
        yield client


async def test_every_event_is_published_in_order_and_sets_the_latest_value(
    redis: RedisAddress, client: Redis, unique: str
) -> None:
    sink = sink_for(redis, unique, flush_max_records=7)
    feeder = Feeder(sink)
    async with client.pubsub() as subscriber, at_work(sink):
        await subscriber.psubscribe(f"{unique}.trade:*")
        assert (await subscriber.get_message(timeout=5) or {})["type"] == "psubscribe"
        feeder.push(*trades(unique, range(50)), *trades(unique, range(3), "牛来USDT"))
        await sink.drained()
        feeder.check()
        messages = [await subscriber.get_message(timeout=5) or {} for _ in range(53)]
    values = [json.loads(message["data"]) for message in messages]
    assert [v["trade_id"] for v in values if v["symbol"] == "BTCUSDT"] == list(range(50))
    assert messages[-1]["channel"] == f"{unique}.trade:牛来USDT"
    latest = await client.hgetall(latest_key(unique, "BTCUSDT"))
    assert (latest["price"], latest["trade_id"]) == ("49.5", "49")
    assert latest["price_time"] == str(values[49]["timestamp"])
    assert await client.hgetall(prices_key(unique)) == {"BTCUSDT": "49.5", "牛来USDT": "2.5"}


async def test_the_bytes_of_all_commands_are_counted(redis: RedisAddress, unique: str) -> None:
    sink = sink_for(redis, unique)
    async with at_work(sink):
        while not sink.ready:  # noqa: ASYNC110 - a sink has no event for it
            await asyncio.sleep(0.01)
        before = sink.counts.sent_bytes
        Feeder(sink).push(*trades(unique, range(50)))
        await sink.drained()
    values = sum(len(msgspec.json.encode(event)) for event in trades(unique, range(50)))
    assert values < sink.counts.sent_bytes - before < 2 * values


@pytest.mark.parametrize(
    ("kind", "event_of", "guard"),
    [
        ("trade", trade, "trade_id"),
        ("aggTrade", agg_trade, "trade_id"),
        ("ticker", ticker, "price_time"),
    ],
)
@hypothesis_settings(max_examples=15, derandomize=True)
@given(ids=st.lists(st.integers(0, 10**12), min_size=1, max_size=12))
async def test_a_latest_value_never_goes_backwards_in_whatever_order_ids_come(
    kind: str, event_of: Any, guard: str, redis: RedisAddress, ids: list[int]
) -> None:
    venue = f"t{uuid4().hex}"
    sink = sink_for(redis, venue)
    feeder = Feeder(sink, kind)
    client = connect(sink._options)
    script = client.register_script(SCRIPT)
    try:
        for count, number in enumerate(ids, 1):
            feeder.push(event_of(venue, number))
            await sink._flush(script)
            latest = await client.hgetall(latest_key(venue, "BTCUSDT"))
            greatest = max(ids[:count])
            assert latest[guard.encode()] == str(greatest).encode()
            assert latest[b"price"] == f"{greatest}.5".encode()
            assert await client.hget(prices_key(venue), "BTCUSDT") == latest[b"price"]
        assert sink.counts.stale_values == sum(
            number <= max(ids[:at]) for at, number in enumerate(ids) if at
        ) * (1 if kind != "ticker" else 3)
    finally:
        await client.delete(latest_key(venue, "BTCUSDT"), prices_key(venue))
        await client.aclose()


SECOND_US = 1_000_000
IN_AN_HOUR_US = time.time_ns() // 1000 + 3600 * SECOND_US


def trade_at(trade_id: int, time_us: int) -> Trade:
    return replace(trade("", trade_id), timestamp=time_us)


def quote_at(update_id: int, received: int) -> Quote:
    return Quote("", "BTCUSDT", None, received, "websocket", update_id, "1", "1", "2", "1")


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        # The ids have restarted.
        (trade_at(10**6, TIME_US), trade_at(3, TIME_US + 3 * SECOND_US), {"trade_id": "3"}),
        (quote_at(10**6, TIME_US), quote_at(3, TIME_US + 12 * SECOND_US), {"quote_id": "3"}),
        # A lower id is an older event, also if it is a little younger.
        (trade_at(10**6, TIME_US), trade_at(3, TIME_US + SECOND_US), {"trade_id": "1000000"}),
        (quote_at(10**6, TIME_US), quote_at(3, TIME_US + 9 * SECOND_US), {"quote_id": "1000000"}),
        # A time that is far ahead guards nothing. Any other time does.
        (
            ticker("", IN_AN_HOUR_US),
            ticker("", TIME_US),
            dict.fromkeys(("price_time", "day_time", "quote_time"), str(TIME_US)),
        ),
        (ticker("", TIME_US + 1), ticker("", TIME_US), {"price_time": str(TIME_US + 1)}),
    ],
)
async def test_no_value_stays_in_redis_because_of_an_id_or_a_time_of_the_past(
    before: Event, after: Event, shown: dict[str, str], redis: RedisAddress, client: Redis
) -> None:
    unique = f"t{uuid4().hex}"
    sink = sink_for(redis, unique)
    kinds = {"trade": "trade", "quote": "bookTicker", "ticker": "ticker"}
    feeder = Feeder(sink, kinds[str(after.__struct_config__.tag)])
    script = client.register_script(SCRIPT)
    for event in (before, after):
        feeder.push(replace(event, venue=unique))
        await sink._flush(script)
    latest = await client.hgetall(latest_key(unique, "BTCUSDT"))
    assert {name: latest[name] for name in shown} == shown
    await client.delete(latest_key(unique, "BTCUSDT"), prices_key(unique))


@pytest.mark.parametrize("broken", ["latest", "prices"])
async def test_a_key_of_another_type_stops_neither_messages_nor_other_values(
    broken: str, redis: RedisAddress, client: Redis, unique: str, journal: Journal
) -> None:
    key = latest_key(unique, "BTCUSDT") if broken == "latest" else prices_key(unique)
    await client.set(key, "somebody else's")
    sink = sink_for(redis, unique)
    feeder = Feeder(sink)
    async with at_work(sink):
        feeder.push(*trades(unique, range(5)), *trades(unique, range(5), "ETHUSDT"))
        (entry, *_) = await journal.until("redis_keeps_no_values")
        assert sink.counts.published == {"trade": 10}
        assert "WRONGTYPE" in entry["error"]
        assert unique in entry["error"]
        if broken == "latest":
            assert await client.hget(latest_key(unique, "ETHUSDT"), "trade_id") == "4"
        await client.delete(key)
        await sink.drained()
    assert await client.hget(latest_key(unique, "BTCUSDT"), "trade_id") == "4"
    assert await client.hget(prices_key(unique), "BTCUSDT") == "4.5"


async def test_only_the_value_that_fails_waits(
    redis: RedisAddress, client: Redis, unique: str
) -> None:
    """More values than fit into a flush: those that fail do not keep the others out."""
    symbols = [f"S{number}USDT" for number in range(30)]
    for symbol in symbols[:5]:
        await client.set(latest_key(unique, symbol), "somebody else's")
    sink = sink_for(redis, unique, flush_max_records=4)
    feeder = Feeder(sink, symbols=symbols)
    async with at_work(sink), asyncio.timeout(30):
        for number in range(3):
            for symbol in symbols:
                feeder.push(*trades(unique, [number], symbol))
            for symbol in symbols[5:]:
                key = latest_key(unique, symbol)
                while await client.hget(key, "trade_id") != str(number):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        assert sink.ready
        for symbol in symbols[:5]:
            await client.delete(latest_key(unique, symbol))
        await sink.drained()
        feeder.check()
    for symbol in symbols[:5]:
        assert await client.hget(latest_key(unique, symbol), "trade_id") == "2"


@pytest.fixture
async def limited(client: Redis, unique: str) -> "Limit":
    async def limit(*rights: str) -> dict[str, str]:
        words = ["ACL", "SETUSER", unique, "on", ">secret", "~*", *rights]
        await client.execute_command(*words)  # type: ignore[no-untyped-call]
        return {"username": unique, "password": "secret"}

    return limit


Limit = Callable[..., Awaitable[dict[str, str]]]


async def test_a_channel_that_is_denied_later_costs_only_its_own_messages(
    limited: Limit, redis: RedisAddress, client: Redis, unique: str, journal: Journal
) -> None:
    user = await limited("+@all", "&*")
    sink = sink_for(redis, unique, **user)
    feeder = Feeder(sink)
    async with client.pubsub() as subscriber, at_work(sink):
        await journal.until("redis_connected")
        await subscriber.psubscribe(f"{unique}.*")
        assert (await subscriber.get_message(timeout=5) or {})["type"] == "psubscribe"
        await limited("resetchannels", f"&{unique}.agg_trade:*")
        feeder.push(trade(unique, 1), agg_trade(unique, 1), trade(unique, 2), agg_trade(unique, 2))
        await sink.drained()
        feeder.check()
        seen = [await subscriber.get_message(timeout=1) for _ in range(3)]
    assert [message and message["channel"] for message in seen] == [
        *(f"{unique}.agg_trade:BTCUSDT", f"{unique}.agg_trade:BTCUSDT", None)
    ]
    assert sink.counts.dropped == {("trade", "denied"): 2}
    assert sink.counts.published == {"agg_trade": 2}
    assert f"{unique}.trade:BTCUSDT" in journal.named("redis_channel_denied")[0]["error"]
    assert await client.hget(latest_key(unique, "BTCUSDT"), "trade_id")


async def refusal_of(sink: RedisSink, journal: Journal) -> str:
    """Return with which words a server refuses a sink, which goes on asking."""
    async with at_work(sink):
        entry, *_ = await journal.until("redis_refused")
        assert not sink.ready
    refused: str = entry["error"]
    return refused


@pytest.mark.parametrize(
    ("rights", "words"),
    [
        (("+@all", "-evalsha", "&*"), "evalsha"),
        (("+@all", "-script", "&*"), "script"),
        (("+@all", "-hset", "&*"), "HSET"),
        (("+@all", "resetchannels", "&{}.trade:*"), "PUBLISH {}.status:BTCUSDT"),
    ],
    ids=["evalsha", "script", "hset", "channel"],
)
async def test_a_right_that_is_missing_at_the_start_is_named(  # noqa: PLR0917
    limited: Limit,
    redis: RedisAddress,
    client: Redis,
    unique: str,
    journal: Journal,
    rights: tuple[str, ...],
    words: str,
) -> None:
    user = await limited(*(right.format(unique) for right in rights))
    await client.script_flush()
    refused = await refusal_of(sink_for(redis, unique, **user), journal)
    assert words.format(unique) in refused
    assert "secret" not in refused


async def test_a_database_that_the_server_does_not_have_is_refused(
    redis: RedisAddress, unique: str, journal: Journal
) -> None:
    sink = sink_for(redis, unique, url=redis.url.replace("/0", "/99"))
    assert "that this server has at the end of redis.url" in await refusal_of(sink, journal)


async def test_a_cluster_is_refused(
    brokers: Choice, unique: str, journal: Journal, tmp_path: Path
) -> None:
    server = (
        RedisServer("--cluster-enabled", "yes")
        if brokers.kind == "containers"
        else RedisProcess("--cluster-enabled", "yes", "--dir", str(tmp_path))
    )
    with server as cluster:
        refused = await refusal_of(sink_for(cluster, unique), journal)
    assert "without cluster mode" in refused


async def test_a_hung_server_delays_nothing_for_good(
    own_redis: RedisServer | RedisProcess, unique: str, journal: Journal
) -> None:
    """One server hangs, restarts without the script, and is full. Each start is slow."""
    loop = asyncio.get_running_loop()
    sink = sink_for(own_redis, unique, timeout_s=0.3)
    feeder = Feeder(sink)
    async with at_work(sink), Redis.from_url(own_redis.url, decode_responses=True) as client:
        feeder.push(*trades(unique, range(10)))
        await sink.drained()

        await asyncio.to_thread(own_redis.pause)
        feeder.push(*trades(unique, range(10, 20)))
        began = loop.time()
        await journal.until("redis_unavailable")
        assert loop.time() - began < 1
        feeder.check()
        assert sink.pending() == {"trade": 10}
        await asyncio.to_thread(own_redis.unpause)
        await sink.drained()
        assert await client.hget(latest_key(unique, "BTCUSDT"), "trade_id") == "19"

        await asyncio.to_thread(own_redis.kill)
        feeder.push(*trades(unique, range(20, 30)))
        await journal.until("redis_unavailable", len(journal.named("redis_unavailable")) + 1)
        feeder.check()
        await asyncio.to_thread(own_redis.start)
        await sink.drained()
        feeder.check()
        await client.connection_pool.disconnect()
        assert await client.hget(latest_key(unique, "BTCUSDT"), "trade_id") == "29"

        await client.config_set("maxmemory", 1)
        feeder.push(*trades(unique, range(30, 40)))
        await journal.until("redis_keeps_no_values")
        feeder.push(*trades(unique, range(40, 45)))
        began = loop.time()
        await journal.until("redis_keeps_no_values", 2)
        assert loop.time() - began > VALUES_REST_S / 2
        assert sink.counts.published == {"trade": 45}
        await client.config_set("maxmemory", 0)
        await sink.drained()
        feeder.check()
        assert sink.ready
        assert await client.hget(latest_key(unique, "BTCUSDT"), "trade_id") == "44"
        assert sink.counts.dropped == {}
