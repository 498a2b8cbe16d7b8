"""The feeds and the latest prices without asyncio, from any thread."""

import asyncio
import inspect
import signal
import threading
from collections.abc import Iterator, Sequence
from itertools import islice
from types import ModuleType
from typing import Any

import msgspec
import pytest
from redis import Redis

from bridge import client, settings
from bridge.client import AnyEvent, ContinuityBroken, Trade, sync
from bridge.core.model.events import Event
from bridge.core.records.latest_values import latest_key
from bridge.errors import SinkUnavailable
from bridge.tools.embedded import free_port
from tests.support.brokers import Kafka, RedisAddress
from tests.support.publishing import gap, kafka_options, publish, trade

WAIT_S = 60


@pytest.fixture
def options(kafka: Kafka, unique: str) -> settings.Kafka:
    return kafka_options(kafka, unique)


def write(options: settings.Kafka, events: Sequence[Event]) -> None:
    asyncio.run(publish(options, events))


def ids(events: Sequence[AnyEvent]) -> list[int]:
    return [event.trade_id for event in events if isinstance(event, Trade)]


def test_events_of_kafka_are_read_in_a_for_loop(options: settings.Kafka) -> None:
    write(options, [trade("BTCUSDT", number) for number in range(2500)])
    with sync.KafkaFeed(options, "trade", start="earliest") as feed:
        assert ids(list(islice(feed, 2500))) == [*range(2500)]
        assert feed.findings == []
        assert feed.findings_count == 0


def test_the_position_belongs_to_the_last_event_that_was_returned(options: settings.Kafka) -> None:
    write(options, [trade("BTCUSDT", number) for number in range(10)])
    with sync.KafkaFeed(options, "trade", start="earliest") as feed:
        assert ids([next(feed) for _ in range(4)]) == [*range(4)]
    with sync.KafkaFeed(options, "trade", start=feed.position) as again:
        assert ids([next(again) for _ in range(6)]) == [*range(4, 10)]


def test_gap_events_are_read_before_an_event_is_called_missing(options: settings.Kafka) -> None:
    write(options, [trade("BTCUSDT", 1), gap("BTCUSDT", 2, 3), trade("BTCUSDT", 4)])
    write(options, [trade("BTCUSDT", 7)])
    with sync.KafkaFeed(options, "trade", start="earliest", check="raise") as feed:
        assert ids([next(feed), next(feed)]) == [1, 4]
        with pytest.raises(ContinuityBroken, match="ids 5 to 6 missing"):
            next(feed)
        assert ids([next(feed)]) == [7]


def test_a_wait_can_have_an_end_and_loses_nothing(options: settings.Kafka) -> None:
    write(options, [trade("BTCUSDT", 1)])
    with sync.KafkaFeed(options, "trade") as feed:
        assert feed.next_event(timeout_s=0.01) is None
        write(options, [trade("BTCUSDT", 2), trade("BTCUSDT", 3)])
        found = [feed.next_event(timeout_s=WAIT_S), feed.next_event(timeout_s=WAIT_S)]
    assert ids([event for event in found if event]) == [2, 3]


@pytest.fixture
def _as_in_a_script() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt, whatever the loops of other tests have left behind."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_as_in_a_script")
def test_ctrl_c_ends_a_wait_at_once_and_loses_nothing(options: settings.Kafka) -> None:
    write(options, [trade("BTCUSDT", 1)])
    with sync.KafkaFeed(options, "trade") as feed:
        interrupted_while_reading(feed)
        write(options, [trade("BTCUSDT", 2)])
        assert ids([next(feed)]) == [2]
        interrupted_while_reading(feed)


def interrupted_while_reading(feed: sync.KafkaFeed) -> None:
    main, waiting = threading.main_thread().ident, threading.Event()
    assert main == threading.get_ident(), "Ctrl-C interrupts the main thread"
    start = feed._opened.start

    def started(coroutine: Any) -> Any:
        future = start(coroutine)
        waiting.set()
        return future

    def interrupt() -> None:
        waiting.wait(WAIT_S)
        signal.pthread_kill(main, signal.SIGINT)

    feed._opened.start = started  # type: ignore[method-assign]
    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    with pytest.raises(KeyboardInterrupt):
        next(feed)
    interrupting.join()
    feed._opened.start = start  # type: ignore[method-assign]


async def test_a_feed_can_be_read_where_a_loop_runs(options: settings.Kafka) -> None:
    await publish(options, [trade("BTCUSDT", number) for number in range(3)])
    with sync.KafkaFeed(options, "trade", start="earliest") as feed:
        assert ids(list(islice(feed, 3))) == [0, 1, 2]
    assert asyncio.get_running_loop().is_running()


def test_the_thread_of_a_feed_ends_with_its_context(options: settings.Kafka) -> None:
    write(options, [trade("BTCUSDT", 1)])
    before = threading.active_count()
    with sync.KafkaFeed(options, "trade") as feed:
        assert feed.next_event(timeout_s=0) is None
        assert threading.active_count() > before
    assert "tickbridge-client" not in {thread.name for thread in threading.enumerate()}


def test_the_thread_of_a_feed_that_cannot_open_ends_too() -> None:
    with (
        pytest.raises(SinkUnavailable, match="cannot be reached"),
        sync.KafkaFeed(f"localhost:{free_port()}", "trade"),
    ):
        raise AssertionError
    assert "tickbridge-client" not in {thread.name for thread in threading.enumerate()}


def test_a_feed_that_is_not_open_says_so() -> None:
    feed = sync.KafkaFeed("localhost:9092", "trade")
    with pytest.raises(RuntimeError, match=r"KafkaFeed is not open; use it inside `with KafkaFeed"):
        next(feed)


def test_events_of_redis_are_read_in_a_for_loop(redis: RedisAddress, unique: str) -> None:
    with sync.RedisFeed(redis.url, "trade", venue=unique) as feed, Redis.from_url(redis.url) as r:
        for number in range(2500):
            r.publish(f"{unique}.trade:BTCUSDT", msgspec.json.encode(trade("BTCUSDT", number)))
        assert ids(list(islice(feed, 2500))) == [*range(2500)]


def test_the_latest_prices_are_looked_up(redis: RedisAddress, unique: str) -> None:
    with sync.LatestPrices(redis.url, venue=unique) as prices, Redis.from_url(redis.url) as r:
        assert prices.get("BTCUSDT") is None
        r.hset(latest_key(unique, "BTCUSDT"), mapping={"price": "1.5", "price_time": "7"})
        assert prices.wait_for("btcusdt", timeout_s=WAIT_S).price_time == 7
        assert set(prices.get_many(["BTCUSDT", "ETHUSDT"])) == {"BTCUSDT"}
        assert (prices.all_prices(), prices.symbols(), prices.owner()) == ({}, [], None)
        with pytest.raises(SinkUnavailable, match="no price of ETHUSDT"):
            prices.wait_for("ETHUSDT", timeout_s=0.01)


@pytest.mark.parametrize("name", sync.__all__)
def test_both_fronts_take_the_same_arguments(name: str) -> None:
    def signature(module: ModuleType) -> inspect.Signature:
        return inspect.signature(getattr(module, name))

    assert signature(sync) == signature(client)
