"""The grammar of Binance's spot stream names: the payload and the symbol of each name.

A name is `<symbol>@<suffix>` (`btcusdt@depth20@100ms`) or, for the whole market, `!<suffix>@arr`.
Source: shared rules of the exchange's WebSocket streams document, section "Spot streams". An
acknowledgement of the exchange proves nothing: it acknowledges a wrong name and then sends no data.
Names are therefore checked here, before anything is sent.
"""

import difflib
import re
from collections.abc import Sequence
from urllib.parse import quote

from bridge.core.model.stream import SPOT, Stream, lower_symbol, upper_symbol

INTERVALS = tuple("1s 1m 3m 5m 15m 30m 1h 2h 4h 6h 8h 12h 1d 3d 1w 1M".split())
WINDOWS = ("1h", "4h", "1d")

# For each payload: the pattern of its stream suffixes, and the message type of its events.
_PAYLOADS: dict[str, tuple[re.Pattern[str], str]] = {
    payload: (re.compile(pattern), message_type)
    for payload, pattern, message_type in (
        ("trade", r"trade", "trade"),
        ("aggTrade", r"aggTrade", "agg_trade"),
        ("bookTicker", r"bookTicker", "quote"),
        ("ticker", r"ticker", "ticker"),
        *((f"ticker_{window}", rf"ticker_(?P<detail>{window})", "ticker") for window in WINDOWS),
        ("miniTicker", r"miniTicker", "mini_ticker"),
        ("kline", rf"kline_(?P<detail>({'|'.join(INTERVALS)})(@\+08:00)?)", "candle"),
        ("avgPrice", r"avgPrice", "average_price"),
        ("partialDepth", r"depth(5|10|20)(@100ms|@1000ms)?", "book"),
        ("depth", r"depth(@100ms|@1000ms)?", "book_delta"),
        ("referencePrice", r"referencePrice", "reference_price"),
        ("blockTrade", r"blockTrade", "block_trade"),
    )
}
_MARKET_WIDE = ("!miniTicker@arr", *(f"!ticker_{window}@arr" for window in WINDOWS))
_RETIRED = {
    "!ticker@arr": "Binance removed it on 2026-03-26; use !miniTicker@arr or !ticker_1d@arr",
    "!bookTicker": "Binance removed it; subscribe to bookTicker of each symbol",
}
_EXAMPLES = (
    *("trade", "aggTrade", "bookTicker", "ticker", "miniTicker", "avgPrice"),
    *("referencePrice", "blockTrade", "depth", "depth@100ms"),
    *(f"ticker_{window}" for window in WINDOWS),
    *(f"kline_{interval}" for interval in INTERVALS),
    *(f"depth{levels}{speed}" for levels in (5, 10, 20) for speed in ("", "@100ms")),
)


def parse_stream(name: str, venue: str = SPOT) -> Stream:
    """Parse a full stream name. Raises ValueError if it is wrong, with the nearest known name."""
    if name.startswith("!"):
        return _parse_market_wide(name, venue)
    symbol, at, suffix = name.partition("@")
    if not at or not symbol:
        raise ValueError(f"{name!r} is not a stream name; write <symbol>@<stream>: btcusdt@trade")
    payload, message_type, detail = _parse_suffix(suffix)
    name = f"{lower_symbol(symbol)}@{suffix}"
    return Stream(venue, name, upper_symbol(symbol), payload, message_type, detail)


def stream_of(symbol: str, suffix: str) -> Stream:
    """Return the stream of one symbol and one of Binance's suffixes (`BTCUSDT`, `kline_1m`)."""
    return parse_stream(f"{symbol}@{suffix}")


def check_suffix(name: str) -> None:
    """Raise ValueError unless `name` can follow the `@` after a symbol."""
    if name.startswith("!") or name.partition("@")[2] in _EXAMPLES:
        raise ValueError(f"{name!r} is a full stream name; move it to extra_streams")
    _parse_suffix(name)


def check_stream_name(name: str) -> None:
    """Raise ValueError unless `name` is a full stream name."""
    parse_stream(name)


def streams_path(streams: Sequence[Stream], *, microseconds: bool = True) -> str:
    """Return the path and query that request these streams in the combined form.

    Streams in the URL do not count toward the limit of five client messages per second.
    """
    names = "/".join(quote(stream.name, safe="@!:") for stream in streams)
    return f"/stream?streams={names}" + ("&timeUnit=MICROSECOND" if microseconds else "")


def _parse_suffix(name: str) -> tuple[str, str, str]:
    for payload, (pattern, message_type) in _PAYLOADS.items():
        if match := pattern.fullmatch(name):
            return payload, message_type, match.groupdict().get("detail") or ""
    raise ValueError(f"{name!r} is not a spot stream of Binance{_nearest(name, _EXAMPLES)}")


def _parse_market_wide(name: str, venue: str) -> Stream:
    if name in _RETIRED:
        raise ValueError(f"{name!r} is no longer available: {_RETIRED[name]}")
    if name not in _MARKET_WIDE:
        raise ValueError(f"{name!r} is not a spot stream of Binance{_nearest(name, _MARKET_WIDE)}")
    payload, message_type, detail = _parse_suffix(name[1:].removesuffix("@arr"))
    return Stream(venue, name, None, payload, message_type, detail)


def _nearest(name: str, known: tuple[str, ...]) -> str:
    # In reverse order: kline_1m and kline_1M are the same in lower case, and then the first one,
    # which is meant more often, stays in the mapping.
    by_lower = {candidate.lower(): candidate for candidate in reversed(known)}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return f"; did you mean {by_lower[close[0]]!r}?" if close else f"; known: {', '.join(known)}"
