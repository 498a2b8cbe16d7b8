"""A stream of the exchange."""

import re

import msgspec

SPOT = "binance.spot"
# A symbol becomes a part of topics' keys, channels and stream names. Binance lists symbols with
# Chinese characters.
_SYMBOL = re.compile(r"[\w.]{1,50}")


class Stream(msgspec.Struct, frozen=True):
    """One stream of one venue.

    `name` is the name in the URL. `symbol` is upper case, or None for the whole market. `payload`
    says what it carries (`core/binance/stream_names.py`). `detail` is the window or interval in the
    name, or empty.
    """

    venue: str
    name: str
    symbol: str | None
    payload: str
    message_type: str
    detail: str = ""

    @property
    def interval(self) -> str:
        """Return the interval of candles; empty for other streams."""
        return self.detail if self.message_type == "candle" else ""


def is_symbol(text: str) -> bool:
    """Return whether a text may be a symbol: letters, digits, `_` and `.`, and not too many."""
    return _SYMBOL.fullmatch(text) is not None


def upper_symbol(symbol: str) -> str:
    """Convert only the ASCII letters to upper case: symbols may contain Chinese characters."""
    return symbol.encode().upper().decode()


def lower_symbol(symbol: str) -> str:
    """Convert only the ASCII letters to lower case, as stream names require."""
    return symbol.encode().lower().decode()
