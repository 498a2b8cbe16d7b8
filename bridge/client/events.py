"""The events for consumers: those of `core/model/events.py`, with prices as Decimal.

A Decimal keeps every digit, and `format(price, "f")` returns the text that the exchange sent. The
events of newer bridges can be read too: unknown fields are ignored, and fields that may get new
values (`source`, `window`, `state`, `feed`) accept any text. docs/reference/events.md lists the
possible changes.
"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal

import msgspec

from bridge.core.model.unreadable import UNREADABLE
from bridge.errors import TickbridgeError

Side = Literal["buy", "sell"]
Level = tuple[Decimal, Decimal]
"""Price and volume."""


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def datetime_of(microseconds: int) -> datetime:
    """Return a time of an event as a datetime in UTC, exact to the microsecond."""
    return _EPOCH + timedelta(microseconds=microseconds)


def microseconds_of(time: datetime) -> int:
    """Return a time as events have it, exact to the microsecond."""
    return (time - _EPOCH) // timedelta(microseconds=1)


class UnreadableEvent(TickbridgeError):
    """A message that is not an event, or lacks a required field of its type."""


class ForeignMessage(UnreadableEvent):
    """A message that no bridge can have written: it has no message type."""


class UnknownMessageType(UnreadableEvent):
    """An event of a type that this version does not know. A newer bridge has sent it."""

    def __init__(self, message_type: str) -> None:
        self.message_type = message_type
        super().__init__(
            f"message_type {message_type!r:.100} is unknown to this version; update tickbridge"
        )


class Event(msgspec.Struct, frozen=True, gc=False, tag_field="message_type"):
    """The fields of every event. Times are in microseconds; `time` and `received_time` have them as
    datetimes in UTC, which are made when they are asked for.
    """

    venue: str
    symbol: str
    timestamp: int | None
    received: int
    source: str

    @property
    def time(self) -> datetime | None:
        """Return the exchange's time of the event; None if it sends none."""
        return None if self.timestamp is None else datetime_of(self.timestamp)

    @property
    def received_time(self) -> datetime:
        """Return when the frame arrived at the bridge."""
        return datetime_of(self.received)


class Trade(Event, frozen=True, gc=False, tag="trade"):
    trade_id: int
    price: Decimal
    volume: Decimal
    side: Side


class AggTrade(Event, frozen=True, gc=False, tag="agg_trade"):
    agg_trade_id: int
    first_trade_id: int
    last_trade_id: int
    price: Decimal
    volume: Decimal
    side: Side


class Quote(Event, frozen=True, gc=False, tag="quote"):
    update_id: int
    bid_price: Decimal
    bid_volume: Decimal
    ask_price: Decimal
    ask_volume: Decimal


class Ticker(Event, frozen=True, gc=False, tag="ticker"):
    window: str
    price: Decimal
    volume: Decimal
    open: Decimal
    high: Decimal
    low: Decimal
    quote_volume: Decimal
    change: Decimal
    change_percent: Decimal
    weighted_average_price: Decimal
    trade_count: int
    open_time: int
    close_time: int
    bid_price: Decimal | None = None
    bid_volume: Decimal | None = None
    ask_price: Decimal | None = None
    ask_volume: Decimal | None = None


class MiniTicker(Event, frozen=True, gc=False, tag="mini_ticker"):
    price: Decimal
    open: Decimal
    high: Decimal
    low: Decimal
    volume: Decimal
    quote_volume: Decimal


class Candle(Event, frozen=True, gc=False, tag="candle"):
    interval: str
    open_time: int
    close_time: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    quote_volume: Decimal
    trade_count: int
    taker_buy_volume: Decimal
    taker_buy_quote_volume: Decimal
    closed: bool


class AveragePrice(Event, frozen=True, gc=False, tag="average_price"):
    interval: str
    price: Decimal


class BookDelta(Event, frozen=True, gc=False, tag="book_delta"):
    first_update_id: int
    last_update_id: int
    bids: list[Level]
    asks: list[Level]


class Book(Event, frozen=True, gc=False, tag="book"):
    last_update_id: int
    bids: list[Level]
    asks: list[Level]


class ReferencePrice(Event, frozen=True, gc=False, tag="reference_price"):
    price: Decimal | None


class BlockTrade(Event, frozen=True, gc=False, tag="block_trade"):
    trade_id: int
    price: Decimal
    volume: Decimal
    side: Side


class Gap(Event, frozen=True, gc=False, tag="gap"):
    kind: str
    first_id: int | None
    last_id: int | None
    from_time: int | None
    to_time: int | None
    cause: str
    state: str


class Invalid(Event, frozen=True, gc=False, tag="invalid"):
    reason: str
    payload: str
    detail: str


class SymbolStatus(Event, frozen=True, gc=False, tag="status"):
    feed: str
    since: int
    trade_id: int | None
    agg_trade_id: int | None
    complete_to: int | None
    checked: int | None
    owner: str
    standby: str | None


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
    str(cls.__struct_config__.tag): cls for cls in AnyEvent.__args__
}
_decode = msgspec.json.Decoder(AnyEvent).decode


class _Tag(msgspec.Struct):
    message_type: str


_decode_tag = msgspec.json.Decoder(_Tag).decode


def decode_event(value: bytes) -> AnyEvent:
    """Decode one event: the value of a Kafka record, or the data of a Redis message.

    Raises UnreadableEvent or one of its subclasses, and nothing else.
    """
    try:
        event: AnyEvent = _decode(value)
    except UNREADABLE as error:
        raise _unreadable(value, error) from None
    return event


def _unreadable(value: bytes, error: Exception) -> UnreadableEvent:
    try:
        message_type = _decode_tag(value).message_type
    except UNREADABLE:
        return ForeignMessage(f"not an event of Tickbridge: {error}")
    if message_type not in EVENT_TYPES:
        return UnknownMessageType(message_type)
    return UnreadableEvent(f"not a valid {message_type} event of Tickbridge: {error}")
