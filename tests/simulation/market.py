"""The trades and quotes that really happened, against which all results are checked."""

from collections import defaultdict
from random import Random
from typing import NamedTuple

from tests.simulation.loop import now_us

FIRST_ID = 0
RARE_SHARE = 0.02
WRONG_BY_MS = (-3_600_000, -2_000, -100, 100, 2_000, 10_000, 3_600_000)
CONTIGUOUS = {"trade": "trade_id", "agg_trade": "agg_trade_id"}


class Tick(NamedTuple):
    """One event: its stream's name, kind, symbol, id, time in milliseconds, and the frame."""

    stream: str
    kind: str
    symbol: str
    identity: int
    time_ms: int
    frame: bytes


class Market:
    """All ticks so far, in order, by kind and symbol.

    `misdates` is the share of ticks whose time is wrong, by seconds or by an hour.
    """

    def __init__(self, random: Random, symbols: list[str], payloads: list[str]) -> None:
        self.history: defaultdict[tuple[str, str], list[Tick]] = defaultdict(list)
        self.misdates = 0.0
        self._random = random
        self._symbols = symbols
        *self._busy, self.rare = symbols
        self._makers = [(payload, _MAKERS[payload]) for payload in payloads]

    def happen(self) -> list[Tick]:
        """Return the ticks of a moment: trades with their aggregate trades, or quotes.

        The rare symbol hardly ever trades.
        """
        ticks: list[Tick] = []
        for _ in range(self._random.randint(1, 4)):
            is_rare = self._random.random() < RARE_SHARE
            symbol = self.rare if is_rare else self._random.choice(self._busy)
            is_quote = self._random.random() < 0.4
            for payload, (kind, make) in self._makers:
                if is_quote == (kind == "quote"):
                    ticks.append(self._tick(payload, kind, symbol, make))
        return ticks

    def quote_everywhere(self) -> list[Tick]:
        """Return one quote of every symbol."""
        return [
            self._tick(payload, kind, symbol, make)
            for symbol in self._symbols
            for payload, (kind, make) in self._makers
            if kind == "quote"
        ]

    def last_id(self, kind: str, symbol: str) -> int:
        history = self.history[kind, symbol]
        return history[-1].identity if history else FIRST_ID - 1

    def _tick(self, payload: str, kind: str, symbol: str, make: str) -> Tick:
        step = self._random.randint(1, 5) if kind == "quote" else 1
        identity = self.last_id(kind, symbol) + step
        time_ms = now_us() // 1000
        if self._random.random() < self.misdates:
            time_ms += self._random.choice(WRONG_BY_MS)
        stream = f"{symbol.lower()}@{payload}"
        frame = make % {"n": stream, "s": symbol, "i": identity, "t": time_ms}
        tick = Tick(stream, kind, symbol, identity, time_ms, frame.encode())
        self.history[kind, symbol].append(tick)
        return tick


def row(tick: Tick) -> str:
    """Return a tick as a row of REST."""
    return _ROWS[tick.kind] % {"i": tick.identity, "t": tick.time_ms}


_TRADE = (
    '{"stream":"%(n)s","data":{"e":"trade","E":%(t)d,"s":"%(s)s","t":%(i)d,"p":"%(i)d.5","q":"1",'
    '"T":%(t)d,"m":true,"M":true}}'
)
_AGG_TRADE = (
    '{"stream":"%(n)s","data":{"e":"aggTrade","E":%(t)d,"s":"%(s)s","a":%(i)d,"p":"%(i)d.5",'
    '"q":"1","f":%(i)d,"l":%(i)d,"T":%(t)d,"m":true,"M":true}}'
)
_QUOTE = (
    '{"stream":"%(n)s","data":{"u":%(i)d,"s":"%(s)s","b":"%(i)d","B":"1","a":"%(i)d.5","A":"1"}}'
)
_MAKERS = {
    "trade": ("trade", _TRADE),
    "aggTrade": ("agg_trade", _AGG_TRADE),
    "bookTicker": ("quote", _QUOTE),
}
_ROWS = {
    "trade": '{"id":%(i)d,"price":"%(i)d.5","qty":"1","time":%(t)d,"isBuyerMaker":true}',
    "agg_trade": '{"a":%(i)d,"p":"%(i)d.5","q":"1","f":%(i)d,"l":%(i)d,"T":%(t)d,"m":true}',
}
