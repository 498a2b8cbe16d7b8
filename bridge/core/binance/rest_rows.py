"""Convert the exchange's REST rows to the events that the streams would have brought."""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from bridge.core.binance.decode import UNREADABLE, payload_text
from bridge.core.binance.normalize import check_numbers, microseconds
from bridge.core.binance.wire import Natural
from bridge.core.model import events
from bridge.core.model.events import Event
from bridge.errors import InvalidFrame

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


_ROWS: dict[str, tuple[Callable[[bytes | msgspec.Raw], Any], Callable[..., Event]]] = {
    "trade": (msgspec.json.Decoder(TradeRow).decode, _trade),
    "agg_trade": (msgspec.json.Decoder(AggTradeRow).decode, _agg_trade),
}
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Page(NamedTuple):
    """The events of one answer in its order, and a description of each row that is unreadable."""

    events: list[Event]
    unreadable: list[str]


def read_rows(message_type: str, body: bytes, venue: str, symbol: str, received: int) -> Page:
    """Return the page of one answer; `received` is in microseconds.

    Raises msgspec.DecodeError or UnicodeDecodeError if the answer is not a list.
    """
    decode, event_of = _ROWS[message_type]
    page = Page([], [])
    for row in _decode_list(body):
        try:
            page.events.append(event_of(decode(row), venue, symbol, received))
        except (*UNREADABLE, InvalidFrame) as error:
            page.unreadable.append(f"{error}: {payload_text(bytes(row)):.200}")
    return page
