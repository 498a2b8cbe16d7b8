"""The exchange's REST interface: which symbols it lists, events that a stream has missed, and the
last id of each stream.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Self, TypeVar

import msgspec
import structlog

from bridge import settings
from bridge.binance.rest_client import RestClient
from bridge.core.binance.normalize import microseconds
from bridge.core.binance.rest_rows import candle_reader, id_of, row_reader
from bridge.core.binance.subscription import LISTED_MAX
from bridge.core.binance.weight_budget import WeightBudget
from bridge.core.binance.wire import Natural
from bridge.core.model.events import AggTrade, Candle, Event
from bridge.core.model.stream import SPOT, is_symbol
from bridge.core.sequencing.rules import Head
from bridge.errors import FeedRefused, FeedUnavailable
from bridge.telemetry import now_us

# The paths and the request weights are from the exchange's documents.
_EXCHANGE_INFO, _EXCHANGE_INFO_WEIGHT = "/api/v3/exchangeInfo", 20
_TIME, _TIME_WEIGHT = "/api/v3/time", 1
_LATEST_TRADES, _OLDER_TRADES, _TRADES_WEIGHT = "/api/v3/trades", "/api/v3/historicalTrades", 25
_AGG_TRADES, _AGG_TRADES_WEIGHT = "/api/v3/aggTrades", 4
_BLOCK_TRADES = "/api/v3/historicalBlockTrades"
_KLINES, _KLINES_WEIGHT = "/api/v3/klines", 2
_DAYS = "/api/v3/ticker/24hr"
# The number of symbols that a request may name, and its weight; of all symbols: _ALL_DAYS_WEIGHT.
_DAYS_WEIGHTS = ((20, 2), (100, 40))
_ALL_DAYS_WEIGHT = 80
_PAGE_ROWS = 1000
# All symbols take 3 ms. The events of the streams must not wait that long.
_SLICE_ROWS = 500
# Without this parameter `exchangeInfo` hides the symbols that have none of the first three. Source:
# "Account and Symbol Permissions" in the exchange's documents.
_PERMISSIONS = ["SPOT", "MARGIN", "LEVERAGED", *(f"TRD_GRP_{n:03}" for n in range(2, 26))]
_INFO_PARAMETERS = {
    "permissions": msgspec.json.encode(_PERMISSIONS).decode(),
    "showPermissionSets": "false",
}
# The answers of hosts without `historicalTrades` or `historicalBlockTrades`: the one for market
# data only has no such paths, Binance.US wants a key.
_NO_HISTORY = (HTTPStatus.NOT_FOUND, HTTPStatus.UNAUTHORIZED)

T = TypeVar("T")

log = structlog.get_logger(__name__)


class _Symbol(msgspec.Struct):
    symbol: str
    status: Annotated[str, msgspec.Meta(max_length=32)]

    def __post_init__(self) -> None:
        if not is_symbol(self.symbol):
            raise ValueError(f"{self.symbol!r:.200} is not a symbol")


class _Time(msgspec.Struct, rename="camel"):
    server_time: int


class _Day(msgspec.Struct, rename="camel"):
    """The last day of a symbol; `last_id` is -1 if it has not traded."""

    symbol: str
    last_id: int
    close_time: Natural | None = None

    def head(self, received: int) -> Head:
        """Return the head of the symbol's trades; `received` is in microseconds."""
        closed = None if self.close_time is None else microseconds(self.close_time)
        return Head(SPOT, self.symbol, closed, received, self.last_id, last_trade_id=self.last_id)


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
    symbols: list[msgspec.Raw]
    rate_limits: list[_RateLimit] = []


_decode_exchange_info = msgspec.json.Decoder(_ExchangeInfo).decode
_decode_symbol = msgspec.json.Decoder(_Symbol).decode
_decode_time = msgspec.json.Decoder(_Time).decode
_decode_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_day = msgspec.json.Decoder(_Day).decode


class Rest:
    """The endpoints that the bridge uses, as an async context manager.

    Methods raise FeedRefused or FeedUnavailable.
    """

    def __init__(self, options: settings.Binance, weight_share: float = 1.0) -> None:
        self._client = RestClient(options, weight_share)
        self._has_history = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._client.close()

    @property
    def budget(self) -> WeightBudget:
        """Return the request weight that may be used."""
        return self._client.budget

    @property
    def unreadable_rows(self) -> int:
        """Return the number of rows that were left out of answers."""
        return self._client.unreadable_rows

    async def symbols(self) -> dict[str, str]:
        """Return each symbol that the exchange lists, and its status (TRADING, HALT, BREAK, ...).

        The whole list is requested: in a shorter list one unknown name is an error for all. The
        same answer has the request weight that a minute allows.
        """
        try:
            info = await self._exchange_info(_INFO_PARAMETERS)
        except FeedRefused as error:
            # Exchanges with the same protocol may not know these parameters.
            if error.status != HTTPStatus.BAD_REQUEST:
                raise
            info = await self._exchange_info({})
        for rate_limit in info.rate_limits:
            if rate_limit.is_weight_per_minute:
                self.budget.allowed = rate_limit.limit
        if not 0 < len(info.symbols) <= LISTED_MAX:
            raise FeedUnavailable(
                f"{self._client.url}{_EXCHANGE_INFO} lists {len(info.symbols)} symbols, and not "
                f"between 1 and {LISTED_MAX}"
            )
        listed = self._in_slices(_EXCHANGE_INFO, info.symbols, _decode_symbol)
        return {symbol.symbol: symbol.status async for symbol in listed}

    async def time_us(self) -> int:
        """Return the exchange's time, in microseconds since the epoch."""
        answer = await self._client.get(_TIME, _TIME_WEIGHT, _decode_time)
        return microseconds(answer.server_time)

    async def check_history(self, message_type: str, symbol: str) -> None:
        """Find out whether this host has trades or block_trades of any age, and log it if it has
        not. `symbol` is any listed symbol.
        """
        try:
            if message_type == "trade":
                await self._page(message_type, symbol, _OLDER_TRADES, limit="1")
            else:
                await self._page(message_type, symbol, _BLOCK_TRADES, fromId="0", limit="1")
        except FeedRefused as error:
            self._note_missing_history(error, message_type)

    async def fetch(
        self, message_type: str, symbol: str, from_id: int, newest_id: int | None = None
    ) -> list[Event]:
        """Return at most a thousand trades or agg_trades from an id on, in rising order.

        `newest_id` is the newest id of the stream, if known. The latest thousand trades come from
        the exchange's memory and are complete. Older trades come from its database, which is
        behind, and which some hosts do not have.
        """
        if message_type == "agg_trade":
            return await self._page(message_type, symbol, _AGG_TRADES, fromId=str(from_id))
        is_recent = newest_id is not None and newest_id - from_id < _PAGE_ROWS
        if self._has_history and not is_recent:
            try:
                return await self._page(message_type, symbol, _OLDER_TRADES, fromId=str(from_id))
            except FeedRefused as error:
                self._note_missing_history(error, message_type)
        latest = await self._page(message_type, symbol, _LATEST_TRADES)
        found = [trade for trade in latest if id_of(trade) >= from_id]
        if self._has_history and found and id_of(found[0]) > from_id:
            return await self.fetch(message_type, symbol, from_id)
        return found

    async def fetch_after(self, place: int, until: Event) -> list[Event]:
        """Return at most a thousand candles or block trades after a place (`Backfilled`) in the
        stream of `until`, in rising order. The last one may be at the place of `until`.
        """
        before = self.unreadable_rows
        if isinstance(until, Candle):
            found = await self._candles(place, until)
        else:
            first_id = str(place + 1)
            found = await self._page("block_trade", until.symbol, _BLOCK_TRADES, fromId=first_id)
        if self.unreadable_rows != before:
            # No id would show that a row is missing.
            raise FeedUnavailable(f"an answer about {until.symbol} has rows that cannot be read")
        return found

    async def last_trades(self, symbols: Sequence[str]) -> dict[str, Head]:
        """Return the head of the trades of each of these symbols that the exchange lists. The last
        id is -1 if a symbol has not traded for a day.
        """
        weight = next((weight for most, weight in _DAYS_WEIGHTS if len(symbols) <= most), None)
        if weight is not None:
            try:
                named = msgspec.json.encode(symbols).decode()
                return await self._days(symbols, weight, {"symbols": named})
            except FeedRefused as error:
                # One name that the exchange does not list is an error for all.
                if error.status != HTTPStatus.BAD_REQUEST:
                    raise
        return await self._days(symbols, _ALL_DAYS_WEIGHT, {})

    async def last_of(self, message_type: str, symbol: str) -> Head:
        """Return the head of the trades or agg_trades of a symbol."""
        path = _AGG_TRADES if message_type == "agg_trade" else _LATEST_TRADES
        found = await self._page(message_type, symbol, path, limit="1")
        if not found:
            return Head(SPOT, symbol, None, now_us(), -1, -1)
        last = found[-1]
        last_trade_id = last.last_trade_id if isinstance(last, AggTrade) else id_of(last)
        return Head(SPOT, symbol, last.timestamp, now_us(), id_of(last), last_trade_id)

    def _note_missing_history(self, error: FeedRefused, message_type: str) -> None:
        """Note that this host has no history. Raises the error if it says something else."""
        if error.status not in _NO_HISTORY:
            raise error
        consequence = "no missed block trades can be fetched"
        if message_type == "trade":
            self._has_history = False
            consequence = "of each symbol only the latest 1,000 trades can be fetched"
        log.warning(
            "history_missing",
            message_type=message_type,
            host=self._client.url,
            status=error.status,
            consequence=consequence,
            remedy="set binance.rest_url: https://api.binance.com, where it serves your region",
        )

    async def _exchange_info(self, parameters: Mapping[str, str]) -> _ExchangeInfo:
        return await self._client.get(
            _EXCHANGE_INFO, _EXCHANGE_INFO_WEIGHT, _decode_exchange_info, parameters
        )

    async def _page(
        self, message_type: str, symbol: str, path: str, **parameters: str
    ) -> list[Event]:
        rows = await self._rows(
            path,
            _AGG_TRADES_WEIGHT if path == _AGG_TRADES else _TRADES_WEIGHT,
            {"symbol": symbol, "limit": str(_PAGE_ROWS), **parameters},
        )
        read = row_reader(message_type, SPOT, symbol, now_us())
        return self._client.readable(path, rows, read)

    async def _rows(
        self, path: str, weight: int, parameters: Mapping[str, str], most: int = _PAGE_ROWS
    ) -> list[msgspec.Raw]:
        rows = await self._client.get(path, weight, _decode_rows, parameters)
        if len(rows) > most:
            raise FeedUnavailable(
                f"{self._client.url}{path} sends {len(rows)} rows, and at most {most} were expected"
            )
        return rows

    async def _candles(self, place: int, until: Candle) -> list[Event]:
        interval, _, zone = until.interval.partition("@")
        parameters = {
            "symbol": until.symbol,
            "interval": interval,
            "startTime": str(place // 1000 + 1),
            "endTime": str(until.open_time // 1000),
            "limit": str(_PAGE_ROWS),
        }
        if zone:
            parameters["timeZone"] = zone.lstrip("+")
        rows = await self._rows(_KLINES, _KLINES_WEIGHT, parameters)
        read = candle_reader(SPOT, until.symbol, until.interval, now_us())
        return self._client.readable(_KLINES, rows, read)

    async def _days(
        self, symbols: Collection[str], weight: int, parameters: Mapping[str, str]
    ) -> dict[str, Head]:
        rows = await self._rows(_DAYS, weight, {"type": "MINI", **parameters}, LISTED_MAX)
        received, wanted = now_us(), set(symbols)
        days = self._in_slices(_DAYS, rows, _decode_day)
        return {day.symbol: day.head(received) async for day in days if day.symbol in wanted}

    async def _in_slices(
        self, path: str, rows: Sequence[msgspec.Raw], read: Callable[[msgspec.Raw], T]
    ) -> AsyncIterator[T]:
        """Yield what is read of each readable row. Others get a turn between two slices."""
        for begin in range(0, len(rows), _SLICE_ROWS):
            for row in self._client.readable(path, rows[begin : begin + _SLICE_ROWS], read):
                yield row
            await asyncio.sleep(0)
