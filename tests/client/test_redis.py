"""Subscribing to Redis: typed events as published, and a timeout for every wait."""

import asyncio
from contextlib import aclosing, suppress

import msgspec
import pytest
from redis.asyncio import Redis

from bridge.client import RedisFeed, Trade
from bridge.client import redis as listening
from bridge.errors import SinkRefused, SinkUnavailable
from bridge.tools.embedded import free_port
from tests.support.brokers import RedisAddress, RedisProcess, RedisServer, frozen
from tests.support.journal import logged
from tests.support.publishing import trade


async def publish(url: str, *messages: tuple[str, bytes]) -> None:
    async with Redis.from_url(url) as client:
        for channel, data in messages:
            await client.publish(channel, data)


def encoded(symbol: str, trade_id: int) -> bytes:
    return msgspec.json.encode(trade(symbol, trade_id))


async def take(feed: RedisFeed, count: int) -> list[bytes]:
    async with asyncio.timeout(60), aclosing(feed.values()) as values:
        return [await anext(values) for _ in range(count)]


async def test_all_symbols_are_heard_from_the_moment_of_entering(
    redis: RedisAddress, unique: str
) -> None:
    messages = [(f"{unique}.trade:{s}", encoded(s, 1)) for s in ("BTCUSDT", "ETHUSDT")]
    async with RedisFeed(redis.url, ["trade"], venue=unique) as feed:
        await publish(redis.url, *messages)
        assert await take(feed, 2) == [data for _, data in messages]


async def test_a_cancelled_feed_stops_although_the_library_swallows_it(
    redis: RedisAddress, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with RedisFeed(redis.url, ["trade"], venue=unique) as feed:
        reading = asyncio.Event()

        async def swallow(**_: object) -> dict[str, object]:
            reading.set()
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
            return {"type": "message", "data": b"x"}

        monkeypatch.setattr(feed._pubsub, "get_message", swallow)
        taking = asyncio.create_task(take(feed, 10**6))
        await reading.wait()
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking


async def test_only_the_symbols_asked_for_are_heard(redis: RedisAddress, unique: str) -> None:
    messages = [(f"{unique}.trade:{s}", encoded(s, 1)) for s in ("ETHUSDT", "BTCUSDT")]
    async with RedisFeed(redis.url, ["trade"], symbols=["btcusdt"], venue=unique) as feed:
        await publish(redis.url, *messages)
        assert await take(feed, 1) == [encoded("BTCUSDT", 1)]


async def test_events_come_typed(redis: RedisAddress, unique: str) -> None:
    async with asyncio.timeout(10), RedisFeed(redis.url, ["trade"], venue=unique) as feed:
        await publish(redis.url, (f"{unique}.trade:BTCUSDT", encoded("BTCUSDT", 5)))
        event = await anext(feed)
    assert isinstance(event, Trade)
    assert event.trade_id == 5


async def test_symbols_may_be_patterns_beside_names(redis: RedisAddress, unique: str) -> None:
    symbols = ("BTCUSDT", "BTCEUR", "ETHEUR", "ETHUSDT")
    messages = [(f"{unique}.trade:{symbol}", encoded(symbol, 1)) for symbol in symbols]
    wanted = ["*eur", "ETHUSDT"]
    async with (
        asyncio.timeout(10),
        RedisFeed(redis.url, "trade", symbols=wanted, venue=unique) as feed,
    ):
        await publish(redis.url, *messages)
        assert [(await anext(feed)).symbol for _ in range(3)] == ["BTCEUR", "ETHEUR", "ETHUSDT"]


async def test_a_quiet_market_is_no_failure(
    redis: RedisAddress, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()
    answer = RedisFeed._answer

    async def noted(feed: RedisFeed) -> dict[str, object]:
        message = await answer(feed)
        if message["type"] == "pong":
            asked.set()
        return message

    monkeypatch.setattr(listening, "QUIET_S", 0.01)
    monkeypatch.setattr(RedisFeed, "_answer", noted)
    async with RedisFeed(redis.url, ["trade"], venue=unique) as feed:
        taken = asyncio.ensure_future(take(feed, 1))
        async with asyncio.timeout(10):
            await asked.wait()
        await publish(redis.url, (f"{unique}.trade:BTCUSDT", b"{}"))
        assert await taken == [b"{}"]


async def test_a_feed_listens_again_after_the_server_was_frozen(
    own_redis: RedisServer | RedisProcess,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(listening, "QUIET_S", 0.1)
    async with RedisFeed(own_redis.url, "trade", symbols="BTCUSDT") as feed:
        coming = asyncio.create_task(take(feed, 1))
        async with frozen(own_redis):
            await logged(caplog, "no answer within 1 s")
        await logged(caplog, "Listening continues")
        await publish(own_redis.url, ("binance.spot.trade:BTCUSDT", b"{}"))
        assert await coming == [b"{}"]


async def test_a_feed_listens_again_after_the_server_has_died(
    own_redis: RedisServer | RedisProcess, caplog: pytest.LogCaptureFixture
) -> None:
    async with RedisFeed(own_redis.url, "trade", symbols="BTCUSDT") as feed:
        coming = asyncio.create_task(take(feed, 1))
        await asyncio.to_thread(own_redis.kill)
        await logged(caplog, "Redis is not back yet")
        await asyncio.to_thread(own_redis.start)
        await logged(caplog, "Listening continues")
        await publish(own_redis.url, ("binance.spot.trade:BTCUSDT", b"{}"))
        assert await coming == [b"{}"]


async def test_foreign_messages_are_passed_over(redis: RedisAddress, unique: str) -> None:
    channel = f"{unique}.trade:BTCUSDT"
    async with asyncio.timeout(10), RedisFeed(redis.url, "trade", venue=unique) as feed:
        await publish(redis.url, (channel, b"\xff"), (channel, encoded("BTCUSDT", 5)))
        assert isinstance(await anext(feed), Trade)


async def test_an_absent_server_is_named() -> None:
    url = f"redis://localhost:{free_port()}/0"
    with pytest.raises(SinkUnavailable, match=url):
        await RedisFeed(url, ["trade"]).__aenter__()


async def test_a_refused_password_is_not_shown() -> None:
    async def refuse(feed: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await feed.read(1000):
            writer.write(b"-WRONGPASS invalid username-password pair\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"redis://nobody:hunter2@127.0.0.1:{port}/0"
        with pytest.raises(SinkRefused, match=r"redis://\*\*\*@.* refuses access") as caught:
            await RedisFeed(url, ["trade"]).__aenter__()
    assert "hunter2" not in str(caught.value)


def test_a_url_that_is_none_is_refused_before_anything_is_opened() -> None:
    with pytest.raises(ValueError, match="Redis URL"):
        RedisFeed("localhost", ["trade"])
