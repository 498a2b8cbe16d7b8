"""Convert the exchange's REST rows to the events that the streams would have brought."""

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from bridge.core.binance.normalize import check_numbers, microseconds
from bridge.core.binance.wire import Natural
from bridge.core.model import events
from bridge.core.model.events import Event

_FETCHED: events.Source = "rest"


class TradeRow(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """A row of `historicalTrades`, `trades` and `historicalBlockTrades`."""

    id: Natural
    price: str
    qty: str
    time: Natural
    is_buyer_maker: bool


class AggTradeRow(msgspec.Struct, frozen=True, gc=False):
    """A row of `aggTrades`: the keys of the stream, without the symbol."""

    a: Natural
    p: str
    q: str
    f: Natural
    l: Natural  # noqa: E741 - the exchange's key
    T: Natural
    m: bool


class KlineRow(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A row of `klines`: an array, in this order."""

    open_time: Natural
    open: str
    high: str
    low: str
    close: str
    volume: str
    close_time: Natural
    quote_volume: str
    trade_count: Natural
    taker_buy_volume: str
    taker_buy_quote_volume: str


def _trade(
    event_type: type[events.Trade | events.BlockTrade],
    row: TradeRow,
    venue: str,
    symbol: str,
    received: int,
) -> Event:
    check_numbers(row.price, row.qty)
    head = (venue, symbol, microseconds(row.time), received, _FETCHED)
    side: events.Side = "sell" if row.is_buyer_maker else "buy"
    return event_type(*head, row.id, row.price, row.qty, side)


def _agg_trade(row: AggTradeRow, venue: str, symbol: str, received: int) -> Event:
    check_numbers(row.p, row.q)
    head = (venue, symbol, microseconds(row.T), received, _FETCHED)
    side: events.Side = "sell" if row.m else "buy"
    return events.AggTrade(*head, row.a, row.f, row.l, row.p, row.q, side)


_decode_trade = msgspec.json.Decoder(TradeRow).decode
_decode_kline = msgspec.json.Decoder(KlineRow).decode


def candle_reader(
    venue: str, symbol: str, interval: str, received: int
) -> Callable[[msgspec.Raw], Event]:
    """Return the function that reads a row of `klines` as a closed candle; `received` is in
    microseconds. The last row of an answer may not be closed yet.

    It raises what that of `row_reader` raises.
    """

    def read(raw: msgspec.Raw) -> Event:
        row = _decode_kline(raw)
        check_numbers(row.open, row.high, row.low, row.close, row.volume, row.quote_volume)
        check_numbers(row.taker_buy_volume, row.taker_buy_quote_volume)
        close_time = microseconds(row.close_time)
        return events.Candle(
            venue,
            symbol,
            close_time,
            received,
            _FETCHED,
            interval,
            microseconds(row.open_time),
            close_time,
            row.open,
            row.high,
            row.low,
            row.close,
            row.volume,
            row.quote_volume,
            row.trade_count,
            row.taker_buy_volume,
            row.taker_buy_quote_volume,
            closed=True,
        )

    return read


_ROWS: dict[str, tuple[Callable[[msgspec.Raw], Any], Callable[..., Event]]] = {
    "trade": (_decode_trade, partial(_trade, events.Trade)),
    "agg_trade": (msgspec.json.Decoder(AggTradeRow).decode, _agg_trade),
    "block_trade": (_decode_trade, partial(_trade, events.BlockTrade)),
}


def row_reader(
    message_type: str, venue: str, symbol: str, received: int
) -> Callable[[msgspec.Raw], Event]:
    """Return the function that reads a row of an answer; `received` is in microseconds.

    It raises InvalidFrame if a price is not a number, and msgspec.DecodeError or UnicodeDecodeError
    if the row has another form.
    """
    decode, event_of = _ROWS[message_type]
    return lambda row: event_of(decode(row), venue, symbol, received)


def id_of(event: Event) -> int:
    """Return the id of a fetched trade or agg_trade."""
    if isinstance(event, events.AggTrade):
        return event.agg_trade_id
    assert isinstance(event, events.Trade)  # noqa: S101 - no other event is fetched
    return event.trade_id
