"""The streams of a feed, spread over bundles."""

import math

import pytest

from bridge.binance.feed import Feed
from bridge.core.binance.stream_names import parse_stream
from bridge.core.model.stream import SPOT
from bridge.core.records.record import Router
from bridge.core.sequencing.sequencers import Sequencers
from bridge.pipeline.pipeline import Pipeline
from tests.support.exchange import NAME, FakeExchange, bridge, options_for, send, trade
from tests.support.journal import Journal

pytestmark = pytest.mark.timeout(20)


@pytest.mark.parametrize("bound", [1, 200, 1024])
def test_three_thousand_streams_are_spread_over_connections_within_their_bound(bound: int) -> None:
    streams = [parse_stream(f"s{number}usdt@trade") for number in range(3000)]
    options = options_for(FakeExchange(), websocket_url="ws://h", streams_per_connection=bound)
    pipeline = Pipeline(SPOT, Router(streams, "{message_type}"), Sequencers(streams), [])
    feed = Feed(options.binance)
    feed.add(pipeline, streams)
    assert max(len(connector.streams) for connector in feed.connectors) <= bound
    assert sorted(feed.without_data()) == sorted(stream.name for stream in streams)


async def test_a_feed_is_ready_once_something_has_come_over_every_connector(
    journal: Journal,
) -> None:
    exchange = FakeExchange([send(trade(1))], [], [send(trade(2))])
    async with exchange.serving(), bridge(exchange, NAME, "ethusdt@trade") as running:
        at_first = not running.feed.unready()
        await journal.until("connection_open")
        await running.sink.until(1)
        assert (at_first, not running.feed.unready()) == (False, True)
        assert running.feed.without_data() == ["ethusdt@trade"]


async def test_a_feed_knows_for_how_long_its_most_silent_connection_has_brought_nothing(
    journal: Journal,
) -> None:
    """A connection that has brought nothing is silent since its opening, or has no frames."""
    exchange = FakeExchange([send(trade(1))], [])
    async with (
        exchange.serving(),
        bridge(exchange, NAME, "ethusdt@trade", streams_per_connection=1) as running,
    ):
        feed, handler = running.feed, running.pipeline
        assert feed.silent_s(handler) == math.inf
        await journal.until("connection_open", 2)
        await running.sink.until(1)
        assert 0.0 <= feed.silent_s(handler) < 10.0
        assert feed.silent_s(handler, has_frames=True) == math.inf
        (first, second) = sorted(feed.connectors, key=lambda each: each.silent_s(has_frames=True))
        assert first.silent_s(has_frames=True) < 10.0
        assert second.silent_s() < 10.0
        assert feed.silent_s(handler) <= feed.lag_s(handler) < 10.0
