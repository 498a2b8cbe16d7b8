"""Finds the integers of a payload that are ids or times, by the stream's name.

Only this module knows which they are. Looping shifts these integers, and `timeUnit=MICROSECOND`
lengthens the times. Everything else in a payload stays the same, byte for byte. No JSON is decoded.
"""

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import NamedTuple


class Space(Enum):
    """A sequence of numbers that are shifted together, for one symbol."""

    TRADE = "trade ids"
    AGGREGATE = "aggregate trade ids"
    BLOCK = "block trade ids"
    BOOK = "order book update ids"
    CLOCK = "when it happened"
    TIME = "another time: the bounds of a window, the next funding"


TIMES = frozenset({Space.CLOCK, Space.TIME})

_BOOK = {"E": Space.CLOCK, "T": Space.CLOCK, "u": Space.BOOK}
_TICKER = {
    "E": Space.CLOCK,
    "O": Space.TIME,
    "C": Space.TIME,
    "F": Space.TRADE,
    "L": Space.TRADE,
}

# binance.md, sections 3 and 4. The same letter is an id in one stream and a time in another.
_FIELDS: Mapping[str, Mapping[str, Space]] = {
    "trade": {"E": Space.CLOCK, "T": Space.CLOCK, "t": Space.TRADE},
    "aggTrade": {
        "E": Space.CLOCK,
        "T": Space.CLOCK,
        "a": Space.AGGREGATE,
        "f": Space.TRADE,
        "l": Space.TRADE,
    },
    "bookTicker": _BOOK,
    "depth": _BOOK | {"U": Space.BOOK, "pu": Space.BOOK, "lastUpdateId": Space.BOOK},
    "ticker": _TICKER,
    "miniTicker": {"E": Space.CLOCK},
    "kline": {
        "E": Space.CLOCK,
        "t": Space.TIME,
        "T": Space.TIME,
        "f": Space.TRADE,
        "L": Space.TRADE,
    },
    "avgPrice": {"E": Space.CLOCK, "T": Space.TIME},
    "referencePrice": {"t": Space.CLOCK},
    "blockTrade": {"E": Space.CLOCK, "T": Space.CLOCK, "t": Space.BLOCK},
    "markPrice": {"E": Space.CLOCK, "T": Space.TIME},
    "forceOrder": {"E": Space.CLOCK, "T": Space.CLOCK},
}
_UNKNOWN = {"E": Space.CLOCK}

# Prices and quantities are strings, so an unquoted integer is an id, a time or a count.
_NUMBER = re.compile(rb'"(?:(s)":"([^"]*)"|([A-Za-z]+)":([1-9]\d*)(?=[,}]))')
_KIND = re.compile(r"!?([A-Za-z]+)")


class Number(NamedTuple):
    """An id or a time in a payload: its position, field, symbol, space and value."""

    start: int
    end: int
    key: str
    symbol: str
    space: Space
    value: int


def kind_of(stream: str) -> str:
    """Return the kind of a stream; an empty string if the name has no known form.

    `btcusdt@trade` is a `trade`, `btcusdt@depth20@100ms` a `depth`, `btcusdt@kline_1m` a `kline`,
    `!ticker_1h@arr` a `ticker`.
    """
    keyword = stream if stream.startswith("!") else stream.partition("@")[2]
    match = _KIND.match(keyword)
    return match[1] if match else ""


def symbol_of(stream: str) -> str:
    """Return the symbol, `BTCUSDT` for `btcusdt@trade`; empty for a stream of all symbols.

    Binance changes the case of the ASCII letters of a symbol only; so does this function.
    """
    if stream.startswith("!"):
        return ""
    return ascii_upper(stream.partition("@")[0])


def ascii_upper(text: str) -> str:
    return text.encode().upper().decode()


def ascii_lower(text: str) -> str:
    return text.encode().lower().decode()


def numbers(stream: str, payload: bytes) -> Iterator[Number]:
    """Yield the ids and times of a payload in order; zero and -1 mean "none" and are left out."""
    fields = _FIELDS.get(kind_of(stream), _UNKNOWN)
    symbol = symbol_of(stream)
    for match in _NUMBER.finditer(payload):
        if match[1]:  # in an array each row names its symbol before its ids
            symbol = match[2].decode()
        elif (space := fields.get(key := match[3].decode())) is not None:
            yield Number(*match.span(4), key, symbol, space, int(match[4]))


def to_microseconds(stream: str, payload: bytes) -> bytes:
    """Return the payload with 16 digits in place of 13 in every time: `timeUnit=MICROSECOND`."""
    pieces: list[bytes] = []
    copied = 0
    for number in numbers(stream, payload):
        if number.space in TIMES and number.value < MICROSECONDS_FROM:
            pieces += payload[copied : number.end], b"000"
            copied = number.end
    return b"".join(pieces) + payload[copied:]


# Milliseconds stay below this until the year 5138, microseconds have been above it since 1973.
MICROSECONDS_FROM = 10**14
