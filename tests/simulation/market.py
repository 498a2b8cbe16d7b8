"""The trades, quotes and candles that really happened, against which all results are checked."""

from collections import defaultdict
from random import Random
from typing import NamedTuple

from tests.simulation.loop import now_us

FIRST_ID = 0
RARE_SHARE = 0.02
BLOCK_SHARE = 0.3
# The ids of a symbol before they start again at FIRST_ID. So each id belongs to one life of ids.
OLD_FIRST_ID = 5_000_000
# An event of a candle that has not closed; the history has closed ones only.
RUNNING = -1
WRONG_BY_MS = (-3_600_000, -2_000, -100, 100, 2_000, 10_000, 3_600_000)
CONTIGUOUS = {"trade": "trade_id", "agg_trade": "agg_trade_id"}


class Tick(NamedTuple):
    """One event: its stream's name, kind, symbol, id, time in milliseconds, and the frame. The id
    of a candle is its first second.
    """

    stream: str
    kind: str
    symbol: str
    identity: int
    time_ms: int
    frame: bytes


class Market:
    """All ticks so far, in order, by kind and symbol.

    `misdates` is the share of ticks whose time is wrong, by seconds or by an hour. `restarts` is a
    symbol whose ids may start again once, or None.
    """

    def __init__(self, random: Random, symbols: list[str], payloads: list[str]) -> None:
        self.history: defaultdict[tuple[str, str], list[Tick]] = defaultdict(list)
        self.misdates = 0.0
        self._random = random
        self._symbols = symbols
        *self._busy, self.rare = symbols
        self._makers = [(payload, _MAKERS[payload]) for payload in payloads if payload in _MAKERS]
        self._has_candles = CANDLES in payloads
        # The candle of each symbol that has not closed.
        self._running: dict[str, int] = {}
        self.restarts: str | None = None
        self.has_restarted = False
        # The number of ticks before the restart, by kind.
        self._before: dict[str, int] = {}

    def let_restart(self, symbol: str) -> None:
        """Let the ids of a symbol start again some time; it has traded before."""
        self.restarts = symbol
        for payload, (kind, make) in self._makers:
            self._tick(payload, kind, symbol, make)

    def restart_ids(self) -> None:
        """Let the ids start again, once."""
        if self.restarts and not self.has_restarted:
            self.has_restarted = True
            self._before = {
                kind: len(self.history[kind, self.restarts]) for _, (kind, _) in self._makers
            }

    def present(self, kind: str, symbol: str) -> list[Tick]:
        """Return the history since the restart of the ids."""
        before = self._before.get(kind, 0) if symbol == self.restarts else 0
        return self.history[kind, symbol][before:]

    def number(self, kind: str, symbol: str, identity: int) -> int:
        """Return an id as a number that rises over a restart, and by 1 if the ids do."""
        if symbol != self.restarts or kind == "candle":
            return identity
        if identity >= OLD_FIRST_ID or not self.has_restarted:
            return identity - OLD_FIRST_ID
        before = self.history[kind, symbol][self._before[kind] - 1].identity - OLD_FIRST_ID
        return before + 1 + identity - FIRST_ID

    def is_same_life(self, symbol: str, one: int, other: int) -> bool:
        """Return whether two ids are both from before a restart of the ids, or both from after."""
        return symbol != self.restarts or (one < OLD_FIRST_ID) == (other < OLD_FIRST_ID)

    def happen(self) -> list[Tick]:
        """Return the ticks of a moment: trades with their aggregate trades, or quotes. Candles come
        with the trades.

        The rare symbol hardly ever trades.
        """
        ticks: list[Tick] = []
        for _ in range(self._random.randint(1, 4)):
            is_rare = self._random.random() < RARE_SHARE
            symbol = self.rare if is_rare else self._random.choice(self._busy)
            is_quote = self._random.random() < 0.4
            for payload, (kind, make) in self._makers:
                is_rarer = kind == "block_trade" and self._random.random() > BLOCK_SHARE
                if is_quote == (kind == "quote") and not is_rarer:
                    ticks.append(self._tick(payload, kind, symbol, make))
            if self._has_candles and not is_quote:
                ticks += self._candles(symbol)
        return ticks

    def show_everywhere(self) -> list[Tick]:
        """Return an event of each stream whose ids do not show what is missing before, and of each
        one whose ids have started again.
        """
        ticks: list[Tick] = []
        for symbol in self._symbols:
            has_restarted = self.has_restarted and symbol == self.restarts
            for payload, (kind, make) in self._makers:
                if kind not in CONTIGUOUS or has_restarted:
                    ticks.append(self._tick(payload, kind, symbol, make))
            if self._has_candles:
                ticks += self._candles(symbol)
        return ticks

    def last_id(self, kind: str, symbol: str) -> int:
        history = self.present(kind, symbol)
        if history:
            return history[-1].identity
        is_old = symbol == self.restarts and not self.has_restarted
        return (OLD_FIRST_ID if is_old else FIRST_ID) - 1

    def candles(self, symbol: str, begin_s: int, end_s: int) -> list[int]:
        """Return the first second of each candle between two times, the running one included."""
        closed = [tick.identity for tick in self.history["candle", symbol]]
        running = [self._running[symbol]] if symbol in self._running else []
        return [second for second in (*closed, *running) if begin_s <= second <= end_s]

    def _candles(self, symbol: str) -> list[Tick]:
        """Return the events of the candles of a symbol: the last one may have closed."""
        now_ms = now_us() // 1000
        second, before = now_ms // 1000, self._running.get(symbol)
        self._running[symbol] = second
        ticks: list[Tick] = []
        if before is not None and before < second:
            ticks.append(_candle(symbol, before, now_ms, closed=True))
            self.history["candle", symbol] += ticks
        return [*ticks, _candle(symbol, second, now_ms, closed=False)]

    def _tick(self, payload: str, kind: str, symbol: str, make: str) -> Tick:
        step = 1 if kind in CONTIGUOUS else self._random.randint(1, 5)
        identity = self.last_id(kind, symbol) + step
        time_ms = now_us() // 1000
        # A restart of the ids is recognised by the times.
        if self._random.random() < self.misdates and symbol != self.restarts:
            time_ms += self._random.choice(WRONG_BY_MS)
        stream = f"{symbol.lower()}@{payload}"
        frame = make % {"n": stream, "s": symbol, "i": identity, "t": time_ms}
        tick = Tick(stream, kind, symbol, identity, time_ms, frame.encode())
        self.history[kind, symbol].append(tick)
        return tick


def row(tick: Tick) -> str:
    """Return a tick as a row of REST."""
    return _ROWS[tick.kind] % {"i": tick.identity, "t": tick.time_ms}


def candle_row(second: int) -> str:
    """Return a candle as a row of REST."""
    begin_ms = second * 1000
    return f'[{begin_ms},"1","2","1","{second}","1",{begin_ms + 999},"1",1,"1","1","0"]'


def _candle(symbol: str, second: int, now_ms: int, *, closed: bool) -> Tick:
    name, begin_ms = f"{symbol.lower()}@{CANDLES}", second * 1000
    figures = f'"o":"1","c":"{second}","h":"2","l":"1","v":"1","n":1,"q":"1","V":"1","Q":"1"'
    frame = (
        f'{{"stream":"{name}","data":{{"e":"kline","E":{now_ms},"s":"{symbol}","k":{{'
        f'"t":{begin_ms},"T":{begin_ms + 999},"s":"{symbol}","i":"1s",{figures},'
        f'"x":{str(closed).lower()}}}}}}}'
    )
    return Tick(name, "candle", symbol, second if closed else RUNNING, now_ms, frame.encode())


CANDLES = "kline_1s"
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
    "blockTrade": ("block_trade", _TRADE.replace('"e":"trade"', '"e":"blockTrade"')),
}
_ROWS = {
    "trade": '{"id":%(i)d,"price":"%(i)d.5","qty":"1","time":%(t)d,"isBuyerMaker":true}',
    "block_trade": '{"id":%(i)d,"price":"%(i)d.5","qty":"1","time":%(t)d,"isBuyerMaker":true}',
    "agg_trade": '{"a":%(i)d,"p":"%(i)d.5","q":"1","f":%(i)d,"l":%(i)d,"T":%(t)d,"m":true}',
}
