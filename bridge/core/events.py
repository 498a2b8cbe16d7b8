"""Every event Tickbridge publishes: the public contract, from which `schemas/` is generated.

Prices and volumes are the exchange's decimal strings, untouched: a float would lose digits and a
Decimal would print `0E-8`. Times are integer microseconds since the epoch. Fields may be added;
none is renamed, retyped or removed (docs/schemas.md holds the rules).
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Microseconds = Annotated[int, Meta(description="Microseconds since 1970-01-01 UTC.")]
DecimalString = Annotated[
    str,
    Meta(
        description="A decimal number, its digits exactly as the exchange sent them.",
        extra_json_schema={"pattern": r"^-?[0-9]+(\.[0-9]+)?$", "examples": ["61837.63000000"]},
    ),
]
Id = Annotated[int, Meta(description="An id the exchange gives, rising per symbol.")]
Side = Annotated[Literal["buy", "sell"], Meta(description="The taker's side.")]
Source = Annotated[
    Literal["websocket", "rest", "replay"],
    Meta(description="How the event came: live, fetched afterwards, or from a capture."),
]
Level = Annotated[
    tuple[DecimalString, DecimalString],
    Meta(description="Price and volume; volume 0 removes the level from a book_delta's book."),
]


class Event(msgspec.Struct, frozen=True, gc=False, tag_field="message_type"):
    """What every event has."""

    venue: Annotated[str, Meta(description="Exchange and market.", examples=["binance.spot"])]
    symbol: Annotated[
        str, Meta(description="As the exchange writes it, upper case; empty where none is known.")
    ]
    timestamp: Annotated[
        Microseconds | None, Meta(description="The exchange's time; null where it sends none.")
    ]
    received: Annotated[Microseconds, Meta(description="Our clock when the frame arrived.")]
    source: Source


class Trade(Event, frozen=True, gc=False, tag="trade"):
    """One trade. Ids are contiguous per symbol."""

    trade_id: Id
    price: DecimalString
    volume: DecimalString
    side: Side


class AggTrade(Event, frozen=True, gc=False, tag="agg_trade"):
    """The fills of one taker order at one price. Ids are contiguous per symbol."""

    agg_trade_id: Id
    first_trade_id: Id
    last_trade_id: Id
    price: DecimalString
    volume: DecimalString
    side: Side


class Quote(Event, frozen=True, gc=False, tag="quote"):
    """The best bid and ask. Ids rise, with holes; the exchange sends no time."""

    update_id: Id
    bid_price: DecimalString
    bid_volume: DecimalString
    ask_price: DecimalString
    ask_volume: DecimalString


class Ticker(Event, frozen=True, gc=False, tag="ticker", omit_defaults=True):
    """Figures of a rolling window, once a second; bid and ask come with the 24h window only."""

    window: Annotated[Literal["24h", "1h", "4h", "1d"], Meta(description="The rolling window.")]
    price: Annotated[DecimalString, Meta(description="Price of the last trade.")]
    volume: Annotated[DecimalString, Meta(description="Base asset traded in the window.")]
    open: DecimalString
    high: DecimalString
    low: DecimalString
    quote_volume: Annotated[DecimalString, Meta(description="Quote asset traded in the window.")]
    change: Annotated[DecimalString, Meta(description="Price less the window's open.")]
    change_percent: DecimalString
    weighted_average_price: DecimalString
    trade_count: int
    open_time: Microseconds
    close_time: Microseconds
    bid_price: DecimalString | None = None
    bid_volume: DecimalString | None = None
    ask_price: DecimalString | None = None
    ask_volume: DecimalString | None = None


class WindowTicker(Ticker, frozen=True, gc=False, tag="ticker", omit_defaults=True):
    """A ticker of 1h, 4h or 1d: the same message, but never a symbol's latest value."""


class MiniTicker(Event, frozen=True, gc=False, tag="mini_ticker"):
    """The short form of the 24-hour ticker."""

    price: DecimalString
    open: DecimalString
    high: DecimalString
    low: DecimalString
    volume: Annotated[DecimalString, Meta(description="Base asset traded in 24 hours.")]
    quote_volume: Annotated[DecimalString, Meta(description="Quote asset traded in 24 hours.")]


class Candle(Event, frozen=True, gc=False, tag="candle"):
    """A candlestick, sent again at each change until `closed`."""

    interval: Annotated[
        str, Meta(description="1s to 1M; `@+08:00` behind it where days begin in that zone.")
    ]
    open_time: Microseconds
    close_time: Microseconds
    open: DecimalString
    high: DecimalString
    low: DecimalString
    close: DecimalString
    volume: DecimalString
    quote_volume: DecimalString
    trade_count: int
    taker_buy_volume: DecimalString
    taker_buy_quote_volume: DecimalString
    closed: bool


class AveragePrice(Event, frozen=True, gc=False, tag="average_price"):
    """The average price over `interval`."""

    interval: str
    price: DecimalString


class BookDelta(Event, frozen=True, gc=False, tag="book_delta"):
    """Changes of the order book; each `first_update_id` continues the last `last_update_id`."""

    first_update_id: Id
    last_update_id: Id
    bids: list[Level]
    asks: list[Level]


class Book(Event, frozen=True, gc=False, tag="book"):
    """The top of the order book, best first; the exchange sends no time."""

    last_update_id: Id
    bids: list[Level]
    asks: list[Level]


class ReferencePrice(Event, frozen=True, gc=False, tag="reference_price"):
    """The exchange's reference price, null while there is none."""

    price: DecimalString | None


class BlockTrade(Event, frozen=True, gc=False, tag="block_trade"):
    """A trade agreed outside the book, with ids of its own."""

    trade_id: Id
    price: DecimalString
    volume: DecimalString
    side: Side


class Gap(Event, frozen=True, gc=False, tag="gap"):
    """What is missing from a stream, published before the next event behind it."""

    kind: Annotated[str, Meta(description="The message_type of what is missing.")]
    first_id: Id | None
    last_id: Id | None
    from_time: Microseconds | None
    to_time: Microseconds | None
    cause: str
    state: Annotated[
        Literal["open", "filled", "lost"],
        Meta(description="open: may yet be fetched; filled: has been; lost: cannot be."),
    ]


class Invalid(Event, frozen=True, gc=False, tag="invalid"):
    """A frame, or a part of one, that could not be understood."""

    reason: str
    payload: Annotated[str, Meta(description="As text, its first 64 KiB.")]


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
