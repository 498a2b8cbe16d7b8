"""The exchange's REST interface: which symbols it lists, and trades that a stream has missed.

Every request passes the rate limiter, which stops all requests while the exchange refuses them. It
takes its weight from our share of the budget, which the answers report.
"""

import asyncio
import time
from http import HTTPStatus
from typing import Self

import aiohttp
import msgspec

from bridge import settings
from bridge.binance.failures import from_exception, from_status
from bridge.binance.rate_limit import RateLimiter
from bridge.core.binance.decode import UNREADABLE
from bridge.core.binance.rest_rows import read_rows
from bridge.core.binance.weight_budget import WeightBudget
from bridge.core.model.events import Event
from bridge.core.model.stream import SPOT
from bridge.errors import FeedRefused, FeedUnavailable, InvalidFrame

# From the exchange's documents, "Rate limits" and each endpoint; `exchangeInfo` may correct it.
WEIGHT_PER_MINUTE = 6000
_EXCHANGE_INFO_WEIGHT = 20
_TIME_WEIGHT = 1
_TRADES_WEIGHT = 25
_AGG_TRADES_WEIGHT = 4
_PAGE_ROWS = "1000"
_USED_WEIGHT = "X-MBX-USED-WEIGHT-1M"
_UNREADABLE = (*UNREADABLE, InvalidFrame)


class _Symbol(msgspec.Struct):
    symbol: str
    status: str


class _Time(msgspec.Struct, rename="camel"):
    server_time: int


class _RateLimit(msgspec.Struct, rename="camel"):
    rate_limit_type: str
    interval: str
    interval_num: int
    limit: int

    @property
    def is_weight_per_minute(self) -> bool:
        return (self.rate_limit_type, self.interval, self.interval_num) == (
            "REQUEST_WEIGHT",
            "MINUTE",
            1,
        )


class _ExchangeInfo(msgspec.Struct, rename="camel"):
    symbols: list[_Symbol]
    rate_limits: list[_RateLimit] = []


_decode_exchange_info = msgspec.json.Decoder(_ExchangeInfo).decode
_decode_time = msgspec.json.Decoder(_Time).decode


class Rest:
    """One client session, used as an async context manager.

    Methods raise FeedRefused or FeedUnavailable.
    """

    def __init__(
        self, options: settings.Binance, rate_limiter: RateLimiter, weight_share: float = 1.0
    ) -> None:
        self.budget = WeightBudget(WEIGHT_PER_MINUTE, weight_share)
        self._url = options.rest_url
        self.rate_limiter = rate_limiter
        self._has_history = True
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=options.connect_timeout_s),
            trust_env=options.uses_environment_proxy,
            proxy=options.proxy_url,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._session.close()

    async def symbols(self) -> dict[str, str]:
        """Return each symbol that the exchange lists, and its status (TRADING, HALT, BREAK, ...).

        The whole list is requested: in a shorter list one unknown name is an error for all. The
        same answer has the request weight that a minute allows.
        """
        path = "/api/v3/exchangeInfo"
        body = await self._get(path, _EXCHANGE_INFO_WEIGHT, showPermissionSets="false")
        try:
            info = _decode_exchange_info(body)
        except _UNREADABLE as error:
            raise self._unreadable(path, error) from error
        for rate_limit in info.rate_limits:
            if rate_limit.is_weight_per_minute:
                self.budget.allowed = rate_limit.limit
        return {symbol.symbol: symbol.status for symbol in info.symbols}

    async def time_ms(self) -> int:
        """Return the exchange's time, in milliseconds since the epoch."""
        path = "/api/v3/time"
        body = await self._get(path, _TIME_WEIGHT)
        try:
            return _decode_time(body).server_time
        except _UNREADABLE as error:
            raise self._unreadable(path, error) from error

    async def fetch(self, message_type: str, symbol: str, from_id: int) -> list[Event]:
        """Return at most a thousand trades or agg_trades from an id on, in rising order.

        A host without the history (the one for market data only) has just the latest thousand
        trades; of these the ones from the id on are returned.
        """
        if message_type == "agg_trade":
            return await self._page(
                message_type, symbol, "/api/v3/aggTrades", _AGG_TRADES_WEIGHT, from_id
            )
        if self._has_history:
            try:
                path = "/api/v3/historicalTrades"
                return await self._page(message_type, symbol, path, _TRADES_WEIGHT, from_id)
            except FeedRefused as error:
                if error.status != HTTPStatus.NOT_FOUND:
                    raise
                self._has_history = False
        latest = await self._page(message_type, symbol, "/api/v3/trades", _TRADES_WEIGHT)
        return [trade for trade in latest if trade.trade_id >= from_id]  # type: ignore[attr-defined]

    async def _page(
        self, message_type: str, symbol: str, path: str, weight: int, from_id: int | None = None
    ) -> list[Event]:
        place = {} if from_id is None else {"fromId": str(from_id)}
        body = await self._get(path, weight, symbol=symbol, limit=_PAGE_ROWS, **place)
        try:
            return read_rows(message_type, body, SPOT, symbol, time.time_ns() // 1000)
        except _UNREADABLE as error:
            raise self._unreadable(path, error) from error

    async def _get(self, path: str, weight: int, **parameters: str) -> bytes:
        await self._turn(weight)
        try:
            async with self._session.get(self._url + path, params=parameters) as response:
                self.budget.report(int(response.headers.get(_USED_WEIGHT, 0)), time.time())
                if response.status != HTTPStatus.OK:
                    retry_after = response.headers.get("Retry-After")
                    raise from_status(response.status, retry_after, self._url)
                return await response.read()
        except (aiohttp.ClientError, OSError) as error:
            raise from_exception(error, self._url) from error
        except FeedUnavailable as error:
            if error.cause == "rate_limited":
                self.rate_limiter.close_for(error.retry_after_s or 0.0)
            raise

    async def _turn(self, weight: int) -> None:
        """Wait until a request is allowed and its weight fits. Another task may take the weight
        first.
        """
        await self.rate_limiter.wait_for_request()
        while (delay_s := self.budget.reserve(weight, time.time())) > 0:
            await asyncio.sleep(delay_s)
            await self.rate_limiter.wait_for_request()

    def _unreadable(self, path: str, error: Exception) -> FeedUnavailable:
        return FeedUnavailable(f"{self._url}{path} sent an answer that cannot be read: {error}")
