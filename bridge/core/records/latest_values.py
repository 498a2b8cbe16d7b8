"""Define which event sets which latest values in Redis, and keep these values from going backwards.

The hash `<venue>.latest:<symbol>` has four groups of fields: the price, the quote, the statistics
of the day, and the status of the feed. Each group is set by one message type. One field of the
group is its guard: the group is set only if this field rises, or if the ids have restarted. The
price comes from the most exact stream that a symbol has, in this order: trade, agg_trade, ticker,
mini_ticker.
"""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec

from bridge.core.model.events import (
    AggTrade,
    Event,
    MiniTicker,
    Quote,
    SymbolStatus,
    Ticker,
    Trade,
)
from bridge.core.sequencing.rules import ARRIVAL_RESTART_US, RESTART_US, time_of

_PAYLOAD_OF: dict[type[Event], str] = {
    Trade: "trade",
    AggTrade: "aggTrade",
    Quote: "bookTicker",
    Ticker: "ticker",
    MiniTicker: "miniTicker",
}
# Payloads of streams, most exact first.
_PRICE_SOURCES = ("trade", "aggTrade", "ticker", "miniTicker")
_QUOTE_SOURCES = ("bookTicker", "ticker")
_DAY_SOURCES = ("ticker", "miniTicker")


class Group(msgspec.Struct, frozen=True, eq=False):
    """The fields that one type of event sets together, for any symbol.

    `names` has one line for each field. `contents` returns the same number of lines, because no
    value contains a line break. The first field is the guard: the group is set only if it rises. If
    the group has `price`, it is the second field, and is also written to the hash of all prices.

    If the guard is an id, the last field is the time. A lower id whose time is more than
    `restart_us` younger comes after a restart of the ids, unless it was fetched: then its time may
    be wrong. If the guard is a time, `restart_us` is 0.
    """

    names: str
    contents: Callable[[Any], str]
    restart_us: int = 0


class LatestValue(msgspec.Struct, frozen=True, eq=False):
    """One group of fields of one symbol. Compared by identity: one object per route and group."""

    key: str
    group: Group

    def newest(self, event: Event, other: Event) -> Event:
        """Return the later event; if neither is later, the first one."""
        return other if self._is_later(other, event) else event

    def _is_later(self, event: Event, other: Event) -> bool:
        restart_us = self.group.restart_us
        if not restart_us:
            return event.received > other.received
        if "rest" in {event.source, other.source}:
            return self._guard(event) > self._guard(other)
        later_us = time_of(event) - time_of(other)
        is_higher = self._guard(event) > self._guard(other)
        return later_us > restart_us or (is_higher and -later_us <= restart_us)

    def _guard(self, event: Event) -> int:
        return int(self.group.contents(event).partition("\n")[0])


def latest_values(
    venue: str, symbol: str, event_type: type[Event], payloads: AbstractSet[str]
) -> tuple[LatestValue, ...]:
    """Return the values that events of a type set, if the symbol's streams carry `payloads`."""
    if event_type is SymbolStatus:
        return (LatestValue(latest_key(venue, symbol), _STATUS),)
    payload = _PAYLOAD_OF.get(event_type)
    return tuple(
        LatestValue(latest_key(venue, symbol), groups[payload])
        for sources, groups in _GROUPS
        if payload is not None and payload == _first(sources, payloads)
    )


def latest_key(venue: str, symbol: str) -> str:
    """Return the key of the hash with the latest values of one symbol."""
    return f"{venue}.latest:{symbol}"


def prices_key(venue: str) -> str:
    """Return the key of the hash that maps each symbol to its price."""
    return f"{venue}.prices"


def heartbeat_key(venue: str) -> str:
    """Return the key that exists while a bridge is alive."""
    return f"{venue}.heartbeat"


def _first(sources: tuple[str, ...], payloads: AbstractSet[str]) -> str | None:
    return next((source for source in sources if source in payloads), None)


def _trade_price(event: Trade) -> str:
    return f"{event.trade_id}\n{event.price}\n{time_of(event)}\n"


def _agg_trade_price(event: AggTrade) -> str:
    return f"{event.last_trade_id}\n{event.price}\n{time_of(event)}\n"


def _ticker_price(event: Ticker | MiniTicker) -> str:
    return f"{time_of(event)}\n{event.price}\n"


def _quote(event: Quote) -> str:
    return (
        f"{event.update_id}\n{event.bid_price}\n{event.bid_volume}\n"
        f"{event.ask_price}\n{event.ask_volume}\n{time_of(event)}\n"
    )


def _ticker_quote(event: Ticker) -> str:
    sides = (event.bid_price, event.bid_volume, event.ask_price, event.ask_volume)
    return _lines(str(time_of(event)), *(side or "" for side in sides))


def _mini_day(event: Ticker | MiniTicker) -> str:
    figures = (event.open, event.high, event.low, event.volume, event.quote_volume)
    return _lines(str(time_of(event)), *figures)


def _day(event: Ticker) -> str:
    change = (event.change, event.change_percent, event.weighted_average_price)
    return _mini_day(event) + _lines(*change, str(event.trade_count))


def _status(event: SymbolStatus) -> str:
    times = (event.complete_to, event.checked, event.trade_id, event.agg_trade_id)
    texts = ("" if time is None else str(time) for time in times)
    bridges = (event.owner, event.standby or "")
    return _lines(str(time_of(event)), event.feed, str(event.since), *texts, *bridges)


def _lines(*texts: str) -> str:
    return "".join(f"{text}\n" for text in texts)


_TRADE_PRICE = _lines("trade_id", "price", "price_time")
_TICKER_PRICE = Group(_lines("price_time", "price"), _ticker_price)
_SIDES = ("bid_price", "bid_volume", "ask_price", "ask_volume")
_MINI_DAY = _lines("day_time", "open", "high", "low", "volume", "quote_volume")
_REST_OF_DAY = _lines("change", "change_percent", "weighted_average_price", "trade_count")
_STATUS = Group(
    _lines(
        *("status_time", "feed", "feed_since", "complete_to", "checked"),
        *("complete_trade_id", "complete_agg_trade_id", "owner", "standby"),
    ),
    _status,
)

# For price, quote and day: the sources, and the fields that each source sets.
_GROUPS: tuple[tuple[tuple[str, ...], dict[str, Group]], ...] = (
    (
        _PRICE_SOURCES,
        {
            "trade": Group(_TRADE_PRICE, _trade_price, RESTART_US),
            "aggTrade": Group(_TRADE_PRICE, _agg_trade_price, RESTART_US),
            "ticker": _TICKER_PRICE,
            "miniTicker": _TICKER_PRICE,
        },
    ),
    (
        _QUOTE_SOURCES,
        {
            "bookTicker": Group(
                _lines("quote_id", *_SIDES, "quote_time"), _quote, ARRIVAL_RESTART_US
            ),
            "ticker": Group(_lines("quote_time", *_SIDES), _ticker_quote),
        },
    ),
    (
        _DAY_SOURCES,
        {
            "ticker": Group(_MINI_DAY + _REST_OF_DAY, _day),
            "miniTicker": Group(_MINI_DAY, _mini_day),
        },
    ),
)
