"""Which event sets which latest values in Redis, and what keeps them from going backwards.

The hash `<venue>.latest:<symbol>` has three groups of fields: the price, the quote, the day's
figures. Each is set by one message type and guarded by one of its own fields, which only rises.
The price comes from the most exact stream a symbol has: trade, agg_trade, ticker, mini_ticker.
"""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec

from bridge.core.events import AggTrade, Event, MiniTicker, Quote, Ticker, Trade

Fields = dict[str, str | int]

_PAYLOAD_OF: dict[type[Event], str] = {
    Trade: "trade",
    AggTrade: "aggTrade",
    Quote: "bookTicker",
    Ticker: "ticker",
    MiniTicker: "miniTicker",
}
# Payloads of streams, the most exact first.
_PRICE_SOURCES = ("trade", "aggTrade", "ticker", "miniTicker")
_QUOTE_SOURCES = ("bookTicker", "ticker")
_DAY_SOURCES = ("ticker", "miniTicker")


class LatestValue(msgspec.Struct, frozen=True, eq=False):
    """One group of fields of one symbol. Compared by identity: one a route and group.

    `guard` names the field that must rise for the group to be set; `is_price` says that `price`
    also goes into the hash of all prices.
    """

    key: str
    symbol: str
    guard: str
    is_price: bool
    fields: Callable[[Any], Fields]

    def newest(self, *events: Event) -> Event:
        """Of events that would set it, the one that may; of equals the first."""
        return max(events, key=lambda event: int(self.fields(event)[self.guard]))


def latest_values(
    venue: str, symbol: str, event_type: type[Event], payloads: AbstractSet[str]
) -> tuple[LatestValue, ...]:
    """What events of a type set, for a symbol whose streams carry these `payloads`."""
    payload = _PAYLOAD_OF.get(event_type)
    return tuple(
        LatestValue(latest_key(venue, symbol), symbol, guard, sources is _PRICE_SOURCES, fields)
        for sources, setters in _GROUPS
        if payload is not None and payload == _first(sources, payloads)
        for guard, fields in (setters[payload],)
    )


def latest_key(venue: str, symbol: str) -> str:
    """The hash with one symbol's latest values."""
    return f"{venue}.latest:{symbol}"


def prices_key(venue: str) -> str:
    """The hash that maps each symbol to its price."""
    return f"{venue}.prices"


def _first(sources: tuple[str, ...], payloads: AbstractSet[str]) -> str | None:
    return next((source for source in sources if source in payloads), None)


def _trade_price(event: Trade) -> Fields:
    return {"price": event.price, "price_time": _time(event), "trade_id": event.trade_id}


def _agg_trade_price(event: AggTrade) -> Fields:
    return {"price": event.price, "price_time": _time(event), "trade_id": event.last_trade_id}


def _ticker_price(event: Ticker | MiniTicker) -> Fields:
    return {"price": event.price, "price_time": _time(event)}


def _quote(event: Quote) -> Fields:
    return {
        "bid_price": event.bid_price,
        "bid_volume": event.bid_volume,
        "ask_price": event.ask_price,
        "ask_volume": event.ask_volume,
        "quote_id": event.update_id,
        "quote_time": _time(event),
    }


def _ticker_quote(event: Ticker) -> Fields:
    return {
        "bid_price": event.bid_price or "",
        "bid_volume": event.bid_volume or "",
        "ask_price": event.ask_price or "",
        "ask_volume": event.ask_volume or "",
        "quote_time": _time(event),
    }


def _mini_day(event: Ticker | MiniTicker) -> Fields:
    return {
        "open": event.open,
        "high": event.high,
        "low": event.low,
        "volume": event.volume,
        "quote_volume": event.quote_volume,
        "day_time": _time(event),
    }


def _day(event: Ticker) -> Fields:
    return _mini_day(event) | {
        "change": event.change,
        "change_percent": event.change_percent,
        "weighted_average_price": event.weighted_average_price,
        "trade_count": event.trade_count,
    }


def _time(event: Trade | AggTrade | Quote | Ticker | MiniTicker) -> int:
    """When it was true: the exchange's time, ours where it sends none."""
    return event.received if event.timestamp is None else event.timestamp


# For each group: its sources, and for each source the guarding field and the fields it sets.
_GROUPS: tuple[tuple[tuple[str, ...], dict[str, tuple[str, Callable[[Any], Fields]]]], ...] = (
    (
        _PRICE_SOURCES,
        {
            "trade": ("trade_id", _trade_price),
            "aggTrade": ("trade_id", _agg_trade_price),
            "ticker": ("price_time", _ticker_price),
            "miniTicker": ("price_time", _ticker_price),
        },
    ),
    (_QUOTE_SOURCES, {"bookTicker": ("quote_id", _quote), "ticker": ("quote_time", _ticker_quote)}),
    (_DAY_SOURCES, {"ticker": ("day_time", _day), "miniTicker": ("day_time", _mini_day)}),
)
