"""Kafka's record and Redis' fast path as one feed: every event once, in order, and early."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import msgspec
import pytest
from redis.asyncio import Redis

from bridge import settings
from bridge.client import AnyEvent, FromId, Gap, LiveFeed, Trade, sync
from bridge.client import kafka_consumer as reading
from bridge.core.model import events
from bridge.core.model.events import Event
from bridge.errors import SinkUnavailable
from bridge.tools.embedded import free_port
from tests.support.brokers import (
    Kafka,
    KafkaBroker,
    RedisAddress,
    RedisProcess,
    RedisServer,
    frozen,
)
from tests.support.journal import logged
from tests.support.publishing import gap, kafka_options, publish, trade


@pytest.fixture
def options(kafka: Kafka, unique: str) -> settings.Kafka:
    return kafka_options(kafka, unique)


async def announce(url: str, venue: str, published: Iterable[Event]) -> None:
    """Publish events to Redis."""
    async with Redis.from_url(url) as client:
        for event in published:
            tag = event.__struct_config__.tag
            await client.publish(f"{venue}.{tag}:{event.symbol}", msgspec.json.encode(event))


def trades(*numbers: int, symbol: str = "BTCUSDT") -> list[events.Trade]:
    return [trade(symbol, number) for number in numbers]


async def taken(feed: LiveFeed, count: int) -> list[AnyEvent]:
    async with asyncio.timeout(60):
        return [await anext(feed) for _ in range(count)]


def ids(found: Sequence[AnyEvent]) -> list[int]:
    return [event.trade_id for event in found if isinstance(event, Trade)]


async def test_history_comes_from_kafka_and_then_redis_is_faster(
    options: settings.Kafka, redis: RedisAddress, unique: str
) -> None:
    await publish(options, trades(*range(1, 2001)))
    async with LiveFeed(options, redis.url, "trade", venue=unique, start="earliest") as feed:
        assert ids(await taken(feed, 2000)) == [*range(1, 2001)]
        await announce(redis.url, unique, trades(2001, 2002))
        assert ids(await taken(feed, 2)) == [2001, 2002]
        await publish(options, trades(2001, 2002, 2003))
        assert ids(await taken(feed, 1)) == [2003]


async def test_what_redis_misses_comes_from_kafka_before_the_next_event(
    options: settings.Kafka, redis: RedisAddress, unique: str
) -> None:
    await publish(options, trades(1))
    async with LiveFeed(options, redis.url, "trade", venue=unique, start="earliest") as feed:
        assert ids(await taken(feed, 1)) == [1]
        coming = asyncio.create_task(taken(feed, 4))
        await announce(redis.url, unique, trades(4, 5))
        await publish(options, trades(2, 3))
        assert ids(await coming) == [2, 3, 4, 5]


async def test_a_lost_id_is_not_waited_for_and_its_gap_event_comes_first(
    options: settings.Kafka, redis: RedisAddress, unique: str
) -> None:
    await publish(options, trades(1))
    wanted = ["trade", "gap"]
    async with LiveFeed(options, redis.url, wanted, venue=unique, start="earliest") as feed:
        assert ids(await taken(feed, 1)) == [1]
        coming = asyncio.create_task(taken(feed, 2))
        await announce(redis.url, unique, trades(4))
        await publish(options, [gap("BTCUSDT", 2, 3)])
        lost, after = await coming
    assert isinstance(lost, Gap)
    assert ids([after]) == [4]
    assert feed.findings == []


async def test_a_feed_starts_at_an_id_or_a_time_of_the_record(
    real_kafka: Kafka, redis: RedisAddress, unique: str
) -> None:
    options = kafka_options(real_kafka, unique)
    await publish(options, trades(*range(1, 50)), at_their_time=True)
    start = datetime.fromtimestamp(1723161254, UTC)
    for begin, first in ((FromId(37), 37), (start, 1)):
        feed = LiveFeed(options, redis.url, "trade", symbols="BTCUSDT", venue=unique, start=begin)
        async with feed:
            assert ids(await taken(feed, 1)) == [first]


async def test_from_its_position_a_feed_continues_without_a_loss(
    options: settings.Kafka, redis: RedisAddress, unique: str
) -> None:
    """What Redis has brought ahead of Kafka comes again."""
    await publish(options, trades(1, 2))
    async with LiveFeed(options, redis.url, "trade", venue=unique, start="earliest") as feed:
        assert ids(await taken(feed, 1)) == [1]
        assert ids(await taken(feed, 1)) == [2]
        await announce(redis.url, unique, trades(3, 4))
        assert ids(await taken(feed, 2)) == [3, 4]
        stored = feed.position
    await publish(options, trades(3, 4, 5))
    async with LiveFeed(options, redis.url, "trade", venue=unique, start=stored) as feed:
        assert ids(await taken(feed, 3)) == [3, 4, 5]


async def test_the_position_is_not_ahead_of_an_event_that_waits(
    options: settings.Kafka, redis: RedisAddress, unique: str
) -> None:
    await publish(options, trades(1))
    async with LiveFeed(options, redis.url, "trade", venue=unique, start="earliest") as feed:
        assert ids(await taken(feed, 1)) == [1]
        before = feed.position
        coming = asyncio.create_task(taken(feed, 1))
        await announce(redis.url, unique, trades(3))
        await publish(options, trades(2))
        assert ids(await coming) == [2]
        assert feed._next
        assert feed.position == before
        assert ids(await taken(feed, 1)) == [3]
        assert feed.position != before


async def test_a_feed_goes_on_with_kafka_while_redis_is_away(
    options: settings.Kafka,
    own_redis: RedisServer | RedisProcess,
    unique: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await publish(options, trades(1))
    async with LiveFeed(options, own_redis.url, "trade", venue=unique, start="earliest") as feed:
        assert ids(await taken(feed, 1)) == [1]
        coming = asyncio.create_task(taken(feed, 3))
        await asyncio.to_thread(own_redis.kill)
        await logged(caplog, "Redis is not back yet")
        await publish(options, trades(2, 3))
        await asyncio.to_thread(own_redis.start)
        await logged(caplog, "Listening continues")
        await announce(own_redis.url, unique, trades(4))
        assert ids(await coming) == [2, 3, 4]


async def test_a_feed_goes_on_with_redis_while_kafka_is_away(
    own_kafka: KafkaBroker,
    redis: RedisAddress,
    unique: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(reading, "QUIET_S", 0.1)
    options = kafka_options(own_kafka, unique)
    await publish(options, trades(1))
    quick = options.model_copy(update={"request_timeout_ms": 3000})
    async with LiveFeed(quick, redis.url, "trade", venue=unique, start="earliest") as feed:
        assert ids(await taken(feed, 1)) == [1]
        coming = asyncio.create_task(taken(feed, 2))
        async with frozen(own_kafka):
            await logged(caplog, "does not answer within 3 s")
            await announce(redis.url, unique, trades(2, 3))
            assert ids(await coming) == [2, 3]
            await announce(redis.url, unique, trades(6))
        await publish(options, trades(2, 3, 4, 5))
        assert ids(await taken(feed, 3)) == [4, 5, 6]


async def test_a_cancelled_wait_loses_nothing(
    options: settings.Kafka, redis: RedisAddress, unique: str
) -> None:
    await publish(options, trades(1))
    async with LiveFeed(options, redis.url, "trade", venue=unique, start="earliest") as feed:
        assert ids(await taken(feed, 1)) == [1]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await anext(feed)
        await publish(options, trades(2))
        assert ids(await taken(feed, 1)) == [2]


async def test_messages_that_no_bridge_can_have_published_are_passed_over(
    options: settings.Kafka, redis: RedisAddress, unique: str
) -> None:
    await publish(options, trades(1))
    async with LiveFeed(options, redis.url, "trade", venue=unique, start="earliest") as feed:
        assert ids(await taken(feed, 1)) == [1]
        async with Redis.from_url(redis.url) as client:
            for message in (b"\xff", b'{"message_type":"hologram"}', b'{"message_type":"trade"}'):
                await client.publish(f"{unique}.trade:BTCUSDT", message)
        await announce(redis.url, unique, trades(2))
        assert ids(await taken(feed, 1)) == [2]


@pytest.mark.parametrize("absent", ["kafka", "redis"])
async def test_a_server_that_is_absent_is_named(
    options: settings.Kafka, redis: RedisAddress, absent: str
) -> None:
    await publish(options, trades(1))
    nowhere = f"localhost:{free_port()}"
    kafka = nowhere if absent == "kafka" else options
    url = f"redis://{nowhere}/0" if absent == "redis" else redis.url
    with pytest.raises(SinkUnavailable, match=nowhere):
        await LiveFeed(kafka, url, "trade").__aenter__()


@pytest.mark.parametrize("kind", ["quote", "gap", "book_delta"])
def test_only_trades_can_be_merged(kind: str) -> None:
    with pytest.raises(ValueError, match=f"trade and agg_trade .* cannot merge '{kind}'"):
        LiveFeed("localhost:9092", "redis://localhost/0", kind)


async def test_a_feed_is_read_in_a_for_loop_too(
    options: settings.Kafka, redis: RedisAddress, unique: str
) -> None:
    await publish(options, trades(1))
    with sync.LiveFeed(options, redis.url, "trade", venue=unique, start="earliest") as feed:
        assert ids([next(feed)]) == [1]
        await announce(redis.url, unique, trades(2))
        assert ids([next(feed)]) == [2]
        assert feed.findings == []
        assert set(feed.position.values()) == {0, 1}
