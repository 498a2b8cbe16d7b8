"""The lookup: it returns the values that the bridge has set, and None for absent ones."""

import asyncio
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from redis.asyncio import Redis

from bridge.client import LatestPrice, LatestPrices, UnreadablePrice
from bridge.core.model.events import AggTrade, Event, MiniTicker, Quote, Ticker, Trade
from bridge.core.records.latest_values import latest_key, latest_values, prices_key
from bridge.errors import SinkUnavailable
from bridge.tools.embedded import free_port
from tests.support.brokers import RedisAddress

EACH_PAYLOAD: dict[str, type[Event]] = {
    "trade": Trade,
    "aggTrade": AggTrade,
    "bookTicker": Quote,
    "ticker": Ticker,
    "miniTicker": MiniTicker,
}
FIELDS: dict[str, str | int] = {
    "price": "61837.63000000",
    "price_time": 1723161254087000,
    "trade_id": 3735683259,
    "bid_price": "0.00000000",
    "ask_price": "",
}


async def put(
    redis: RedisAddress, venue: str, symbol: str, fields: Mapping[str, str | int]
) -> None:
    async with Redis.from_url(redis.url) as client:
        mapping: dict[Any, Any] = dict(fields)
        await client.hset(latest_key(venue, symbol), mapping=mapping)
        if price := fields.get("price"):
            await client.hset(prices_key(venue), symbol, str(price))


@pytest.mark.parametrize("payload", EACH_PAYLOAD)
def test_every_field_the_bridge_sets_is_there_to_be_read(payload: str) -> None:
    event_type = EACH_PAYLOAD[payload]
    values = latest_values("venue", "BTCUSDT", event_type, {payload})
    assert values
    for value in values:
        assert set(value.group.names.splitlines()) <= set(LatestPrice.__struct_fields__)


async def test_a_price_comes_with_every_digit_and_its_time(
    redis: RedisAddress, unique: str
) -> None:
    await put(redis, unique, "BTCUSDT", FIELDS)
    async with LatestPrices(redis.url, venue=unique) as prices:
        latest = await prices.get("btcusdt")
    assert latest == LatestPrice(
        symbol="BTCUSDT",
        price=Decimal("61837.63000000"),
        price_time=1723161254087000,
        trade_id=3735683259,
        bid_price=Decimal("0.00000000"),
    )
    assert format(latest.price, "f") == "61837.63000000"


async def test_a_symbol_without_a_price_is_none(redis: RedisAddress, unique: str) -> None:
    await put(redis, unique, "ETHUSDT", {"bid_price": "1", "quote_id": 7})
    async with LatestPrices(redis.url, venue=unique) as prices:
        assert await prices.get("BTCUSDT") is None
        assert await prices.get("ETHUSDT") is None


async def test_all_prices_are_those_the_bridge_has_listed(redis: RedisAddress, unique: str) -> None:
    for symbol in ("ETHUSDT", "币安人生USDT", "BTCUSDT"):
        await put(redis, unique, symbol, FIELDS)
    async with LatestPrices(redis.url, venue=unique) as prices:
        found = await prices.all_prices()
        assert list(found) == await prices.symbols() == ["BTCUSDT", "ETHUSDT", "币安人生USDT"]
        assert list(await prices.get_many(["ETHUSDT", "SOLUSDT"])) == ["ETHUSDT"]


async def test_nothing_is_known_of_an_empty_venue(redis: RedisAddress, unique: str) -> None:
    async with LatestPrices(redis.url, venue=unique) as prices:
        assert await prices.all_prices() == {}


async def test_fields_of_a_newer_bridge_are_passed_over(redis: RedisAddress, unique: str) -> None:
    await put(redis, unique, "BTCUSDT", FIELDS | {"funding_rate": "x"})
    async with LatestPrices(redis.url, venue=unique) as prices:
        assert await prices.get("BTCUSDT") is not None


async def test_values_of_somebody_else_are_an_error(redis: RedisAddress, unique: str) -> None:
    await put(redis, unique, "BTCUSDT", {"price": "a lot", "price_time": 1})
    async with LatestPrices(redis.url, venue=unique) as prices:
        with pytest.raises(UnreadablePrice, match="BTCUSDT are not in the format of a bridge"):
            await prices.get("BTCUSDT")


async def test_a_key_of_another_type_is_named_with_the_remedy(
    redis: RedisAddress, unique: str
) -> None:
    key = latest_key(unique, "BTCUSDT")
    async with Redis.from_url(redis.url) as client:
        await client.set(key, "61837")
    async with LatestPrices(redis.url, venue=unique) as prices:
        with pytest.raises(UnreadablePrice, match=f"{key}: delete it") as raised:
            await prices.get_many(["ETHUSDT", "BTCUSDT"])
    assert raised.value.symbol == "BTCUSDT"


async def test_an_absent_server_is_named() -> None:
    url = f"redis://localhost:{free_port()}/0"
    async with LatestPrices(url) as prices:
        with pytest.raises(SinkUnavailable, match=f"{url}.*check that it is running"):
            await prices.get("BTCUSDT")


def test_the_age_is_never_negative() -> None:
    latest = LatestPrice(symbol="BTCUSDT", price=Decimal(1), price_time=2_000_000)
    assert latest.age_s(2_400_000) == 0.4
    assert latest.age_s(1_000_000) == 0
    assert latest.age_s() > 0


async def test_a_price_that_comes_later_is_waited_for(redis: RedisAddress, unique: str) -> None:
    async with LatestPrices(redis.url, venue=unique) as prices, asyncio.timeout(10):
        waiting = asyncio.create_task(prices.wait_for("BTCUSDT"))
        assert await prices.get("BTCUSDT") is None
        await put(redis, unique, "BTCUSDT", FIELDS)
        assert (await waiting).price == Decimal("61837.63000000")


async def test_a_price_that_never_comes_is_named(redis: RedisAddress, unique: str) -> None:
    async with LatestPrices(redis.url, venue=unique) as prices:
        with pytest.raises(SinkUnavailable, match=r"no price of NOSUCH after 0\.2 s"):
            await prices.wait_for("nosuch", timeout_s=0.2)
