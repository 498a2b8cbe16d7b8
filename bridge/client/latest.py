"""The latest prices, looked up in Redis."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Self

import msgspec

from bridge import settings
from bridge.brokers.redis_client import connect
from bridge.client.message_types import upper_symbols
from bridge.client.redis import redis_errors, redis_options
from bridge.core.model.stream import SPOT
from bridge.core.records.latest_values import latest_key, prices_key
from bridge.errors import SinkUnavailable


class LatestPrice(msgspec.Struct, frozen=True, kw_only=True):
    """What Redis knows of a symbol now; times in microseconds, the exchange's where it sends any.

    The quote is there where bookTicker or ticker is subscribed, the day's figures where ticker or
    miniTicker is. The three groups are set one by one: each has a time of its own.
    """

    symbol: str
    price: Decimal
    price_time: int
    trade_id: int | None = None
    bid_price: Decimal | None = None
    bid_volume: Decimal | None = None
    ask_price: Decimal | None = None
    ask_volume: Decimal | None = None
    quote_id: int | None = None
    quote_time: int | None = None
    open: Decimal | None = None
    high: Decimal | None = None
    low: Decimal | None = None
    volume: Decimal | None = None
    quote_volume: Decimal | None = None
    change: Decimal | None = None
    change_percent: Decimal | None = None
    weighted_average_price: Decimal | None = None
    trade_count: int | None = None
    day_time: int | None = None

    def age_s(self, now: int) -> float:
        """How old the price is at `now` (microseconds), in seconds; never negative: the exchange's
        clock may be ahead of ours.
        """
        return max(0, now - self.price_time) / 1e6


class LatestPrices:
    """Looks prices up over one connection; an async context manager. Symbols may have any case.

    `redis` is a URL or the whole section of the settings. Every method raises SinkRefused where
    the server rejects our credentials, and SinkUnavailable where it does not answer in time; the
    next call connects anew.
    """

    def __init__(self, redis: str | settings.Redis, *, venue: str = SPOT) -> None:
        self._options = redis_options(redis)
        self._venue = venue

    async def __aenter__(self) -> Self:
        self._client = connect(self._options)
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._client.aclose()

    async def get(self, symbol: str) -> LatestPrice | None:
        """The latest price of a symbol; None if there is none."""
        return next(iter((await self.get_many([symbol])).values()), None)

    async def get_many(self, symbols: Sequence[str]) -> dict[str, LatestPrice]:
        """The latest prices of those symbols that have one, in one round trip."""
        names = upper_symbols(symbols)
        with redis_errors(self._options):
            pipeline = self._client.pipeline(transaction=False)
            for name in names:
                pipeline.hgetall(latest_key(self._venue, name))
            hashes: list[dict[bytes, bytes]] = await pipeline.execute()
        found = zip(names, hashes, strict=True)
        return {name: _latest(name, fields) for name, fields in found if b"price" in fields}

    async def all_prices(self) -> dict[str, LatestPrice]:
        """The latest prices of all symbols that have one, by symbol."""
        return await self.get_many(await self.symbols())

    async def symbols(self) -> list[str]:
        """All symbols that have a price, sorted."""
        with redis_errors(self._options):
            names: list[Any] = await self._client.hkeys(prices_key(self._venue))
        return sorted(name.decode() for name in names)


def _latest(symbol: str, fields: dict[bytes, bytes]) -> LatestPrice:
    # An empty text stands for what the exchange left out.
    texts: dict[str, Any] = {k.decode(): v.decode() for k, v in fields.items() if v}
    try:
        return msgspec.convert(texts | {"symbol": symbol}, LatestPrice, strict=False)
    except msgspec.ValidationError as error:
        raise SinkUnavailable(
            f"Redis: the latest values of {symbol} are not as a bridge writes them: {error}"
        ) from error
