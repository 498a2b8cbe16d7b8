"""A stream of the exchange."""

import msgspec

SPOT = "binance.spot"


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


def upper_symbol(symbol: str) -> str:
    """Convert only the ASCII letters to upper case: symbols may contain Chinese characters."""
    return symbol.encode().upper().decode()


def lower_symbol(symbol: str) -> str:
    """Convert only the ASCII letters to lower case, as stream names require."""
    return symbol.encode().lower().decode()
