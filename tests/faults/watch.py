"""A reader that polls the latest values in Redis, whatever happens to Redis."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from bridge.core.model.stream import SPOT
from bridge.core.records.latest_values import latest_key, prices_key
from bridge.retry import check_cancelled

EVERY_S = 0.1
TIMEOUT_S = 1.0
# The fields of each symbol's hash that may only rise. The time of a price may be wrong, as that of
# its trade.
_RISING = frozenset({"trade_id", "quote_id", "quote_time"})


class Shown(NamedTuple):
    """A price that Redis has shown."""

    symbol: str
    trade_id: int
    price: str
    price_time_us: int


class Look(NamedTuple):
    """One look at all symbols: its time by our clock, and the time of each symbol's price.

    Price times are in microseconds of the market. Symbols without a price are left out.
    """

    at_s: float
    price_times_us: dict[str, int]


@dataclass(slots=True)
class Watch:
    """The results of all looks. `went_back` and `torn` list errors.

    `went_back`: a value older than one shown before. `torn`: a price that differs between the two
    hashes. `number` is that of the environment. The time of a quote, which a bridge takes from its
    own clock, may go back by `clocks_apart_s`.
    """

    number: Callable[[str, str, int], int]
    clocks_apart_s: float
    looks: list[Look] = field(default_factory=list)
    shown: set[Shown] = field(default_factory=set)
    went_back: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    _highest: dict[tuple[str, str], int] = field(default_factory=dict)

    async def run(self, url: str, symbols: Sequence[str]) -> None:
        """Poll until cancelled; a Redis that is away shows nothing."""
        client = Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            while True:
                with suppress(RedisError, OSError):
                    await self._look(client, symbols)
                check_cancelled()
                await asyncio.sleep(EVERY_S)
        finally:
            await client.aclose()

    async def _look(self, client: Redis, symbols: Sequence[str]) -> None:
        async with client.pipeline(transaction=True) as pipeline:
            pipeline.hgetall(prices_key(SPOT))
            for symbol in symbols:
                pipeline.hgetall(latest_key(SPOT, symbol))
            prices, *hashes = await pipeline.execute()
        look = Look(time.time(), {})
        for symbol, fields in zip(symbols, hashes, strict=True):
            self._compare(symbol, fields, prices.get(symbol))
            if "price_time" in fields:
                look.price_times_us[symbol] = int(fields["price_time"])
        self.looks.append(look)

    def _compare(self, symbol: str, fields: dict[str, str], price: str | None) -> None:
        for name in _RISING & fields.keys():
            value, before = int(fields[name]), self._highest.get((symbol, name), 0)
            if name == "trade_id":
                value = self.number("trade", symbol, value)
            if name == "quote_time":
                before -= round(self.clocks_apart_s * 1e6)
            if value < before:
                self.went_back.append(f"{symbol} {name} {value} after {before}")
            self._highest[symbol, name] = max(value, before)
        if "price" in fields:
            number = self.number("trade", symbol, int(fields["trade_id"]))
            self.shown.add(Shown(symbol, number, fields["price"], int(fields["price_time"])))
        if fields.get("price") != price:
            self.torn.append(f"{symbol}: {price} in all prices, {fields.get('price')} alone")
