"""Convert wire structs to events: one small function per payload, listed in PAYLOADS.

Binance's times are milliseconds, or microseconds with `timeUnit=MICROSECOND`. The times of an event
are always microseconds. `m` means "the buyer is the maker", so the taker sold. Events are built
with positional arguments, which cost half as much as keywords.
"""

import re
from collections.abc import Callable
from itertools import chain
from typing import Any

from bridge.core.binance import wire
from bridge.core.model import events
from bridge.core.model.events import Event, Side, Source
from bridge.core.model.stream import Stream
from bridge.errors import InvalidFrame

Numbers = Callable[[str], re.Match[str] | None]

# 10^14 ms is the year 5138, and 10^14 us is 1973: no time of this century is ambiguous.
_FIRST_MICROSECOND_TIME = 10**14
# Numbers with a space after each. Possessive quantifiers: the pattern never backtracks.
_UNSIGNED = re.compile(r"(?:[0-9]++(?:\.[0-9]++)? )*+").fullmatch
_SIGNED = re.compile(r"(?:-?[0-9]++(?:\.[0-9]++)? )*+").fullmatch
# The usual form of two numbers (trades) and of four (quotes): these patterns cost a third of the
# general ones. They match when the form is wrong, so that a valid text creates no match object,
# which saves a seventh of the rest.
_NUMBER = r"[0-9]++\.[0-9]++"
_are_not_two = re.compile(rf"(?!{' '.join([_NUMBER] * 2)}\Z)").match
_are_not_four = re.compile(rf"(?!{' '.join([_NUMBER] * 4)}\Z)").match
LIVE: Source = "websocket"


def microseconds(time: int) -> int:
    """Convert a time of the exchange, in milliseconds or microseconds, to microseconds."""
    return time if time >= _FIRST_MICROSECOND_TIME else time * 1000


def check_numbers(*values: str, numbers: Numbers = _UNSIGNED) -> None:
    """Raise InvalidFrame unless each value is a plain decimal number.

    All values are checked at once, because a book has hundreds. Counting the spaces detects a value
    that contains a space itself.
    """
    text = " ".join((*values, ""))
    if not numbers(text) or text.count(" ") != len(values):
        raise InvalidFrame("not_a_number", repr(values)[:200])


def _side(data: wire.Trade | wire.AggTrade | wire.BlockTrade) -> Side:
    return "sell" if data.m else "buy"


def _trade(data: wire.Trade, stream: Stream, received: int) -> Event:
    price, volume, time = data.p, data.q, data.T
    if _are_not_two(f"{price} {volume}"):
        check_numbers(price, volume)
    return events.Trade(
        stream.venue,
        data.s,
        time if time >= _FIRST_MICROSECOND_TIME else time * 1000,
        received,
        LIVE,
        data.t,
        price,
        volume,
        "sell" if data.m else "buy",
    )


def _agg_trade(data: wire.AggTrade, stream: Stream, received: int) -> Event:
    if _are_not_two(f"{data.p} {data.q}"):
        check_numbers(data.p, data.q)
    head = (stream.venue, data.s, microseconds(data.T), received, LIVE)
    return events.AggTrade(*head, data.a, data.f, data.l, data.p, data.q, _side(data))


def _quote(data: wire.BookTicker, stream: Stream, received: int) -> Event:
    bid, bid_volume, ask, ask_volume = data.b, data.B, data.a, data.A
    if _are_not_four(f"{bid} {bid_volume} {ask} {ask_volume}"):
        check_numbers(bid, bid_volume, ask, ask_volume)
    return events.Quote(
        stream.venue, data.s, None, received, LIVE, data.u, bid, bid_volume, ask, ask_volume
    )


def _ticker(data: wire.Ticker, stream: Stream, received: int) -> Event:
    check_numbers(data.b, data.B, data.a, data.A)
    return events.Ticker(
        **_window_fields(data, stream, received),
        window="24h",
        bid_price=data.b,
        bid_volume=data.B,
        ask_price=data.a,
        ask_volume=data.A,
    )


def _window_ticker(data: wire.WindowTicker, stream: Stream, received: int) -> Event:
    window: Any = stream.detail  # the grammar of stream names allows only the known windows
    return events.WindowTicker(**_window_fields(data, stream, received), window=window)


def _window_fields(data: wire.WindowTicker, stream: Stream, received: int) -> dict[str, Any]:
    check_numbers(data.c, data.v, data.o, data.h, data.l, data.q, data.w)
    check_numbers(data.p, data.P, numbers=_SIGNED)
    return {
        "venue": stream.venue,
        "symbol": data.s,
        "timestamp": microseconds(data.E),
        "received": received,
        "source": LIVE,
        "price": data.c,
        "volume": data.v,
        "open": data.o,
        "high": data.h,
        "low": data.l,
        "quote_volume": data.q,
        "change": data.p,
        "change_percent": data.P,
        "weighted_average_price": data.w,
        "trade_count": data.n,
        "open_time": microseconds(data.O),
        "close_time": microseconds(data.C),
    }


def _mini_ticker(data: wire.MiniTicker, stream: Stream, received: int) -> Event:
    check_numbers(data.c, data.o, data.h, data.l, data.v, data.q)
    head = (stream.venue, data.s, microseconds(data.E), received, LIVE)
    return events.MiniTicker(*head, data.c, data.o, data.h, data.l, data.v, data.q)


def _candle(data: wire.Kline, stream: Stream, received: int) -> Event:
    k = data.k
    check_numbers(k.o, k.h, k.l, k.c, k.v, k.q, k.V, k.Q)
    return events.Candle(
        venue=stream.venue,
        symbol=data.s,
        timestamp=microseconds(data.E),
        received=received,
        source=LIVE,
        interval=stream.detail,
        open_time=microseconds(k.t),
        close_time=microseconds(k.T),
        open=k.o,
        high=k.h,
        low=k.l,
        close=k.c,
        volume=k.v,
        quote_volume=k.q,
        trade_count=k.n,
        taker_buy_volume=k.V,
        taker_buy_quote_volume=k.Q,
        closed=k.x,
    )


def _average_price(data: wire.AvgPrice, stream: Stream, received: int) -> Event:
    check_numbers(data.w)
    head = (stream.venue, data.s, microseconds(data.E), received, LIVE)
    return events.AveragePrice(*head, data.i, data.w)


def _book_delta(data: wire.Depth, stream: Stream, received: int) -> Event:
    check_numbers(*chain.from_iterable(data.b), *chain.from_iterable(data.a))
    head = (stream.venue, data.s, microseconds(data.E), received, LIVE)
    return events.BookDelta(*head, data.U, data.u, data.b, data.a)


def _book(data: wire.PartialDepth, stream: Stream, received: int) -> Event:
    check_numbers(*chain.from_iterable(data.bids), *chain.from_iterable(data.asks))
    head = (stream.venue, stream.symbol or "", None, received, LIVE)
    return events.Book(*head, data.lastUpdateId, data.bids, data.asks)


def _reference_price(data: wire.ReferencePrice, stream: Stream, received: int) -> Event:
    if data.r is not None:
        check_numbers(data.r)
    head = (stream.venue, data.s, microseconds(data.t), received, LIVE)
    return events.ReferencePrice(*head, data.r)


def _block_trade(data: wire.BlockTrade, stream: Stream, received: int) -> Event:
    check_numbers(data.p, data.q)
    head = (stream.venue, data.s, microseconds(data.T), received, LIVE)
    return events.BlockTrade(*head, data.t, data.p, data.q, _side(data))


Normalize = Callable[[Any, Stream, int], Event]

# By payload name: the struct on the wire, and the function that converts it to an event.
PAYLOADS: dict[str, tuple[type[Any], Normalize]] = {
    "trade": (wire.Trade, _trade),
    "aggTrade": (wire.AggTrade, _agg_trade),
    "bookTicker": (wire.BookTicker, _quote),
    "ticker": (wire.Ticker, _ticker),
    "ticker_1h": (wire.WindowTicker1h, _window_ticker),
    "ticker_4h": (wire.WindowTicker4h, _window_ticker),
    "ticker_1d": (wire.WindowTicker1d, _window_ticker),
    "miniTicker": (wire.MiniTicker, _mini_ticker),
    "kline": (wire.Kline, _candle),
    "avgPrice": (wire.AvgPrice, _average_price),
    "partialDepth": (wire.PartialDepth, _book),
    "depth": (wire.Depth, _book_delta),
    "referencePrice": (wire.ReferencePrice, _reference_price),
    "blockTrade": (wire.BlockTrade, _block_trade),
}
