"""Convert the exchange's REST rows to the events that the streams would have brought."""

from collections.abc import Callable
from typing import Any

import msgspec

from bridge.core.binance.normalize import check_numbers, microseconds
from bridge.core.binance.wire import Natural
from bridge.core.model import events
from bridge.core.model.events import Event

_FETCHED: events.Source = "rest"


class TradeRow(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """A row of `historicalTrades` and `trades`."""

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


def _trade(row: TradeRow, venue: str, symbol: str, received: int) -> Event:
    check_numbers(row.price, row.qty)
    head = (venue, symbol, microseconds(row.time), received, _FETCHED)
    side: events.Side = "sell" if row.is_buyer_maker else "buy"
    return events.Trade(*head, row.id, row.price, row.qty, side)


def _agg_trade(row: AggTradeRow, venue: str, symbol: str, received: int) -> Event:
    check_numbers(row.p, row.q)
    head = (venue, symbol, microseconds(row.T), received, _FETCHED)
    side: events.Side = "sell" if row.m else "buy"
    return events.AggTrade(*head, row.a, row.f, row.l, row.p, row.q, side)


_ROWS: dict[str, tuple[Callable[[bytes], Any], Callable[..., Event]]] = {
    "trade": (msgspec.json.Decoder(list[TradeRow]).decode, _trade),
    "agg_trade": (msgspec.json.Decoder(list[AggTradeRow]).decode, _agg_trade),
}


def read_rows(
    message_type: str, body: bytes, venue: str, symbol: str, received: int
) -> list[Event]:
    """Return the events of one answer in the answer's order; `received` is in microseconds.

    Raises InvalidFrame if a price is not a number, and msgspec.DecodeError or UnicodeDecodeError if
    the answer has another form.
    """
    decode, event_of = _ROWS[message_type]
    return [event_of(row, venue, symbol, received) for row in decode(body)]
