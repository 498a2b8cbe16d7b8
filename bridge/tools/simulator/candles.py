"""Bars of trades. Every candle and every window is the sum of minute bars of the last day."""

import time
from calendar import timegm
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import takewhile

from bridge.tools.simulator.listing import UNIT

SECOND_MS = 1_000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
_WEEK_MS = 7 * DAY_MS
_FIRST_MONDAY_MS = 4 * DAY_MS  # the epoch was a Thursday

_INTERVALS_MS = {
    "1s": SECOND_MS, "1m": MINUTE_MS, "3m": 3 * MINUTE_MS, "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS, "30m": 30 * MINUTE_MS, "1h": HOUR_MS, "2h": 2 * HOUR_MS,
    "4h": 4 * HOUR_MS, "6h": 6 * HOUR_MS, "8h": 8 * HOUR_MS, "12h": 12 * HOUR_MS,
    "1d": DAY_MS, "3d": 3 * DAY_MS,
}  # fmt: skip
INTERVALS = frozenset(_INTERVALS_MS) | {"1w", "1M"}
# Candles of one second are kept for an hour, all others for a day.
SECONDS_KEPT = 3_600


@dataclass(slots=True)
class Bar:
    """The trades of a span that starts at `open_ms`; without a trade, its opening price.

    Amounts are in units of 1e-8. Ids are -1 if there was no trade.
    """

    open_ms: int
    open: int
    high: int
    low: int
    close: int
    volume: int = 0
    quote_volume: int = 0
    taker_volume: int = 0
    taker_quote_volume: int = 0
    trades: int = 0
    first_id: int = -1
    last_id: int = -1

    @classmethod
    def at(cls, open_ms: int, price: int) -> "Bar":
        return cls(open_ms, price, price, price, price)

    def trade(self, trade_id: int, price: int, quantity: int, *, buy: bool) -> None:
        """Count one trade; `buy` if the taker bought."""
        quote = price * quantity // UNIT
        if not self.trades:
            self.first_id = trade_id
            self.open = self.high = self.low = price
        self.last_id = trade_id
        self.trades += 1
        self.high = max(self.high, price)
        self.low = min(self.low, price)
        self.close = price
        self.volume += quantity
        self.quote_volume += quote
        if buy:
            self.taker_volume += quantity
            self.taker_quote_volume += quote

    @property
    def weighted_average(self) -> int:
        return self.quote_volume * UNIT // self.volume if self.volume else self.close


def combined(bars: Iterable[Bar], open_ms: int, price: int) -> Bar:
    """Return the sum of bars that are given in order; `price` is used if no bar has a trade."""
    traded = [bar for bar in bars if bar.trades]
    if not traded:
        return Bar.at(open_ms, price)
    return Bar(
        open_ms,
        open=traded[0].open,
        high=max(bar.high for bar in traded),
        low=min(bar.low for bar in traded),
        close=traded[-1].close,
        volume=sum(bar.volume for bar in traded),
        quote_volume=sum(bar.quote_volume for bar in traded),
        taker_volume=sum(bar.taker_volume for bar in traded),
        taker_quote_volume=sum(bar.taker_quote_volume for bar in traded),
        trades=sum(bar.trades for bar in traded),
        first_id=traded[0].first_id,
        last_id=traded[-1].last_id,
    )


class Tape:
    """One day of minute bars and one hour of second bars, oldest first; the last ones are running.

    `minutes` starts with an invented day, so that windows are full from the start.
    """

    def __init__(self, minutes: Iterable[Bar]) -> None:
        self.minutes = deque(minutes, maxlen=DAY_MS // MINUTE_MS + 1)
        last = self.minutes[-1]
        self.seconds = deque([Bar.at(last.open_ms, last.close)], maxlen=SECONDS_KEPT)
        self.last_trade_ms = last.open_ms
        self.last_quantity = 0
        self._closed: dict[int, Bar] = {}

    @property
    def price(self) -> int:
        return self.minutes[-1].close

    def trade(self, at_ms: int, trade_id: int, price: int, quantity: int, *, buy: bool) -> None:
        self.roll(at_ms)
        self.last_trade_ms = at_ms
        self.last_quantity = quantity
        self.minutes[-1].trade(trade_id, price, quantity, buy=buy)
        self.seconds[-1].trade(trade_id, price, quantity, buy=buy)

    def roll(self, at_ms: int) -> None:
        """Start the minute and the second that contain `at_ms`, and all in between."""
        for bars, length_ms in ((self.minutes, MINUTE_MS), (self.seconds, SECOND_MS)):
            while at_ms >= bars[-1].open_ms + length_ms:
                bars.append(Bar.at(bars[-1].open_ms + length_ms, bars[-1].close))

    def candles(self, spans: Iterable[tuple[int, int]]) -> Iterator[Bar]:
        """Yield the trades between the first and last millisecond of each span, of whole seconds
        or minutes.
        """
        minutes, seconds = list(self.minutes), list(self.seconds)
        for open_ms, close_ms in spans:
            is_second = close_ms - open_ms < SECOND_MS
            bars, length_ms = (seconds, SECOND_MS) if is_second else (minutes, MINUTE_MS)
            first = (open_ms - bars[0].open_ms) // length_ms
            after = (close_ms - bars[0].open_ms) // length_ms + 1
            inside = bars[max(0, first) : max(0, after)]
            yield combined(inside, open_ms, inside[-1].close if inside else self.price)

    def since(self, open_ms: int) -> Bar:
        """Return all trades since `open_ms` in whole minutes, as far back as the tape reaches."""
        if open_ms % MINUTE_MS:  # only one-second candles start within a minute
            same = self.seconds[-1].open_ms == open_ms
            return replace(self.seconds[-1]) if same else Bar.at(open_ms, self.price)
        bars = list(takewhile(lambda bar: bar.open_ms >= open_ms, reversed(self.minutes)))
        return combined(reversed(bars), open_ms, self.price)

    def window(self, length_ms: int) -> Bar:
        """Return the trades of the last `length_ms` in whole minutes, with the running minute."""
        running = self.minutes[-1]
        closed = self._closed.get(length_ms)
        if closed is None or closed.open_ms != running.open_ms - length_ms + MINUTE_MS:
            open_ms = running.open_ms - length_ms + MINUTE_MS
            bars = [bar for bar in self.minutes if open_ms <= bar.open_ms < running.open_ms]
            closed = self._closed[length_ms] = combined(bars, open_ms, self.price)
        return combined((closed, running), closed.open_ms, self.price)


def spans(
    interval: str, times_ms: tuple[int | None, int], limit: int, offset_ms: int = 0
) -> list[tuple[int, int]]:
    """Return the bounds of at most `limit` candles, oldest first: those that begin between two
    times, both included, or the latest up to the second time.
    """
    begin_ms, end_ms = times_ms
    found: list[tuple[int, int]] = []
    if begin_ms is None:
        at_ms = end_ms
        while len(found) < limit:
            found.insert(0, bounds(interval, at_ms, offset_ms))
            at_ms = found[0][0] - 1
        return found
    at_ms = begin_ms
    while len(found) < limit and at_ms <= end_ms:
        open_ms, close_ms = bounds(interval, at_ms, offset_ms)
        if begin_ms <= open_ms <= end_ms:
            found.append((open_ms, close_ms))
        at_ms = close_ms + 1
    return found


def bounds(interval: str, at_ms: int, offset_ms: int = 0) -> tuple[int, int]:
    """Return the first and last millisecond of the candle that contains `at_ms`.

    `offset_ms` is the offset of the time zone, positive to the east.
    """
    local_ms = at_ms + offset_ms
    if interval == "1M":
        begin_ms, end_ms = _month(local_ms)
    elif interval == "1w":
        begin_ms = local_ms - (local_ms - _FIRST_MONDAY_MS) % _WEEK_MS
        end_ms = begin_ms + _WEEK_MS
    else:
        begin_ms = local_ms - local_ms % _INTERVALS_MS[interval]
        end_ms = begin_ms + _INTERVALS_MS[interval]
    return begin_ms - offset_ms, end_ms - offset_ms - 1


def _month(at_ms: int) -> tuple[int, int]:
    year, month = time.gmtime(at_ms // 1000)[:2]
    following = (year + month // 12, month % 12 + 1)
    return _first_of(year, month), _first_of(*following)


def _first_of(year: int, month: int) -> int:
    return timegm((year, month, 1, 0, 0, 0)) * 1000
