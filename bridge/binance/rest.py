"""The exchange's REST interface: which symbols it lists, and trades that a stream has missed.

Every request takes its weight from our share of the budget, which the answers report. While the
exchange refuses requests, none is sent.
"""

import asyncio
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Self

import aiohttp
import msgspec
import structlog

from bridge import settings
from bridge.binance.failures import from_exception, from_status, refused_wait_s
from bridge.binance.rate_limit import QuietPeriod
from bridge.core.binance.decode import UNREADABLE
from bridge.core.binance.normalize import microseconds
from bridge.core.binance.rest_rows import read_rows
from bridge.core.binance.weight_budget import WeightBudget
from bridge.core.model.events import Event
from bridge.core.model.stream import SPOT
from bridge.errors import FeedRefused, FeedUnavailable

# From the exchange's documents, "Rate limits" and each endpoint; `exchangeInfo` may correct it.
WEIGHT_PER_MINUTE = 6000
_EXCHANGE_INFO = "/api/v3/exchangeInfo"
_TIME = "/api/v3/time"
_LATEST_TRADES = "/api/v3/trades"
_TRADES = "/api/v3/historicalTrades"
_AGG_TRADES = "/api/v3/aggTrades"
_WEIGHTS = {_EXCHANGE_INFO: 20, _TIME: 1, _LATEST_TRADES: 25, _TRADES: 25, _AGG_TRADES: 4}
_PAGE_ROWS = 1000
_USED_WEIGHT = "X-MBX-USED-WEIGHT-1M"
_MAX_DIGITS = 9
# Without this parameter `exchangeInfo` hides the symbols that have none of the first three. Source:
# "Account and Symbol Permissions" in the exchange's documents.
_PERMISSIONS = ["SPOT", "MARGIN", "LEVERAGED", *(f"TRD_GRP_{n:03}" for n in range(2, 26))]
_INFO_PARAMETERS = {
    "permissions": msgspec.json.encode(_PERMISSIONS).decode(),
    "showPermissionSets": "false",
}
# The answers of hosts without `historicalTrades`: the one for market data only has no such path,
# Binance.US wants a key.
_NO_HISTORY = (HTTPStatus.NOT_FOUND, HTTPStatus.UNAUTHORIZED)

log = structlog.get_logger(__name__)


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

    Methods raise FeedRefused or FeedUnavailable. `unreadable_rows` counts the rows of answers that
    were left out.
    """

    def __init__(self, options: settings.Binance, weight_share: float = 1.0) -> None:
        self.budget = WeightBudget(WEIGHT_PER_MINUTE, weight_share)
        self.unreadable_rows = 0
        self._url = options.rest_url
        self._quiet = QuietPeriod()
        # Since the last answer that was not a refusal.
        self._refusals = 0
        self._has_history = True
        in_microseconds = options.time_unit == "microsecond"
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=options.connect_timeout_s),
            trust_env=options.uses_environment_proxy,
            proxy=options.proxy_url,
            headers={"X-MBX-TIME-UNIT": "MICROSECOND"} if in_microseconds else {},
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
        try:
            body = await self._get(_EXCHANGE_INFO, **_INFO_PARAMETERS)
        except FeedRefused as error:
            # Exchanges with the same protocol may not know these parameters.
            if error.status != HTTPStatus.BAD_REQUEST:
                raise
            body = await self._get(_EXCHANGE_INFO)
        try:
            info = _decode_exchange_info(body)
        except UNREADABLE as error:
            raise self._unreadable(_EXCHANGE_INFO, error) from error
        for rate_limit in info.rate_limits:
            if rate_limit.is_weight_per_minute:
                self.budget.allowed = rate_limit.limit
        return {symbol.symbol: symbol.status for symbol in info.symbols}

    async def time_us(self) -> int:
        """Return the exchange's time, in microseconds since the epoch."""
        body = await self._get(_TIME)
        try:
            return microseconds(_decode_time(body).server_time)
        except UNREADABLE as error:
            raise self._unreadable(_TIME, error) from error

    async def check_history(self, symbol: str) -> None:
        """Find out whether this host has trades of any age, and log it if it has not. `symbol` is
        any listed symbol.
        """
        try:
            await self._page("trade", symbol, _TRADES, limit=1)
        except FeedRefused as error:
            self._note_missing_history(error)

    async def fetch(
        self, message_type: str, symbol: str, from_id: int, newest_id: int | None = None
    ) -> list[Event]:
        """Return at most a thousand trades or agg_trades from an id on, in rising order.

        `newest_id` is the newest id of the stream, if known. The latest thousand trades come from
        the exchange's memory and are complete. Older trades come from its database, which is
        behind, and which some hosts do not have.
        """
        if message_type == "agg_trade":
            return await self._page(message_type, symbol, _AGG_TRADES, fromId=from_id)
        is_recent = newest_id is not None and newest_id - from_id < _PAGE_ROWS
        if self._has_history and not is_recent:
            try:
                return await self._page(message_type, symbol, _TRADES, fromId=from_id)
            except FeedRefused as error:
                self._note_missing_history(error)
        latest = await self._page(message_type, symbol, _LATEST_TRADES)
        found = [trade for trade in latest if trade.trade_id >= from_id]  # type: ignore[attr-defined]
        if self._has_history and found and found[0].trade_id > from_id:  # type: ignore[attr-defined]
            return await self.fetch(message_type, symbol, from_id)
        return found

    def _note_missing_history(self, error: FeedRefused) -> None:
        """Note that this host has no history. Raises the error if it says something else."""
        if error.status not in _NO_HISTORY:
            raise error
        self._has_history = False
        log.warning(
            "trade_history_missing",
            host=self._url,
            status=error.status,
            consequence="of each symbol only the latest 1,000 trades can be fetched",
            remedy="set binance.rest_url: https://api.binance.com, where it serves your region",
        )

    async def _page(
        self, message_type: str, symbol: str, path: str, **parameters: int
    ) -> list[Event]:
        asked = {"limit": _PAGE_ROWS, **parameters}
        body = await self._get(path, symbol=symbol, **{n: str(v) for n, v in asked.items()})
        try:
            page = read_rows(message_type, body, SPOT, symbol, time.time_ns() // 1000)
        except UNREADABLE as error:
            raise self._unreadable(path, error) from error
        if page.unreadable:
            self.unreadable_rows += len(page.unreadable)
            log.warning(
                "rest_rows_unreadable",
                path=path,
                symbol=symbol,
                rows=len(page.unreadable),
                error=page.unreadable[0],
            )
        return page.events

    async def _get(self, path: str, **parameters: str) -> bytes:
        await self._turn(_WEIGHTS[path])
        try:
            async with self._session.get(self._url + path, params=parameters) as response:
                self.budget.report(_used_weight(response.headers), time.time())
                if response.status != HTTPStatus.OK:
                    retry_after = response.headers.get("Retry-After")
                    raise from_status(response.status, retry_after, self._url)
                self._refusals = 0
                return await response.read()
        except (aiohttp.ClientError, OSError) as error:
            raise from_exception(error, self._url) from error
        except FeedUnavailable as error:
            self._keep_quiet(error)
            raise

    def _keep_quiet(self, error: FeedUnavailable) -> None:
        """Let no request be sent for a while if the exchange has refused this one.

        Requests that were under way when a refusal came are not counted as further refusals.
        """
        left_s, quiet_s = self._quiet.left_s(), 0.0
        if error.cause == "rate_limited":
            quiet_s = error.retry_after_s or 0.0
        elif error.cause == "refused" and not left_s:
            self._refusals += 1
            quiet_s = refused_wait_s(self._refusals)
        self._quiet.extend(quiet_s)
        if quiet_s > left_s:
            log.warning("rest_refused", error=str(error), quiet_s=round(quiet_s, 1))

    async def _turn(self, weight: int) -> None:
        """Wait until a request is allowed and its weight fits. Another task may take the weight
        first.
        """
        await self._quiet.over()
        while (delay_s := self.budget.reserve(weight, time.time())) > 0:
            await asyncio.sleep(delay_s)
            await self._quiet.over()

    def _unreadable(self, path: str, error: Exception) -> FeedUnavailable:
        return FeedUnavailable(f"{self._url}{path} sent an answer that cannot be read: {error}")


def _used_weight(headers: Mapping[str, str]) -> int:
    """Return the used weight that an answer reports; 0 if it reports none that makes sense."""
    used = headers.get(_USED_WEIGHT, "")
    return int(used) if used.isdecimal() and len(used) <= _MAX_DIGITS else 0
