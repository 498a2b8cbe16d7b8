"""Every event Tickbridge publishes: the public contract, from which `schemas/` is generated.

Prices and volumes are the exchange's decimal strings, untouched: a float would lose digits and a
Decimal would print `0E-8`. Times are integer microseconds since the epoch. Fields may be added;
none is renamed, retyped or removed (docs/schemas.md holds the rules).
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

PRICE_UNIT = "quote asset for one of the base asset"
BASE_UNIT = "base asset"
QUOTE_UNIT = "quote asset"
TIME_UNIT = "microseconds since 1970-01-01 UTC"


def _decimal(unit: str) -> Meta:
    return Meta(
        description="A decimal number, its digits exactly as the exchange sent them.",
        extra_json_schema={"pattern": r"^-?([0-9]+\.?[0-9]*|\.[0-9]+)$", "x-unit": unit},
    )


def _says(description: str) -> Meta:
    return Meta(description=description)


Microseconds = Annotated[int, Meta(description="A time.", extra_json_schema={"x-unit": TIME_UNIT})]
Price = Annotated[str, _decimal(PRICE_UNIT)]
Volume = Annotated[str, _decimal(BASE_UNIT)]
QuoteVolume = Annotated[str, _decimal(QUOTE_UNIT)]
Percent = Annotated[str, _decimal("percent")]
Id = Annotated[int, _says("An id the exchange gives, rising per symbol.")]
Side = Annotated[Literal["buy", "sell"], _says("The taker's side.")]
Source = Annotated[
    Literal["websocket", "rest", "replay"],
    _says("How the event came: live, fetched afterwards, or from a capture."),
]
Level = Annotated[
    tuple[Price, Volume],
    _says("Price and volume; in a book_delta, volume 0 removes the level."),
]
Bids = Annotated[list[Level], _says("Buyers' levels; in a book, the highest price first.")]
Asks = Annotated[list[Level], _says("Sellers' levels; in a book, the lowest price first.")]
BidPrice = Annotated[Price, _says("The best price somebody buys at.")]
BidVolume = Annotated[Volume, _says("What is wanted at that price.")]
AskPrice = Annotated[Price, _says("The best price somebody sells at.")]
AskVolume = Annotated[Volume, _says("What is offered at that price.")]
Trades = Annotated[int, _says("Number of trades.")]


class Event(msgspec.Struct, frozen=True, gc=False, tag_field="message_type"):
    """What every event has."""

    venue: Annotated[str, Meta(description="Exchange and market.", examples=["binance.spot"])]
    symbol: Annotated[
        str, _says("As the exchange writes it, upper case; empty where none is known.")
    ]
    timestamp: Annotated[
        Microseconds | None, _says("The exchange's time; null where it sends none.")
    ]
    received: Annotated[Microseconds, _says("Our clock when the frame arrived.")]
    source: Source


class Trade(Event, frozen=True, gc=False, tag="trade"):
    """One trade. Ids are contiguous per symbol."""

    trade_id: Id
    price: Price
    volume: Volume
    side: Side


class AggTrade(Event, frozen=True, gc=False, tag="agg_trade"):
    """The fills of one taker order at one price. Ids are contiguous per symbol."""

    agg_trade_id: Id
    first_trade_id: Id
    last_trade_id: Id
    price: Price
    volume: Volume
    side: Side


class Quote(Event, frozen=True, gc=False, tag="quote"):
    """The best bid and ask. Ids rise, with holes; the exchange sends no time."""

    update_id: Id
    bid_price: BidPrice
    bid_volume: BidVolume
    ask_price: AskPrice
    ask_volume: AskVolume


class Ticker(Event, frozen=True, gc=False, tag="ticker", omit_defaults=True):
    """Figures of a rolling window, once a second; bid and ask come with the 24h window only."""

    window: Annotated[Literal["24h", "1h", "4h", "1d"], _says("The rolling window.")]
    price: Annotated[Price, _says("Price of the last trade.")]
    volume: Annotated[Volume, _says("Traded in the window.")]
    open: Price
    high: Price
    low: Price
    quote_volume: Annotated[QuoteVolume, _says("Traded in the window.")]
    change: Annotated[Price, _says("Price less the window's open.")]
    change_percent: Percent
    weighted_average_price: Price
    trade_count: Trades
    open_time: Microseconds
    close_time: Microseconds
    bid_price: BidPrice | None = None
    bid_volume: BidVolume | None = None
    ask_price: AskPrice | None = None
    ask_volume: AskVolume | None = None


class WindowTicker(Ticker, frozen=True, gc=False, tag="ticker", omit_defaults=True):
    """A ticker of 1h, 4h or 1d: the same message, but never a symbol's latest value."""


class MiniTicker(Event, frozen=True, gc=False, tag="mini_ticker"):
    """The short form of the 24-hour ticker."""

    price: Price
    open: Price
    high: Price
    low: Price
    volume: Annotated[Volume, _says("Traded in 24 hours.")]
    quote_volume: Annotated[QuoteVolume, _says("Traded in 24 hours.")]


class Candle(Event, frozen=True, gc=False, tag="candle"):
    """A candlestick, sent again at each change until `closed`."""

    interval: Annotated[str, _says("1s to 1M; `@+08:00` behind it where days begin in that zone.")]
    open_time: Microseconds
    close_time: Microseconds
    open: Price
    high: Price
    low: Price
    close: Price
    volume: Volume
    quote_volume: QuoteVolume
    trade_count: Trades
    taker_buy_volume: Volume
    taker_buy_quote_volume: QuoteVolume
    closed: Annotated[bool, _says("Whether this is the candle's last state.")]


class AveragePrice(Event, frozen=True, gc=False, tag="average_price"):
    """The average price over `interval`."""

    interval: Annotated[str, _says("The time it covers, as the exchange writes it.")]
    price: Price


class BookDelta(Event, frozen=True, gc=False, tag="book_delta"):
    """Changes of the order book; each `first_update_id` continues the last `last_update_id`."""

    first_update_id: Id
    last_update_id: Id
    bids: Bids
    asks: Asks


class Book(Event, frozen=True, gc=False, tag="book"):
    """The top of the order book, best first; the exchange sends no time."""

    last_update_id: Id
    bids: Bids
    asks: Asks


class ReferencePrice(Event, frozen=True, gc=False, tag="reference_price"):
    """The exchange's reference price, null while there is none."""

    price: Annotated[Price | None, _says("The price; null while there is none.")]


class BlockTrade(Event, frozen=True, gc=False, tag="block_trade"):
    """A trade agreed outside the book, with ids of its own."""

    trade_id: Id
    price: Price
    volume: Volume
    side: Side


class Gap(Event, frozen=True, gc=False, tag="gap"):
    """What is missing from a stream, published before the next event behind it."""

    kind: Annotated[str, _says("The message_type of what is missing.")]
    first_id: Annotated[int | None, _says("First id that is missing; null where ids say nothing.")]
    last_id: Annotated[int | None, _says("Last id that is missing; null where ids say nothing.")]
    from_time: Annotated[
        Microseconds | None, _says("Time of the last event before; null: unknown.")
    ]
    to_time: Annotated[Microseconds | None, _says("Time of the first event behind; null: unknown.")]
    cause: Annotated[str, _says("What interrupted the stream, in a word.")]
    state: Annotated[
        Literal["open", "filled", "lost"],
        _says("open: may yet be fetched; filled: has been; lost: cannot be."),
    ]


class Invalid(Event, frozen=True, gc=False, tag="invalid"):
    """A frame, or a part of one, that could not be understood."""

    reason: Annotated[str, _says("What is wrong with it, in a word.")]
    payload: Annotated[str, _says("As text, its first 64 KiB.")]
    detail: Annotated[str, _says("What is wrong with it, for people.")]


AnyEvent = (
    Trade
    | AggTrade
    | Quote
    | Ticker
    | MiniTicker
    | Candle
    | AveragePrice
    | BookDelta
    | Book
    | ReferencePrice
    | BlockTrade
    | Gap
    | Invalid
)
EVENT_TYPES: dict[str, type[Event]] = {
    cls.__struct_config__.tag: cls
    for cls in AnyEvent.__args__
    if isinstance(cls.__struct_config__.tag, str)
}
