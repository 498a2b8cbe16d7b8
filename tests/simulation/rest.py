"""The exchange's REST interface in memory, in place of aiohttp's client session."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from random import Random
from typing import Any, NamedTuple

import aiohttp

from tests.simulation import process
from tests.simulation.loop import now_us
from tests.simulation.market import (
    CONTIGUOUS,
    FIRST_ID,
    OLD_FIRST_ID,
    Market,
    Tick,
    candle_row,
    row,
)

PAGE_ROWS = 1000


class Answer(NamedTuple):
    """The part of aiohttp's answer that the bridge reads."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def content(self) -> "Answer":
        return self

    async def iter_any(self) -> AsyncIterator[bytes]:
        yield self.body


class Rest:
    """The REST interface, with its faults.

    `fails` is the probability that a request fails. `ids_behind` is the number of newest ids
    that REST does not have yet, `lacks` the share of ids that it never has. Without `has_history`,
    only the latest trades are available. `statuses` are those of symbols that do not trade.
    """

    def __init__(self, random: Random, market: Market, symbols: list[str]) -> None:
        self.fails = 0.0
        self.ids_behind = 0
        self.lacks = 0.0
        self.has_history = True
        self.statuses: dict[str, str] = {}
        self.random = random
        self._market = market
        self._symbols = symbols

    def session(self, **_: Any) -> "Session":
        """Replace `aiohttp.ClientSession`."""
        return Session(self)

    def answer(self, path: str, params: Mapping[str, str]) -> Answer:
        """Answer a request. Raises aiohttp.ClientError or TimeoutError if there is no answer."""
        symbol = params.get("symbol", "")
        from_id = int(params["fromId"]) if "fromId" in params else None
        if self.random.random() < self.fails:
            return self._failure()
        match path.rpartition("/")[2]:
            case "exchangeInfo":
                rows = map(self._listed, self._symbols)
                return _good(f'{{"symbols":[{",".join(rows)}]}}')
            case "24hr":
                return _good(f"[{','.join(map(self._day, self._symbols))}]")
            case "aggTrades":
                found = self._page("agg_trade", symbol, from_id)
            case "klines":
                return _good(f"[{','.join(self._klines(symbol, params))}]")
            case "historicalBlockTrades":
                found = self._page("block_trade", symbol, from_id)
            case "historicalTrades" if not self.has_history:
                return Answer(HTTPStatus.NOT_FOUND, {})
            case _:
                found = self._page("trade", symbol, from_id)
        return _good(f"[{','.join(map(row, found))}]")

    def _listed(self, symbol: str) -> str:
        return f'{{"symbol":"{symbol}","status":"{self.statuses.get(symbol, "TRADING")}"}}'

    def _day(self, symbol: str) -> str:
        """Return the statistics of a symbol, as old as REST is behind."""
        history = self._market.present("trade", symbol)
        count = self._known(history)
        last_id = history[count - 1].identity if count else -1
        closed_ms = now_us() // 1000 if count == len(history) else history[count].time_ms - 1
        return f'{{"symbol":"{symbol}","lastId":{last_id},"closeTime":{closed_ms}}}'

    def _known(self, history: list[Tick]) -> int:
        """Return how many ticks REST has; it always has the one that was there before the start."""
        is_old = bool(history) and history[0].identity == OLD_FIRST_ID
        return max(int(is_old), len(history) - self.ids_behind)

    def is_lacking(self, tick: Tick) -> bool:
        """Return whether REST never has this id; the result does not change between calls."""
        is_first = tick.identity in {FIRST_ID, OLD_FIRST_ID}  # where a history begins
        return (
            tick.kind in CONTIGUOUS
            and not is_first
            and (tick.identity * 2654435761 % 1000) < self.lacks * 1000
        )

    def _klines(self, symbol: str, params: Mapping[str, str]) -> list[str]:
        begin_s, end_s = -(-int(params["startTime"]) // 1000), int(params["endTime"]) // 1000
        found = self._market.candles(symbol, begin_s, now_us() // 1_000_000)
        known = found[: len(found) - self.ids_behind]
        return [candle_row(second) for second in known if second <= end_s][:PAGE_ROWS]

    def _page(self, kind: str, symbol: str, from_id: int | None) -> list[Tick]:
        history = self._market.present(kind, symbol)
        known = history[: self._known(history)]
        there = [tick for tick in known if not self.is_lacking(tick)]
        if from_id is None:
            return there[-PAGE_ROWS:]
        return [tick for tick in there if tick.identity >= from_id][:PAGE_ROWS]

    def _failure(self) -> Answer:
        match self.random.randrange(4):
            case 0:
                raise aiohttp.ClientConnectionError("reset")
            case 1:
                raise TimeoutError
            case 2:
                return Answer(HTTPStatus.TOO_MANY_REQUESTS, {"Retry-After": "2"})
        return Answer(HTTPStatus.BAD_GATEWAY, {})


class Session:
    def __init__(self, rest: Rest) -> None:
        self._rest = rest
        self._process = process.current.get()

    @asynccontextmanager
    async def get(self, url: str, params: Mapping[str, str]) -> AsyncIterator[Answer]:
        await process.pause(self._process, self._rest.random.uniform(0.02, 0.2))
        yield self._rest.answer(url, params)

    async def close(self) -> None:
        pass


def _good(body: str) -> Answer:
    return Answer(HTTPStatus.OK, {"X-MBX-USED-WEIGHT-1M": "1"}, body.encode())
