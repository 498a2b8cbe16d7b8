"""The streams of a feed, and their shards, against a REST interface with faults."""

import pytest

from bridge.binance.feed import Feed, find_streams
from bridge.binance.rest import Rest
from bridge.core.binance.stream_names import parse_stream
from bridge.core.binance.subscription import Subscription
from bridge.core.model.stream import SPOT
from bridge.core.records.record import Router
from bridge.core.sequencing.sequencers import Sequencers
from bridge.errors import FeedRefused, SettingsError
from bridge.pipeline.pipeline import Pipeline
from tests.support.exchange import (
    NAME,
    Answer,
    FakeExchange,
    FakeRest,
    bridge,
    options_for,
    send,
    trade,
)
from tests.support.journal import Journal

pytestmark = pytest.mark.timeout(20)

LISTED = {"BTCUSDT": "TRADING", "ETHUSDT": "TRADING", "ETHBTC": "TRADING", "OLDUSDT": "BREAK"}


async def found(rest: FakeRest, *symbols: str) -> Subscription:
    options = options_for(FakeExchange(), websocket_url="ws://127.0.0.1:9", symbols=list(symbols))
    url = rest.url or "http://127.0.0.1:9"
    binance = options.binance.model_copy(update={"rest_url": url})
    async with Rest(binance) as client:
        return await find_streams(binance, client)


def symbols_of(subscription: Subscription) -> list[str | None]:
    return [stream.symbol for stream in subscription.streams]


async def test_named_symbols_go_on_unchecked_where_rest_is_unreachable(journal: Journal) -> None:
    subscription = await found(FakeRest(), "BTCUSDT", "NOSUCH")
    assert symbols_of(subscription) == ["BTCUSDT", "NOSUCH"]
    assert subscription.refused == []
    (entry,) = journal.named("symbols_not_checked")
    assert "127.0.0.1:9" in entry["error"]


@pytest.mark.parametrize("answer", [Answer(503), b"<html>no", b"\xff", b"{}"], ids=repr)
async def test_named_symbols_go_on_unchecked_where_rest_answers_nonsense(
    answer: Answer | bytes, journal: Journal
) -> None:
    async with FakeRest(answer).serving() as rest:
        assert symbols_of(await found(rest, "BTCUSDT")) == ["BTCUSDT"]
    assert journal.named("symbols_not_checked")


async def test_patterns_wait_for_the_answer(journal: Journal) -> None:
    async with FakeRest(Answer(503), b"nonsense", LISTED).serving() as rest:
        subscription = await found(rest, "*USDT")
        assert symbols_of(subscription) == ["BTCUSDT", "ETHUSDT"]
        assert len(rest.asked_at) == 3
        assert min(rest.asked_at[1] - rest.asked_at[0], rest.asked_at[2] - rest.asked_at[1]) > 0
    assert len(journal.named("symbols_unavailable")) == 2


@pytest.mark.parametrize(("status", "quiet_s"), [(429, 33), (418, 444)])
async def test_patterns_wait_as_long_as_rest_asks_for_quiet(
    status: int, quiet_s: int, journal: Journal
) -> None:
    quiet = Answer(status, {"Retry-After": str(quiet_s)})
    async with FakeRest(quiet, LISTED).serving() as rest:
        await found(rest, "*USDT")
        first, second = rest.asked_at
        assert second - first >= quiet_s
    assert len(journal.named("symbols_unavailable")) == 1
    assert journal.named("rest_refused")[0]["quiet_s"] == quiet_s


@pytest.mark.parametrize("status", [429, 418, 403])
async def test_a_rest_interface_that_refuses_requests_does_not_keep_the_streams_closed(
    status: int, journal: Journal
) -> None:
    async with FakeRest(Answer(status, {"Retry-After": "86400"})).serving() as rest:
        assert symbols_of(await found(rest, "BTCUSDT")) == ["BTCUSDT"]
        assert len(rest.asked_at) == 1
    assert journal.named("symbols_not_checked")


@pytest.mark.parametrize("status", [404, 451])
async def test_rest_refusing_us_ends_the_start_with_a_remedy(status: int) -> None:
    async with FakeRest(Answer(status)).serving() as rest:
        with pytest.raises(FeedRefused, match=str(status)) as caught:
            await found(rest, "BTCUSDT")
    assert "binance.rest_url" in caught.value.remedy


async def test_an_invalid_symbol_is_named_with_the_nearest_listed_one(journal: Journal) -> None:
    async with FakeRest(LISTED).serving() as rest:
        subscription = await found(rest, "BTCUSD", "ETHUSDT")
    assert symbols_of(subscription) == ["ETHUSDT"]
    (sentence,) = subscription.refused
    assert "'BTCUSD'" in sentence
    assert "'BTCUSDT'" in sentence
    assert journal.named("not_subscribed")[0]["error"] == sentence


async def test_nothing_left_to_subscribe_to_is_an_error_of_the_settings(journal: Journal) -> None:
    async with FakeRest(LISTED).serving() as rest:
        with pytest.raises(SettingsError) as caught:
            await found(rest, "NOSUCHUSDT", "DOGE*")
    assert [problem.key for problem in caught.value.problems] == ["binance.symbols"] * 2
    assert "NOSUCHUSDT" in str(caught.value)
    assert "DOGE*" in str(caught.value)
    assert len(journal.named("not_subscribed")) == 2


@pytest.mark.parametrize("bound", [1, 200, 1024])
def test_three_thousand_streams_are_spread_over_connections_within_their_bound(bound: int) -> None:
    streams = [parse_stream(f"s{number}usdt@trade") for number in range(3000)]
    options = options_for(FakeExchange(), websocket_url="ws://h", streams_per_connection=bound)
    pipeline = Pipeline(SPOT, Router(streams, "{message_type}"), Sequencers(streams), [])
    feed = Feed(options.binance, streams, pipeline)
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


async def test_the_exchange_says_what_request_weight_a_minute_has() -> None:
    """The answer has other limits too, which do not apply here."""
    answer = b"""{"symbols":[],"rateLimits":[
        {"rateLimitType":"RAW_REQUESTS","interval":"MINUTE","intervalNum":5,"limit":61000},
        {"rateLimitType":"REQUEST_WEIGHT","interval":"MINUTE","intervalNum":1,"limit":1200}]}"""
    async with FakeRest(answer).serving() as rest:
        options = options_for(FakeExchange(), websocket_url="ws://127.0.0.1:9", symbols=["BTCUSDT"])
        binance = options.binance.model_copy(update={"rest_url": rest.url})
        async with Rest(binance, weight_share=0.5) as client:
            await client.symbols()
            assert client.budget.allowed == 1200
            assert client.budget.reserve(600, 0.0) == 0
            assert client.budget.reserve(25, 0.0) == 60


async def test_a_listed_name_that_is_no_symbol_is_left_out_alone() -> None:
    names = ("A@BUSDT", "A\nBUSDT", "", "\x1b[2J", "A" * 100_000)
    listed = {"BTCUSDT": "TRADING", **dict.fromkeys(names, "TRADING")}
    async with FakeRest(listed).serving() as rest:
        assert symbols_of(await found(rest, "*")) == ["BTCUSDT"]
