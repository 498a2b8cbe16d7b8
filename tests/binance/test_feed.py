"""The streams of a feed, spread over bundles."""

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
