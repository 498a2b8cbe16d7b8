"""A market that remembers its quotes. The exchange remembers the trades."""

import re
from array import array
from collections.abc import Sequence

from bridge.tools.simulator import Market, Message
from bridge.tools.simulator.candles import Bar

_SUFFIX = "@bookTicker"
_TIME = re.compile(rb'"T":(\d+)')


class Observer:
    """A `Source`: the market, with the ids of all quotes of some symbols in `quotes`.

    Those quotes are always played, subscribed or not, as the real exchange does. The market is
    unchanged except for the times that `misdate` makes wrong.
    """

    played_once = False

    def __init__(self, market: Market, quoted: Sequence[str]) -> None:
        self.symbols: Sequence[str] = market.symbols
        self.quotes = {symbol: array("q") for symbol in quoted}
        self.begin_ms = market.now_ms
        self._market = market
        self._quoted = {symbol.lower() + _SUFFIX: ids for symbol, ids in self.quotes.items()}
        self._wrong_by_ms: dict[str, int] = {}
        self.want(frozenset())

    @property
    def now_ms(self) -> int:
        return self._market.now_ms

    def begin(self) -> None:
        self._market.begin()

    def due_us(self) -> int | None:
        return self._market.due_us()

    def take(self, until_us: int | None, limit: int) -> Sequence[Message]:
        messages = self._market.take(until_us, limit)
        if self._wrong_by_ms:
            messages = [(stream, self._dated(stream, payload)) for stream, payload in messages]
        quoted = self._quoted
        for stream, payload in messages:
            if stream in quoted:
                # {"u":12345,"s":...
                quoted[stream].append(int(payload[5 : payload.index(b",")]))
        return messages

    def misdate(self, stream: str, by_ms: int) -> None:
        """Give the next trade of a stream such as `btcusdt@trade` a wrong time."""
        self._wrong_by_ms[stream] = by_ms

    def restart_ids(self, symbol: str) -> None:
        """Let the ids of a symbol start again at 1."""
        self._market.restart_ids(symbol)

    def want(self, streams: frozenset[str]) -> None:
        self._market.want(streams | self._quoted.keys())

    def candles(self, symbol: str, spans: Sequence[tuple[int, int]]) -> Sequence[Bar]:
        return self._market.candles(symbol, spans)

    def depth(self, symbol: str, limit: int) -> bytes:
        return self._market.depth(symbol, limit)

    def _dated(self, stream: str, payload: bytes) -> bytes:
        by_ms = self._wrong_by_ms.pop(stream, 0)
        return _TIME.sub(lambda time: b'"T":%d' % (int(time[1]) + by_ms), payload)
