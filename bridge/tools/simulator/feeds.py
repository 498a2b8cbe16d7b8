"""The fixed-rate streams of an invented market: one feed for each wanted stream."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence

from bridge.tools.simulator import messages
from bridge.tools.simulator.book import Book
from bridge.tools.simulator.candles import DAY_MS, HOUR_MS, INTERVALS, MINUTE_MS, bounds
from bridge.tools.simulator.fields import ascii_lower
from bridge.tools.simulator.instrument import Instrument

TENTH_MS = 100
SECOND_MS = 1_000
_AVERAGE_MS = 5 * MINUTE_MS

_WINDOWS_MS = {"1h": HOUR_MS, "4h": 4 * HOUR_MS, "1d": DAY_MS}
_PARTIAL = re.compile(r"depth(5|10|20)")
_CANDLE = re.compile(r"kline_(\w+?)(@\+08:00)?")
_ARRAY = re.compile(r"!(miniTicker|ticker_(?:1h|4h|1d))@arr")
_EAST_MS = 8 * HOUR_MS


class Feed(ABC):
    """One stream. `payloads` is called at every multiple of `interval_ms`."""

    interval_ms: int = SECOND_MS

    @abstractmethod
    def payloads(self, at_ms: int) -> Iterable[bytes]: ...

    def close(self) -> None:  # noqa: B027 (most have nothing to let go of)
        """Release what the feed holds: the stream is not wanted any more."""


class _Of(Feed):
    """A feed of one symbol."""

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument
        self._symbol = instrument.listing.symbol


class _DayTicker(_Of):
    def payloads(self, at_ms: int) -> Iterable[bytes]:
        tape, book = self._instrument.tape, self._instrument.book
        yield messages.day_ticker(self._symbol, at_ms, tape.window(DAY_MS), tape, book.top())


class _WindowTicker(_Of):
    def __init__(self, instrument: Instrument, window: str) -> None:
        super().__init__(instrument)
        self._window = window

    def payloads(self, at_ms: int) -> Iterable[bytes]:
        bar = self._instrument.tape.window(_WINDOWS_MS[self._window])
        yield messages.window_ticker(self._symbol, at_ms, self._window, bar)


class _MiniTicker(_Of):
    def payloads(self, at_ms: int) -> Iterable[bytes]:
        yield messages.mini_ticker(self._symbol, at_ms, self._instrument.tape.window(DAY_MS))


class _AveragePrice(_Of):
    def payloads(self, at_ms: int) -> Iterable[bytes]:
        tape = self._instrument.tape
        average = tape.window(_AVERAGE_MS).weighted_average
        yield messages.average_price(self._symbol, at_ms, average, tape.last_trade_ms)


class _ReferencePrice(_Of):
    def payloads(self, at_ms: int) -> Iterable[bytes]:
        bid, _, ask, _ = self._instrument.book.top()
        yield messages.reference_price(self._symbol, at_ms, (bid + ask) // 2)


class _Candle(_Of):
    """Sends the running candle every second, and its final values when it closes."""

    def __init__(self, instrument: Instrument, interval: str, offset_ms: int) -> None:
        super().__init__(instrument)
        self._interval = interval
        self._offset_ms = offset_ms

    def payloads(self, at_ms: int) -> Iterable[bytes]:
        open_ms, close_ms = bounds(self._interval, at_ms - 1, self._offset_ms)
        bar = self._instrument.tape.since(open_ms)
        yield messages.candle(
            self._symbol, at_ms, self._interval, close_ms, bar, closed=close_ms < at_ms
        )


class _Depth(_Of):
    def __init__(self, instrument: Instrument, interval_ms: int) -> None:
        super().__init__(instrument)
        self.interval_ms = interval_ms
        self._book: Book = instrument.book
        self._recorder = self._book.recorder()

    def payloads(self, at_ms: int) -> Iterable[bytes]:
        if self._recorder.last_update_id == self._book.update_id:
            return
        first_id, bids, asks = self._recorder.flush(self._book)
        last_id = self._book.update_id
        yield messages.depth_update(self._symbol, at_ms, first_id, last_id, bids, asks)

    def close(self) -> None:
        self._book.forget(self._recorder)


class _PartialDepth(_Of):
    def __init__(self, instrument: Instrument, levels: int, interval_ms: int) -> None:
        super().__init__(instrument)
        self.interval_ms = interval_ms
        self._levels = levels

    def payloads(self, at_ms: int) -> Iterable[bytes]:  # noqa: ARG002 (it carries no time)
        book, levels = self._instrument.book, self._levels
        yield messages.book(book.update_id, book.best_bids(levels), book.best_asks(levels))


class _Array(Feed):
    """One array of all symbols that have traded since the last one."""

    def __init__(self, instruments: Sequence[Instrument], kind: str) -> None:
        self._feeds = [(one, _feed(one, kind)) for one in instruments]
        self._sent: dict[str, int] = {}

    def payloads(self, at_ms: int) -> Iterable[bytes]:
        rows: list[bytes] = []
        for instrument, feed in self._feeds:
            symbol, trade_id = instrument.listing.symbol, instrument.trade_id
            if feed is not None and self._sent.get(symbol) != trade_id:
                self._sent[symbol] = trade_id
                rows += feed.payloads(at_ms)
        if rows:
            yield b"[" + b",".join(rows) + b"]"


def feed_of(stream: str, instruments: Mapping[str, Instrument]) -> Feed | None:
    """Return the feed of a stream by its full name; None if it is unknown or has no fixed rate.

    The keys of `instruments` are symbols in lower case, as in stream names.
    """
    if array := _ARRAY.fullmatch(stream):
        return _Array(list(instruments.values()), array[1])
    name, _, kind = stream.partition("@")
    instrument = instruments.get(name)
    return _feed(instrument, kind) if instrument is not None else None


_SIMPLE: Mapping[str, type[_Of]] = {
    "ticker": _DayTicker,
    "miniTicker": _MiniTicker,
    "avgPrice": _AveragePrice,
    "referencePrice": _ReferencePrice,
}


def _feed(instrument: Instrument, kind: str) -> Feed | None:
    if kind in _SIMPLE:
        return _SIMPLE[kind](instrument)
    window = kind.removeprefix("ticker_")
    if window != kind and window in _WINDOWS_MS:
        return _WindowTicker(instrument, window)
    if (candle := _CANDLE.fullmatch(kind)) and candle[1] in INTERVALS:
        return _Candle(instrument, candle[1], _EAST_MS if candle[2] else 0)
    return _depth_feed(instrument, kind)


def _depth_feed(instrument: Instrument, kind: str) -> Feed | None:
    base, _, rate = kind.partition("@")
    if rate not in ("", "100ms", "1000ms"):
        return None
    interval_ms = TENTH_MS if rate == "100ms" else SECOND_MS
    if base == "depth":
        return _Depth(instrument, interval_ms)
    if partial := _PARTIAL.fullmatch(base):
        return _PartialDepth(instrument, int(partial[1]), interval_ms)
    return None


def by_stream_name(instruments: Iterable[Instrument]) -> dict[str, Instrument]:
    return {ascii_lower(one.listing.symbol): one for one in instruments}
