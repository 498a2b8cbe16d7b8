"""The events that Tickbridge publishes: the public contract, from which `schemas/` is generated.

Prices and volumes are the exchange's decimal strings, unchanged: a float would lose digits, and a
Decimal would print `0E-8`. Times are integer microseconds since the epoch. Fields may be added, but
none is renamed, retyped or removed (docs/reference/events.md lists the rules).
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

PRICE_UNIT = "quote asset for one of the base asset"
BASE_UNIT = "base asset"
QUOTE_UNIT = "quote asset"
TIME_UNIT = "microseconds since 1970-01-01 UTC"
# The message types of Gap and SymbolStatus.
GAP, STATUS = "gap", "status"


def _decimal(unit: str) -> Meta:
    return Meta(
        description="A decimal number with exactly the digits that the exchange sent.",
        extra_json_schema={"pattern": r"^-?([0-9]+\.?[0-9]*|\.[0-9]+)$", "x-unit": unit},
    )


def _says(description: str) -> Meta:
    return Meta(description=description)


Microseconds = Annotated[int, Meta(description="A time.", extra_json_schema={"x-unit": TIME_UNIT})]
Price = Annotated[str, _decimal(PRICE_UNIT)]
Volume = Annotated[str, _decimal(BASE_UNIT)]
QuoteVolume = Annotated[str, _decimal(QUOTE_UNIT)]
Percent = Annotated[str, _decimal("percent")]
Id = Annotated[int, _says("An id assigned by the exchange; it rises per symbol.")]
Side = Annotated[Literal["buy", "sell"], _says("The side of the taker.")]
Source = Annotated[
    Literal["websocket", "rest", "replay", "bridge"],
    _says(
        "The origin of the event: live, fetched over REST, replayed from a capture, or the bridge"
        " itself (status)."
    ),
]
FeedState = Literal["live", "stale", "repairing", "down", "refused"]
Level = Annotated[
    tuple[Price, Volume],
    _says("Price and volume; in a book_delta, a volume of 0 removes the level."),
]
Bids = Annotated[list[Level], _says("The buyers' levels; in a book, the highest price first.")]
Asks = Annotated[list[Level], _says("The sellers' levels; in a book, the lowest price first.")]
BidPrice = Annotated[Price, _says("The best bid: the highest price that a buyer offers.")]
BidVolume = Annotated[Volume, _says("The volume at the best bid.")]
AskPrice = Annotated[Price, _says("The best ask: the lowest price that a seller accepts.")]
AskVolume = Annotated[Volume, _says("The volume at the best ask.")]
Trades = Annotated[int, _says("The number of trades.")]


class Event(msgspec.Struct, frozen=True, gc=False, tag_field="message_type"):
    """The fields of every event."""

    venue: Annotated[str, Meta(description="Exchange and market.", examples=["binance.spot"])]
    symbol: Annotated[str, _says("The exchange's symbol in upper case; empty if it is not known.")]
    timestamp: Annotated[
        Microseconds | None, _says("The exchange's time; null if the exchange sends none.")
    ]
    received: Annotated[Microseconds, _says("The time of our clock when the frame arrived.")]
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
    """The best bid and ask. Ids rise and may skip values; the exchange sends no time."""

    update_id: Id
    bid_price: BidPrice
    bid_volume: BidVolume
    ask_price: AskPrice
    ask_volume: AskVolume


class Ticker(Event, frozen=True, gc=False, tag="ticker", omit_defaults=True):
    """Statistics of a rolling window, once a second; only the 24h window has bid and ask."""

    window: Annotated[Literal["24h", "1h", "4h", "1d"], _says("The rolling window.")]
    price: Annotated[Price, _says("The price of the last trade.")]
    volume: Annotated[Volume, _says("The volume traded in the window.")]
    open: Price
    high: Price
    low: Price
    quote_volume: Annotated[QuoteVolume, _says("The volume traded in the window.")]
    change: Annotated[Price, _says("The price minus the opening price of the window.")]
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
    """A ticker of 1h, 4h or 1d: the same message, but it never sets a symbol's latest value."""


class MiniTicker(Event, frozen=True, gc=False, tag="mini_ticker"):
    """The short form of the 24-hour ticker."""

    price: Price
    open: Price
    high: Price
    low: Price
    volume: Annotated[Volume, _says("The volume traded in the last 24 hours.")]
    quote_volume: Annotated[QuoteVolume, _says("The volume traded in the last 24 hours.")]


class Candle(Event, frozen=True, gc=False, tag="candle"):
    """A candlestick, sent again after each change until `closed` is true."""

    interval: Annotated[
        str, _says("1s to 1M, followed by `@+08:00` if days begin in that time zone.")
    ]
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
    closed: Annotated[bool, _says("True if this is the last state of the candle.")]


class AveragePrice(Event, frozen=True, gc=False, tag="average_price"):
    """The average price over `interval`."""

    interval: Annotated[str, _says("The period of the average, as the exchange writes it.")]
    price: Price


class BookDelta(Event, frozen=True, gc=False, tag="book_delta"):
    """Changes of the order book; `first_update_id` follows the previous `last_update_id`."""

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
    """The exchange's reference price; null while the exchange has none."""

    price: Annotated[Price | None, _says("The price; null while the exchange has none.")]


class BlockTrade(Event, frozen=True, gc=False, tag="block_trade"):
    """A trade agreed outside the order book, with a separate series of ids."""

    trade_id: Id
    price: Price
    volume: Volume
    side: Side


class Gap(Event, frozen=True, gc=False, tag=GAP):
    """Missing events of a stream, published before the first event after the gap."""

    kind: Annotated[str, _says("The message_type of the missing events.")]
    first_id: Annotated[
        int | None, _says("The first missing id; null if ids do not show what is missing.")
    ]
    last_id: Annotated[
        int | None, _says("The last missing id; null if ids do not show what is missing.")
    ]
    from_time: Annotated[
        Microseconds | None, _says("The time of the last event before the gap; null if unknown.")
    ]
    to_time: Annotated[
        Microseconds | None, _says("The time of the first event after the gap; null if unknown.")
    ]
    cause: Annotated[str, _says("The cause of the interruption, in one word.")]
    state: Annotated[
        Literal["open", "filled", "lost"],
        _says(
            "open: the events may still be fetched; filled: they were published (of a candle, its"
            " final state); lost: they cannot be fetched."
        ),
    ]


class Invalid(Event, frozen=True, gc=False, tag="invalid"):
    """A frame, or a part of a frame, that could not be decoded."""

    reason: Annotated[str, _says("The type of the error, in one word.")]
    payload: Annotated[str, _says("The first 64 KiB of the invalid payload, as text.")]
    detail: Annotated[str, _says("A description of the error, for people.")]


class SymbolStatus(Event, frozen=True, gc=False, tag=STATUS):
    """The state of a symbol's feed, and up to which time its trades are complete in Kafka.

    Published on each change and every few seconds.
    """

    feed: Annotated[
        FeedState,
        _says(
            "live: all streams of the symbol arrive. repairing: events wait for missing ones."
            " stale: a stream is silent for longer than its usual interval explains. down: no"
            " connection is open. refused: the exchange refuses the connection, or does not list"
            " the symbol."
        ),
    ]
    since: Annotated[Microseconds, _says("The time since when the feed is in this state.")]
    trade_id: Annotated[
        int | None,
        _says("All trades up to this id are in the topic or in a gap event; null: not known."),
    ]
    agg_trade_id: Annotated[
        int | None,
        _says("All agg_trades up to this id are in the topic or in a gap event; null: not known."),
    ]
    complete_to: Annotated[
        Microseconds | None,
        _says(
            "All trades and agg_trades up to this time of the exchange are in their topics, or in"
            " a gap event; null: not known."
        ),
    ]
    checked: Annotated[
        Microseconds | None,
        _says("The time of the last comparison with the exchange's last ids; null: none yet."),
    ]
    owner: Annotated[str, _says("The name of the bridge that publishes the symbol.")]
    standby: Annotated[
        str | None, _says("The name of the bridge that would take over; null: there is none.")
    ]


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
    | SymbolStatus
)
EVENT_TYPES: dict[str, type[Event]] = {
    cls.__struct_config__.tag: cls
    for cls in AnyEvent.__args__
    if isinstance(cls.__struct_config__.tag, str)
}
