"""The exchange's REST interface in memory, in the place of aiohttp's client session."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from random import Random
from typing import Any, NamedTuple

import aiohttp

from tests.simulation import process
from tests.simulation.market import Market, Tick, row

PAGE_ROWS = 1000


class Answer(NamedTuple):
    """As far as the bridge looks into aiohttp's."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    async def read(self) -> bytes:
        return self.body


class Rest:
    """`fails` is how often a request fails, `behind` how many of the newest ids are not there yet,
    `lacks` which ids never are; without `has_history` only the latest trades can be had.
    """

    def __init__(self, random: Random, market: Market, symbols: list[str]) -> None:
        self.fails = 0.0
        self.awaiting_write = 0
        self.lacks = 0.0
        self.has_history = True
        self.random = random
        self._market = market
        self._symbols = symbols

    def session(self, **_: Any) -> "Session":
        """In the place of `aiohttp.ClientSession`."""
        return Session(self)

    def answer(self, path: str, symbol: str, from_id: int | None) -> Answer:
        """Raises aiohttp.ClientError or TimeoutError where nothing comes back."""
        if self.random.random() < self.fails:
            return self._failure()
        match path.rpartition("/")[2]:
            case "exchangeInfo":
                rows = [f'{{"symbol":"{name}","status":"TRADING"}}' for name in self._symbols]
                return _good(f'{{"symbols":[{",".join(rows)}]}}')
            case "aggTrades":
                found = self._page("agg_trade", symbol, from_id)
            case "historicalTrades" if not self.has_history:
                return Answer(HTTPStatus.NOT_FOUND, {})
            case _:
                found = self._page("trade", symbol, from_id)
        return _good(f"[{','.join(map(row, found))}]")

    def is_lacking(self, tick: Tick) -> bool:
        """The same answer each time it is asked for."""
        return (tick.identity * 2654435761 % 1000) < self.lacks * 1000

    def _page(self, kind: str, symbol: str, from_id: int | None) -> list[Tick]:
        history = self._market.history[kind, symbol]
        known = history[: len(history) - self.awaiting_write]
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
        from_id = params.get("fromId")
        yield self._rest.answer(
            url, params.get("symbol", ""), None if from_id is None else int(from_id)
        )

    async def close(self) -> None:
        pass


def _good(body: str) -> Answer:
    return Answer(HTTPStatus.OK, {"X-MBX-USED-WEIGHT-1M": "1"}, body.encode())
