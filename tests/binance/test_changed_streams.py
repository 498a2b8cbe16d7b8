"""Streams are added and removed while a feed runs. The others lose nothing, with no gap event."""

import pytest

from bridge.binance.connector import LOOK_S, State
from bridge.core.binance.stream_names import parse_stream
from bridge.core.policy.rotation import OVERLAP_S
from bridge.core.policy.silence import STREAM_FLOOR_S
from tests.support.exchange import NAME, Answer, Bridge, FakeExchange, Script, bridge, market
from tests.support.journal import Journal

pytestmark = pytest.mark.timeout(30)

QUOTES, OTHERS, MORE = "btcusdt@bookTicker", "ethusdt@trade", "bnbusdt@trade"


async def set_streams(running: Bridge, *names: str) -> None:
    streams = [parse_stream(name) for name in names]
    running.pipeline.set_streams(streams, {})
    await running.feed.set_streams(running.pipeline, streams)


def ids_of(running: Bridge, symbol: str) -> list[int]:
    return [
        getattr(event, "trade_id")  # noqa: B009 - not every event has an id
        for event in running.sink.events
        if event.symbol == symbol and hasattr(event, "trade_id")
    ]


def assert_whole(running: Bridge, symbol: str = "BTCUSDT") -> None:
    """Check that each trade is there once and in order, and that there is no gap event."""
    ids = ids_of(running, symbol)
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert running.sink.gaps() == []


async def test_a_stream_is_added_by_a_new_connection_before_the_old_one_is_closed() -> None:
    exchange = FakeExchange([market(NAME, QUOTES)], [market(NAME, QUOTES, OTHERS)])
    async with exchange.serving(), bridge(exchange, NAME, QUOTES) as running:
        await running.sink.until_id(10)
        await set_streams(running, NAME, QUOTES, OTHERS)
        await running.sink.until_id(20)
        assert exchange.paths[1].startswith(f"/stream?streams={NAME}/{QUOTES}/{OTHERS}")
        assert running.pipeline.counts.reconnects == {"streams_changed": 1}
        assert exchange.opened_at[1] < exchange.closed_at[0] <= exchange.opened_at[1] + 2 * LOOK_S
        assert_whole(running)
        assert_whole(running, "ETHUSDT")
        assert not running.feed.unready()


async def test_a_stream_that_goes_is_waited_for_no_longer() -> None:
    exchange = FakeExchange([market(NAME, OTHERS)], [market(NAME)])
    async with exchange.serving(), bridge(exchange, NAME, OTHERS) as running:
        await running.sink.until_id(10)
        await set_streams(running, NAME)
        last = ids_of(running, "ETHUSDT")[-1]
        await running.sink.until_id(20 + int(STREAM_FLOOR_S))
        assert ids_of(running, "ETHUSDT")[-1] == last
        assert exchange.closed_at[0] - exchange.opened_at[1] <= 2 * LOOK_S + 1
        assert_whole(running)
        assert running.feed.without_data() == []
        assert list(running.feed.last_received()) == [NAME]
        assert running.pipeline.counts.reconnects == {"streams_changed": 1}


async def test_the_same_streams_in_another_order_change_nothing() -> None:
    exchange = FakeExchange([market(NAME, OTHERS)])
    async with exchange.serving(), bridge(exchange, NAME, OTHERS) as running:
        await running.sink.until_id(10)
        await set_streams(running, OTHERS, NAME)
        await running.sink.until_id(20)
        assert len(exchange.paths) == 1


async def test_only_connections_whose_streams_change_are_replaced() -> None:
    names = (NAME, OTHERS, QUOTES)
    exchange = FakeExchange([market(*names, MORE)])
    async with exchange.serving(), bridge(exchange, *names, streams_per_connection=2) as running:
        await running.sink.until_id(10)
        changed = next(
            connector for connector in running.feed.connectors if len(connector.streams) == 1
        )
        await set_streams(running, *names, MORE)
        await running.sink.until_id(20)
        assert len(exchange.paths) == 3
        assert [stream.name for stream in changed.streams][1:] == [MORE]
        assert_whole(running)


async def test_a_connection_is_added_where_the_others_are_full_and_ends_with_its_streams() -> None:
    exchange = FakeExchange([market(NAME)], [market(OTHERS)])
    async with exchange.serving(), bridge(exchange, streams_per_connection=1) as running:
        await running.sink.until_id(10)
        await set_streams(running, NAME, OTHERS)
        while not ids_of(running, "ETHUSDT"):
            await running.sink.until(len(running.sink.events) + 1)
        assert [connector.name for connector in running.feed.connectors] == [
            "connector-1",
            "connector-2",
        ]
        events = running.feed.arrivals("a").events
        await set_streams(running, NAME)
        assert [connector.name for connector in running.feed.connectors] == ["connector-1"]
        assert running.states() == [State.OPEN]
        assert running.feed.arrivals("a").events >= events
        await running.sink.until_id(30)
        assert 1 in exchange.closed_at
        assert len(exchange.paths) == 2
        assert_whole(running)


async def test_the_last_symbol_may_be_replaced_by_another() -> None:
    exchange = FakeExchange([market(NAME)], [market(OTHERS)])
    async with exchange.serving(), bridge(exchange) as running:
        await running.sink.until_id(10)
        await set_streams(running, OTHERS)
        while len(ids_of(running, "ETHUSDT")) < 10:
            await running.sink.until(len(running.sink.events) + 1)
        assert exchange.opened_at[1] < exchange.closed_at[0]
        assert_whole(running, "ETHUSDT")


async def test_two_connectors_change_without_a_moment_in_which_neither_has_a_stream() -> None:
    names = (NAME, QUOTES)
    exchange = FakeExchange([market(*names)], [market(*names)], [market(*names, OTHERS)])
    async with exchange.serving(), bridge(exchange, *names, redundancy=2) as running:
        await running.sink.until_id(20)
        await set_streams(running, *names, OTHERS)
        await running.sink.until_id(40)
        assert len(exchange.paths) == 4
        assert all(
            closed_s > min(exchange.opened_at[2], exchange.opened_at[3])
            for closed_s in exchange.closed_at.values()
        )
        assert running.pipeline.counts.reconnects == {"streams_changed": 2}
        assert_whole(running)
        assert_whole(running, "ETHUSDT")


async def test_a_connection_that_cannot_be_had_leaves_the_others_as_they_are(
    journal: Journal,
) -> None:
    failures: list[Script] = [Answer(503), Answer(400)]
    exchange = FakeExchange([market(NAME)], *failures, [market(NAME, OTHERS)])
    async with exchange.serving(), bridge(exchange) as running:
        await running.sink.until_id(10)
        await set_streams(running, NAME, OTHERS)
        await journal.until("connection_down", 2)
        assert running.states() == [State.OPEN]
        while not ids_of(running, "ETHUSDT"):
            await running.sink.until(len(running.sink.events) + 1)
        assert_whole(running)


async def test_a_further_connection_that_is_refused_ends_nothing(journal: Journal) -> None:
    exchange = FakeExchange([market(NAME)], Answer(451), [market(OTHERS)])
    async with exchange.serving(), bridge(exchange, streams_per_connection=1) as running:
        await running.sink.until_id(10)
        await set_streams(running, NAME, OTHERS)
        await journal.until("connection_down")
        assert running.states() == [State.OPEN, State.REFUSED]
        while not ids_of(running, "ETHUSDT"):
            await running.sink.until(len(running.sink.events) + 1)
        assert_whole(running)


async def test_quotes_added_again_before_the_old_connection_is_closed_are_in_order() -> None:
    exchange = FakeExchange([market(NAME, QUOTES)])
    async with exchange.serving(), bridge(exchange, NAME, QUOTES) as running:
        await running.sink.until_id(10)
        await set_streams(running, NAME)
        await running.sink.until_id(12)
        await set_streams(running, NAME, QUOTES)
        await running.sink.until_id(12 + int(OVERLAP_S) + 10)
        quotes = [getattr(e, "update_id") for e in running.sink.events if hasattr(e, "update_id")]  # noqa: B009
        assert quotes == sorted(set(quotes))
        assert quotes[-1] >= 12 + int(OVERLAP_S)
        assert running.sink.gaps() == [("quote", "unsubscribed")]
        ids = ids_of(running, "BTCUSDT")
        assert ids == list(range(ids[0], ids[0] + len(ids)))


async def test_streams_that_change_twice_in_a_moment_stay_on_each_connection_that_brings_them() -> (
    None
):
    first, second = (NAME, QUOTES), (NAME, OTHERS)
    every = (NAME, QUOTES, OTHERS)
    exchange = FakeExchange([market(*first)], [market(*second)], [market(*every)])
    async with exchange.serving(), bridge(exchange, *first) as running:
        await running.sink.until_id(10)
        await set_streams(running, *second)
        while not ids_of(running, "ETHUSDT"):
            await running.sink.until(len(running.sink.events) + 1)
        await set_streams(running, *every)
        await running.sink.until_id(20 + int(OVERLAP_S))
        assert exchange.closed_at.keys() == {0, 1}
        assert exchange.opened_at[2] < min(exchange.closed_at.values())
        assert running.sink.gaps() == [("quote", "unsubscribed")]
        ids = ids_of(running, "ETHUSDT")
        assert ids == list(range(ids[0], ids[0] + len(ids)))
