"""Lookup of the latest prices in Redis."""

import asyncio
from contextlib import suppress
from decimal import Decimal
from typing import Any, Self

import msgspec
from redis.exceptions import ResponseError

from bridge import settings
from bridge.brokers.redis_client import connect
from bridge.client.message_types import Names, upper_symbols
from bridge.client.redis import redis_errors, redis_options
from bridge.core.model.stream import SPOT
from bridge.core.model.unreadable import UNREADABLE
from bridge.core.records.latest_values import heartbeat_key, latest_key, prices_key
from bridge.errors import SinkUnavailable, TickbridgeError
from bridge.telemetry import now_us

# How often `wait_for` looks.
LOOK_INTERVAL_S = 0.1
# How Redis begins its answer about a key of another type. redis-py adds the command before it.
WRONG_TYPE = "WRONGTYPE"


class LatestPrice(msgspec.Struct, frozen=True, kw_only=True):
    """The latest values of a symbol in Redis.

    Times are in microseconds. They are the exchange's times if it sends any. The quote is set if
    bookTicker or ticker is subscribed, the 24-hour figures if ticker or miniTicker is. Price,
    quote, 24-hour figures and status are updated separately, so each group has its own time.

    `feed` is the state of the symbol's feed at `status_time` (live, stale, repairing, down or
    refused), since `feed_since`. docs/reference/events.md describes the other fields of the status.
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
    feed: str | None = None
    feed_since: int | None = None
    complete_to: int | None = None
    checked: int | None = None
    complete_trade_id: int | None = None
    complete_agg_trade_id: int | None = None
    owner: str | None = None
    standby: str | None = None
    status_time: int | None = None

    def age_s(self, now: int | None = None) -> float:
        """Return the age of the price in seconds, at `now` (microseconds) or at this moment.

        It is never negative, although the exchange's clock may be ahead of ours.
        """
        return max(0, (now_us() if now is None else now) - self.price_time) / 1e6


class UnreadablePrice(TickbridgeError):
    """The latest values of a symbol that no bridge can have written."""

    def __init__(self, symbol: str, key: str, reason: object) -> None:
        self.symbol = symbol
        super().__init__(
            f"Redis: the latest values of {symbol} are not in the format of a bridge ({reason}); "
            f"another program has written {key}: delete it"
        )


class LatestPrices:
    """Looks up prices over one connection. An async context manager.

    Symbols may be in upper or lower case. `redis` is a URL or the section `redis` of the settings.
    Every method raises SinkRefused if the server rejects the credentials, and SinkUnavailable if it
    does not answer in time. The next call reconnects.
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
        """Return the latest price of a symbol, or None if there is none."""
        return next(iter((await self.get_many(symbol)).values()), None)

    async def wait_for(self, symbol: str, timeout_s: float = 30.0) -> LatestPrice:
        """Return the latest price of a symbol as soon as it has one. Raises SinkUnavailable if it
        has none after `timeout_s`.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while (price := await self.get(symbol)) is None:  # noqa: ASYNC110 - it is no event
                    await asyncio.sleep(LOOK_INTERVAL_S)
                return price
        raise SinkUnavailable(
            f"Redis at {self._options.url} has no price of {symbol.upper()} after {timeout_s:g} s; "
            "check that a bridge is subscribed to it (`tickbridge status`)"
        )

    async def get_many(self, symbols: Names) -> dict[str, LatestPrice]:
        """Return the latest prices by symbol, in one round trip. Symbols without a price are
        absent. Raises UnreadablePrice.
        """
        names = upper_symbols(symbols)
        with redis_errors(self._options):
            pipeline = self._client.pipeline(transaction=False)
            for name in names:
                pipeline.hgetall(latest_key(self._venue, name))
            answers: list[Any] = await pipeline.execute(raise_on_error=False)
            found = {n: self._fields(n, a) for n, a in zip(names, answers, strict=True)}
        return {
            name: _latest(name, latest_key(self._venue, name), fields)
            for name, fields in found.items()
            if b"price" in fields
        }

    async def all_prices(self) -> dict[str, LatestPrice]:
        """Return the latest prices of all symbols that have one, by symbol."""
        return await self.get_many(await self.symbols())

    async def owner(self) -> str | None:
        """Return the bridge that writes to this Redis, or None: then no value is current."""
        with redis_errors(self._options):
            found: Any = await self._client.get(heartbeat_key(self._venue))
        return None if found is None else found.decode(errors="replace")

    async def symbols(self) -> list[str]:
        """Return all symbols that have a price, sorted."""
        with redis_errors(self._options):
            names: list[Any] = await self._client.hkeys(prices_key(self._venue))
        return sorted(name.decode(errors="replace") for name in names)

    def _fields(self, symbol: str, answer: Any) -> dict[bytes, bytes]:
        """Return the fields of a hash. Raises the answer if it is an error of the library."""
        if isinstance(answer, ResponseError) and WRONG_TYPE in str(answer):
            raise UnreadablePrice(symbol, latest_key(self._venue, symbol), "it is no hash")
        if isinstance(answer, Exception):
            raise answer
        fields: dict[bytes, bytes] = answer
        return fields


def _latest(symbol: str, key: str, fields: dict[bytes, bytes]) -> LatestPrice:
    # An empty text means that the exchange left the value out.
    try:
        texts: dict[str, Any] = {k.decode(): v.decode() for k, v in fields.items() if v}
        return msgspec.convert(texts | {"symbol": symbol}, LatestPrice, strict=False)
    except UNREADABLE as error:
        raise UnreadablePrice(symbol, key, error) from error
