"""Which integers of a payload are ids and which are times, told by the stream's name.

The only place that knows it: looping moves these integers on, `timeUnit=MICROSECOND` lengthens
the times, and everything else in a payload stays as it is, byte for byte. No JSON is decoded.
"""

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import NamedTuple


class Space(Enum):
    """A sequence of numbers that move on together, for one symbol."""

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
    """An id or a time inside a payload: where it stands, whose it is and what it says."""

    start: int
    end: int
    key: str
    symbol: str
    space: Space
    value: int


def kind_of(stream: str) -> str:
    """`trade` of `btcusdt@trade`, `depth` of `btcusdt@depth20@100ms`, `ticker` of `!ticker_1h@arr`.

    `btcusdt@kline_1m` is a `kline`; a name of no known form gives an empty string.
    """
    keyword = stream if stream.startswith("!") else stream.partition("@")[2]
    match = _KIND.match(keyword)
    return match[1] if match else ""


def symbol_of(stream: str) -> str:
    """`BTCUSDT` of `btcusdt@trade`, empty for the streams of all symbols.

    Binance lowers and raises only the ASCII part of a symbol; so does this.
    """
    if stream.startswith("!"):
        return ""
    return ascii_upper(stream.partition("@")[0])


def ascii_upper(text: str) -> str:
    return text.encode().upper().decode()


def ascii_lower(text: str) -> str:
    return text.encode().lower().decode()


def numbers(stream: str, payload: bytes) -> Iterator[Number]:
    """The ids and times of a payload in the order they stand; zero and -1 say "none", and stay."""
    fields = _FIELDS.get(kind_of(stream), _UNKNOWN)
    symbol = symbol_of(stream)
    for match in _NUMBER.finditer(payload):
        if match[1]:  # in an array each row names its symbol before its ids
            symbol = match[2].decode()
        elif (space := fields.get(key := match[3].decode())) is not None:
            yield Number(*match.span(4), key, symbol, space, int(match[4]))


def to_microseconds(stream: str, payload: bytes) -> bytes:
    """The payload with every 13-digit time as 16 digits, as `timeUnit=MICROSECOND` has it."""
    pieces: list[bytes] = []
    copied = 0
    for number in numbers(stream, payload):
        if number.space in TIMES and number.value < MICROSECONDS_FROM:
            pieces += payload[copied : number.end], b"000"
            copied = number.end
    return b"".join(pieces) + payload[copied:]


# Milliseconds stay below this until the year 5138, microseconds have been above it since 1973.
MICROSECONDS_FROM = 10**14
