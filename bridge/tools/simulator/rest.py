"""The REST half of the exchange, without HTTP: a path and a query in, an answer out."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from bridge.tools.simulator.candles import INTERVALS, Bar, spans
from bridge.tools.simulator.fields import MICROSECONDS_FROM
from bridge.tools.simulator.history import Row
from bridge.tools.simulator.listing import assets_of, decimal
from bridge.tools.simulator.query import (
    Query,
    Refusal,
    integer,
    parse_query,
    positive,
    symbol_list,
    zone_ms,
)
from bridge.tools.simulator.source import Source

WEIGHT_PER_MINUTE = 6_000  # binance.md, section 6

_MINUTE_S = 60
_TIMES = frozenset({"time", "T", "serverTime", "closeTime"})
_KLINE_TIMES = (0, 6)
_DEFAULT_LIMIT = 500
_MOST_TRADES = 1_000
_DEPTH_DEFAULT_LIMIT = 100
_MOST_LEVELS = 5_000
# The weight of a request for tickers by its number of symbols; of all symbols: _ALL_DAYS_WEIGHT.
_DAYS_WEIGHTS = ((20, 2), (100, 40))
_ALL_DAYS_WEIGHT = 80
_DEPTH_WEIGHTS = ((100, 5), (500, 25), (1_000, 50), (_MOST_LEVELS, 250))


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; the body is JSON."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class WeightBudget:
    """The weight used in the running minute of the clock; one budget, as for one IP address.

    `clock` returns seconds since the epoch.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.time) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._minute = -1
        self.used = 0

    def spend(self, weight: int) -> bool:
        """Count a request; return False if the minute's budget is used up."""
        minute = int(self._clock()) // _MINUTE_S
        if minute != self._minute:
            self._minute = minute
            self.used = 0
        self.used += weight
        return self.used <= self.per_minute

    @property
    def refusal(self) -> str:
        return (
            f"Too much request weight used; current limit is {self.per_minute} request weight "
            "per 1 MINUTE. Please use WebSocket Streams for live updates to avoid polling the API."
        )

    def retry_after_s(self) -> int:
        """Return the whole seconds until the next minute."""
        return _MINUTE_S - int(self._clock()) % _MINUTE_S


class Trades(Protocol):
    """The trades that REST knows: the history, or the part that a fault plan leaves."""

    def trades(self, symbol: str, from_id: int | None, limit: int) -> list[Row]: ...

    def aggregate_trades(
        self, symbol: str, from_id: int | None, times_ms: tuple[int | None, int | None], limit: int
    ) -> list[Row]: ...

    def block_trades(self, symbol: str, from_id: int, limit: int) -> list[Row]: ...

    def price(self, symbol: str) -> str | None: ...


class Rest:
    """Answers `/api/v3/...` from the market and its history.

    `statuses` is what `exchangeInfo` says of symbols whose status is not TRADING.
    """

    def __init__(self, source: Source, history: Trades, budget: WeightBudget) -> None:
        self._source = source
        self._history = history
        self._budget = budget
        self._symbols = frozenset(source.symbols)
        self.statuses: dict[str, str] = {}
        self._endpoints: dict[str, tuple[Callable[[Query], int], Callable[[Query], Any]]] = {
            "/api/v3/ping": (_weighs(1), lambda _: {}),
            "/api/v3/time": (_weighs(1), lambda _: {"serverTime": source.now_ms}),
            "/api/v3/exchangeInfo": (_weighs(20), self._exchange_info),
            "/api/v3/trades": (_weighs(25), self._latest_trades),
            "/api/v3/historicalTrades": (_weighs(25), self._historical_trades),
            "/api/v3/aggTrades": (_weighs(4), self._aggregate_trades),
            "/api/v3/historicalBlockTrades": (_weighs(25), self._block_trades),
            "/api/v3/klines": (_weighs(2), self._klines),
            "/api/v3/depth": (_depth_weight, self._depth),
            "/api/v3/ticker/price": (_price_weight, self._price),
            "/api/v3/ticker/24hr": (self._day_weight, self._day),
        }

    def answer(self, path: str, query: str, *, microseconds: bool = False) -> Answer:
        """Answer one GET; `query` is the raw text after the question mark.

        `microseconds` says in which unit the header X-MBX-TIME-UNIT wants the times.
        """
        if path not in self._endpoints:
            return Answer(404, msgspec.json.encode({"code": -1000, "msg": f"No such path: {path}"}))
        weight_of, endpoint = self._endpoints[path]
        headers: dict[str, str] = {}
        try:
            parameters = parse_query(query)
            self._spend(weight_of(parameters), headers)
            body = endpoint(parameters)
            if microseconds and not isinstance(body, bytes):
                _convert_to_microseconds(body if isinstance(body, list) else [body])
        except Refusal as refusal:
            return Answer(refusal.status, refusal.body, headers)
        return Answer(200, body if isinstance(body, bytes) else msgspec.json.encode(body), headers)

    def _spend(self, weight: int, headers: dict[str, str]) -> None:
        granted = self._budget.spend(weight)
        headers["X-MBX-USED-WEIGHT"] = headers["X-MBX-USED-WEIGHT-1M"] = str(self._budget.used)
        if not granted:
            headers["Retry-After"] = str(self._budget.retry_after_s())
            raise Refusal(429, -1003, self._budget.refusal)

    def _exchange_info(self, query: Query) -> Any:
        return {
            "timezone": "UTC",
            "serverTime": self._source.now_ms,
            "rateLimits": [
                {
                    "rateLimitType": "REQUEST_WEIGHT",
                    "interval": "MINUTE",
                    "intervalNum": 1,
                    "limit": self._budget.per_minute,
                }
            ],
            "exchangeFilters": [],
            "symbols": [
                _listed(symbol, self.statuses.get(symbol, "TRADING"))
                for symbol in self._asked_symbols(query)
            ],
        }

    def _latest_trades(self, query: Query) -> Any:
        return self._history.trades(self._symbol(query), None, _trades_limit(query))

    def _historical_trades(self, query: Query) -> Any:
        symbol, from_id = self._symbol(query), integer(query, "fromId")
        return self._history.trades(symbol, from_id, _trades_limit(query))

    def _aggregate_trades(self, query: Query) -> Any:
        symbol, from_id = self._symbol(query), integer(query, "fromId")
        times_ms = (integer(query, "startTime"), integer(query, "endTime"))
        if from_id is not None and times_ms != (None, None):
            raise Refusal(400, -1128, "Combination of optional parameters invalid.")
        return self._history.aggregate_trades(symbol, from_id, times_ms, _trades_limit(query))

    def _block_trades(self, query: Query) -> Any:
        symbol, from_id = self._symbol(query), integer(query, "fromId")
        if from_id is None:
            raise _missing("fromId")
        return self._history.block_trades(symbol, from_id, _trades_limit(query))

    def _klines(self, query: Query) -> Any:
        symbol, interval = self._symbol(query), query.get("interval", "")
        if interval not in INTERVALS:
            raise Refusal(400, -1120, "Invalid interval.")
        now_ms, end_ms = self._source.now_ms, integer(query, "endTime")
        times_ms = (integer(query, "startTime"), min(now_ms, now_ms if end_ms is None else end_ms))
        found = spans(interval, times_ms, _trades_limit(query), zone_ms(query))
        bars = self._source.candles(symbol, found)
        return [_kline(bar, close_ms) for bar, (_, close_ms) in zip(bars, found, strict=False)]

    def _depth(self, query: Query) -> Any:
        return self._source.depth(self._symbol(query), min(_depth_limit(query), _MOST_LEVELS))

    def _price(self, query: Query) -> Any:
        rows = [
            {"symbol": symbol, "price": self._history.price(symbol) or "0.00000000"}
            for symbol in self._asked_symbols(query)
        ]
        return rows[0] if "symbol" in query else rows

    def _day_weight(self, query: Query) -> int:
        if "symbol" not in query and "symbols" not in query:
            return _ALL_DAYS_WEIGHT
        count = len(self._asked_symbols(query))
        return next((weight for most, weight in _DAYS_WEIGHTS if count <= most), _ALL_DAYS_WEIGHT)

    def _day(self, query: Query) -> Any:
        """Return the last ids of the day, as far as the history goes back, and no statistics."""
        if query.get("type") != "MINI":
            raise Refusal(400, -1130, "Only type=MINI is simulated.")
        rows = [self._day_of(symbol) for symbol in self._asked_symbols(query)]
        return rows[0] if "symbol" in query else rows

    def _day_of(self, symbol: str) -> Mapping[str, Any]:
        last = self._history.trades(symbol, None, 1)
        last_id = last[-1]["id"] if last else -1
        return {"symbol": symbol, "closeTime": self._source.now_ms, "lastId": last_id}

    def _symbol(self, query: Query) -> str:
        symbol = query.get("symbol", "")
        if not symbol:
            raise _missing("symbol")
        return self._known(symbol)

    def _asked_symbols(self, query: Query) -> list[str]:
        if "symbol" in query and "symbols" in query:
            raise Refusal(400, -1128, "Combination of optional parameters invalid.")
        if "symbols" in query:
            return [self._known(symbol) for symbol in symbol_list(query["symbols"])]
        return [self._symbol(query)] if "symbol" in query else list(self._source.symbols)

    def _known(self, symbol: str) -> str:
        if symbol not in self._symbols:
            raise Refusal(400, -1121, "Invalid symbol.")
        return symbol


def _missing(name: str) -> Refusal:
    message = f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
    return Refusal(400, -1102, message)


def _kline(bar: Bar, close_ms: int) -> list[Any]:
    prices = map(decimal, (bar.open, bar.high, bar.low, bar.close, bar.volume))
    takers = map(decimal, (bar.taker_volume, bar.taker_quote_volume))
    return [bar.open_ms, *prices, close_ms, decimal(bar.quote_volume), bar.trades, *takers, "0"]


def _convert_to_microseconds(rows: list[Any]) -> None:
    """Convert the times of the rows of an answer in place."""
    for row in rows:
        if isinstance(row, list):
            for place in _KLINE_TIMES:
                row[place] *= 1000
            continue
        for name in _TIMES & row.keys():
            if row[name] < MICROSECONDS_FROM:
                row[name] *= 1000


def _weighs(weight: int) -> Callable[[Query], int]:
    return lambda _: weight


def _depth_weight(query: Query) -> int:
    limit = _depth_limit(query)
    return next((weight for most, weight in _DEPTH_WEIGHTS if limit <= most), 250)


def _price_weight(query: Query) -> int:
    return 2 if "symbol" in query else 4


def _depth_limit(query: Query) -> int:
    return positive(query, "limit", _DEPTH_DEFAULT_LIMIT)


def _trades_limit(query: Query) -> int:
    limit = positive(query, "limit", _DEFAULT_LIMIT)
    if limit > _MOST_TRADES:
        raise Refusal(400, -1130, "Data sent for parameter 'limit' is not valid.")
    return limit


def _listed(symbol: str, status: str) -> Mapping[str, Any]:
    base, quote = assets_of(symbol)
    return {
        "symbol": symbol,
        "status": status,
        "baseAsset": base,
        "baseAssetPrecision": 8,
        "quoteAsset": quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "isSpotTradingAllowed": True,
        "filters": [],
        "permissions": ["SPOT"],
    }
