"""The streams of the settings, by what the exchange lists, against a REST interface with faults."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bridge.binance.listing import INTERVAL_S, Listing, find_streams
from bridge.binance.rest import Rest
from bridge.core.binance.subscription import LISTED_MAX, Subscription
from bridge.errors import FeedRefused, SettingsError
from bridge.settings import Binance
from tests.support.exchange import Answer, FakeExchange, FakeRest, options_for
from tests.support.journal import Journal

pytestmark = pytest.mark.timeout(20)

LISTED = {"BTCUSDT": "TRADING", "ETHUSDT": "TRADING", "ETHBTC": "TRADING", "OLDUSDT": "BREAK"}


def options_of(rest: FakeRest, *symbols: str) -> Binance:
    options = options_for(FakeExchange(), websocket_url="ws://127.0.0.1:9", symbols=list(symbols))
    url = rest.url or "http://127.0.0.1:9"
    return options.binance.model_copy(update={"rest_url": url})


async def found(rest: FakeRest, *symbols: str) -> Subscription:
    options = options_of(rest, *symbols)
    async with Rest(options) as client:
        return await find_streams(options, client)


@asynccontextmanager
async def following(rest: FakeRest, *symbols: str) -> AsyncIterator[tuple[Listing, Binance]]:
    options = options_of(rest, *symbols)
    async with Rest(options) as client:
        yield Listing(client, options.reconnect_max_delay_s), options


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
    assert len(journal.named("symbols_not_checked")) == 1
    assert len(journal.named("symbols_unavailable")) == 1


@pytest.mark.parametrize(("status", "quiet_s"), [(429, 33), (418, 444)])
async def test_patterns_wait_as_long_as_rest_asks_for_quiet(
    status: int, quiet_s: int, journal: Journal
) -> None:
    quiet = Answer(status, {"Retry-After": str(quiet_s)})
    async with FakeRest(quiet, LISTED).serving() as rest:
        await found(rest, "*USDT")
        first, second = rest.asked_at
        assert second - first >= quiet_s
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


async def test_the_exchange_says_what_request_weight_a_minute_has() -> None:
    """The answer has other limits too, which do not apply here."""
    answer = b"""{"symbols":[{"symbol":"BTCUSDT","status":"TRADING"}],"rateLimits":[
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


HALTED = dict.fromkeys(LISTED, "BREAK")


async def test_a_start_in_maintenance_waits_until_a_symbol_trades(journal: Journal) -> None:
    async with FakeRest(HALTED, HALTED, LISTED).serving() as rest:
        assert symbols_of(await found(rest, "*USDT")) == ["BTCUSDT", "ETHUSDT"]
        waited_s = rest.asked_at[2] - rest.asked_at[1]
        assert INTERVAL_S <= waited_s < 2 * INTERVAL_S
    (entry,) = journal.named("symbols_waiting")
    assert "'*USDT'" in entry["reason"]


async def test_a_start_without_rest_names_what_is_not_listed_once_rest_answers(
    journal: Journal,
) -> None:
    async with (
        FakeRest(Answer(503), LISTED).serving() as rest,
        following(rest, "BTCUSDT", "NOSUCH", "ETH*") as (listing, options),
    ):
        assert symbols_of(await listing.find(options)) == ["BTCUSDT", "NOSUCH"]
        await listing.next()
        subscription = listing.streams_of(options)
        assert symbols_of(subscription) == ["BTCUSDT", "ETHUSDT", "ETHBTC"]
        assert subscription.unlisted == ["NOSUCH"]
        assert rest.asked_at[1] - rest.asked_at[0] < 2 * options.reconnect_max_delay_s
    assert len(journal.named("not_subscribed")) == 1


@pytest.mark.parametrize(
    "later", [HALTED, {"BTCUSDT": "TRADING"}, {}, Answer(503), b"no"], ids=repr
)
async def test_a_reload_in_maintenance_keeps_the_streams(
    later: Answer | bytes | dict[str, str],
) -> None:
    async with (
        FakeRest(LISTED, later).serving() as rest,
        following(rest, "*USDT", "ETHBTC") as (listing, options),
    ):
        first = await listing.find(options)
        assert await listing.find(options) == first
        assert symbols_of(first) == ["BTCUSDT", "ETHUSDT", "ETHBTC"]


async def test_a_symbol_that_is_listed_later_is_found_within_a_minute(journal: Journal) -> None:
    more = LISTED | {"NEWUSDT": "BREAK"}
    async with (
        FakeRest(LISTED, more).serving() as rest,
        following(rest, "*USDT") as (listing, options),
    ):
        await listing.find(options)
        await listing.next()
        assert symbols_of(listing.streams_of(options)) == ["BTCUSDT", "ETHUSDT", "NEWUSDT"]
    (entry,) = journal.named("symbols_changed")
    assert entry["changes"] == ["NEWUSDT not listed -> BREAK"]


@pytest.mark.parametrize("answer", [Answer(404), Answer(451), Answer(503), b"no"], ids=repr)
async def test_nothing_that_rest_answers_later_ends_the_watch(
    answer: Answer | bytes, journal: Journal
) -> None:
    async with (
        FakeRest(LISTED, *[answer] * 5, LISTED | {"NEWUSDT": "TRADING"}).serving() as rest,
        following(rest, "NEW*", "BTCUSDT") as (listing, options),
    ):
        await listing.find(options)
        await listing.next()
        assert symbols_of(listing.streams_of(options)) == ["NEWUSDT", "BTCUSDT"]
    assert 0 < len(journal.named("symbols_unavailable")) < 5


async def test_a_listing_that_is_too_long_counts_as_no_answer(journal: Journal) -> None:
    listed = {f"S{number}USDT": "TRADING" for number in range(LISTED_MAX + 1)}
    async with FakeRest(listed).serving() as rest:
        assert symbols_of(await found(rest, "BTCUSDT")) == ["BTCUSDT"]
    (entry,) = journal.named("symbols_not_checked")
    assert str(LISTED_MAX) in entry["error"]


async def test_a_listing_that_does_not_answer_in_time_does_not_keep_the_streams_closed(
    journal: Journal,
) -> None:
    async with (
        FakeRest(Answer(429, {"Retry-After": "86400"})).serving() as rest,
        following(rest, "BTCUSDT") as (listing, options),
    ):
        await listing.find(options)
        async with asyncio.timeout(2 * options.connect_timeout_s):
            assert symbols_of(await listing.find(options)) == ["BTCUSDT"]
    assert "no answer within" in journal.named("symbols_not_checked")[1]["error"]
