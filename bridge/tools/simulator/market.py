"""An invented market. It depends on its seed only, not on subscribers or on how it is stepped.

Everything that happens is an entry of one heap, with its time. `step` lets it happen up to a
moment, and returns the messages that Binance would have sent.
"""

import math
import time
from collections.abc import Iterable, Sequence
from enum import IntEnum
from heapq import heapify, heapreplace

from bridge.tools.simulator import messages
from bridge.tools.simulator.candles import Bar
from bridge.tools.simulator.errors import SimulatorError
from bridge.tools.simulator.feeds import TENTH_MS, Feed, by_stream_name, feed_of
from bridge.tools.simulator.fields import ascii_lower
from bridge.tools.simulator.instrument import Fill, Instrument
from bridge.tools.simulator.listing import listing_of
from bridge.tools.simulator.source import Message

_BLOCK_SIZE = 500.0  # in usual trades


class _Happening(IntEnum):
    """Events of one moment, in order: fixed-rate messages are sent before anything changes."""

    TICK = 0
    MAKER = 1
    ORDER = 2
    BLOCK = 3


class Market:
    """A `Source` without an end.

    `symbols` have Binance's spelling. `begin_ms` is the start in milliseconds since the epoch; by
    default it is the moment when play begins. Each symbol has `trades_per_second` trades on
    average. Raises SimulatorError if `symbols` is empty or the rate is not positive.
    """

    played_once = False
    _now_ms: float

    def __init__(
        self,
        symbols: Iterable[str],
        *,
        seed: int = 0,
        begin_ms: int | None = None,
        trades_per_second: float = 5.0,
    ) -> None:
        self.symbols: Sequence[str] = tuple(dict.fromkeys(symbols))
        if not self.symbols:
            raise SimulatorError("no symbol to simulate; name at least one, such as BTCUSDT")
        if trades_per_second <= 0:
            raise SimulatorError(
                f"{trades_per_second:g} trades per second is not possible; give one above 0"
            )
        self._has_begun = begin_ms is not None
        self._now_ms = 0.0
        now_ms = present_ms() if begin_ms is None else begin_ms
        self._instruments = [
            Instrument(listing_of(symbol), seed, now_ms, trades_per_second)
            for symbol in self.symbols
        ]
        self._by_name = by_stream_name(self._instruments)
        self._names = [ascii_lower(symbol) for symbol in self.symbols]
        self._wanted: frozenset[str] = frozenset()
        self._feeds: dict[str, Feed] = {}
        self._begin_at(now_ms)

    @property
    def now_ms(self) -> int:
        return int(self._now_ms) if self._has_begun else present_ms()

    @property
    def next_ms(self) -> float:
        """Return the time of the next entry of the heap."""
        return self._heap[0][0]

    def begin(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._begin_at(present_ms())

    def due_us(self) -> int | None:
        return math.ceil((self.next_ms - self._begin_ms) * 1000)

    def want(self, streams: frozenset[str]) -> None:
        self._wanted = streams
        for stream in [stream for stream in self._feeds if stream not in streams]:
            self._feeds.pop(stream).close()
        for stream in sorted(streams - self._feeds.keys()):
            feed = feed_of(stream, self._by_name)
            if feed is not None:
                self._feeds[stream] = feed

    def take(self, until_us: int | None, limit: int) -> Sequence[Message]:
        until_ms = math.inf if until_us is None else self._begin_ms + until_us / 1000
        taken: list[Message] = []
        while len(taken) < limit and self.next_ms <= until_ms:
            taken += self._happen()
        return taken

    def step(self, now_ms: float) -> list[Message]:
        """Return all messages up to `now_ms`, in order, as (stream, payload)."""
        taken: list[Message] = []
        while self.next_ms <= now_ms:
            taken += self._happen()
        self._now_ms = max(self._now_ms, now_ms)
        return taken

    def restart_ids(self, symbol: str) -> None:
        """Let the ids of a symbol's trades and aggregate trades start again at 1."""
        instrument = self._by_name[ascii_lower(symbol)]
        instrument.trade_id = instrument.aggregate_id = 0

    def candles(self, symbol: str, spans: Sequence[tuple[int, int]]) -> Sequence[Bar]:
        tape = self._by_name[ascii_lower(symbol)].tape
        tape.roll(self.now_ms)
        return list(tape.candles(spans))

    def depth(self, symbol: str, limit: int) -> bytes:
        book = self._by_name[ascii_lower(symbol)].book
        return messages.book(book.update_id, book.best_bids(limit), book.best_asks(limit))

    def _begin_at(self, now_ms: int) -> None:
        self._begin_ms, self._now_ms = now_ms, float(now_ms)
        for instrument in self._instruments:
            instrument.skip_to(now_ms)
        self._heap = list(self._beginnings(now_ms))
        heapify(self._heap)

    def _beginnings(self, begin_ms: int) -> Iterable[tuple[float, _Happening, int]]:
        yield float(begin_ms - begin_ms % -TENTH_MS), _Happening.TICK, 0
        for index, instrument in enumerate(self._instruments):
            yield instrument.next_maker_ms(begin_ms), _Happening.MAKER, index
            yield instrument.next_order_ms(begin_ms), _Happening.ORDER, index
            yield instrument.next_block_ms(begin_ms), _Happening.BLOCK, index

    def _happen(self) -> list[Message]:
        at_ms, happening, index = self._heap[0]
        self._now_ms = at_ms
        instrument = self._instruments[index]
        match happening:
            case _Happening.TICK:
                sent, next_ms = self._tick(int(at_ms)), at_ms + TENTH_MS
            case _Happening.MAKER:
                sent, next_ms = self._make(index, at_ms), instrument.next_maker_ms(at_ms)
            case _Happening.ORDER:
                sent, next_ms = self._order(index, int(at_ms)), instrument.next_order_ms(at_ms)
            case _Happening.BLOCK:
                sent, next_ms = self._block(index, int(at_ms)), instrument.next_block_ms(at_ms)
        heapreplace(self._heap, (next_ms, happening, index))
        return sent

    def _tick(self, at_ms: int) -> list[Message]:
        return [
            (stream, payload)
            for stream, feed in self._feeds.items()
            if at_ms % feed.interval_ms == 0
            for payload in feed.payloads(at_ms)
        ]

    def _make(self, index: int, at_ms: float) -> list[Message]:
        instrument = self._instruments[index]
        before = instrument.book.top()
        instrument.make(at_ms)
        return self._quote(index) if instrument.book.top() != before else []

    def _order(self, index: int, at_ms: int) -> list[Message]:
        """Return the trades of an order, their aggregate trade and the quote after them."""
        instrument, name, symbol = self._instruments[index], self._names[index], self.symbols[index]
        fills = instrument.order(at_ms)
        instrument.aggregate_id += 1
        sent = [(f"{name}@trade", messages.trade(symbol, at_ms, fill)) for fill in fills]
        aggregate = messages.aggregate_trade(symbol, at_ms, instrument.aggregate_id, fills)
        sent.append((f"{name}@aggTrade", aggregate))
        return sent + self._quote(index)

    def _quote(self, index: int) -> list[Message]:
        stream = f"{self._names[index]}@bookTicker"
        if stream not in self._wanted:
            return []
        book = self._instruments[index].book
        return [(stream, messages.quote(self.symbols[index], book.update_id, book.top()))]

    def _block(self, index: int, at_ms: int) -> list[Message]:
        instrument = self._instruments[index]
        instrument.block_id += 1
        quantity = instrument.quantity(_BLOCK_SIZE)
        fill = Fill(instrument.block_id, instrument.tape.price, quantity, buy=bool(quantity % 2))
        stream = f"{self._names[index]}@blockTrade"
        return [(stream, messages.block_trade(self.symbols[index], at_ms, fill))]


def present_ms() -> int:
    """Return the time of this machine in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
