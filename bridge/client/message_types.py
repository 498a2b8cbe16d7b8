"""The message types and symbols that a reader may request."""

import difflib
from collections.abc import Iterable

from bridge.client.events import EVENT_TYPES
from bridge.core.binance.stream_names import stream_of
from bridge.core.model.stream import is_symbol, upper_symbol

MESSAGE_TYPES = tuple(EVENT_TYPES)

# A single string is one name, not its letters.
Names = str | Iterable[str]


def check_message_types(message_types: Names) -> tuple[str, ...]:
    """Return the message types, each once. Raises ValueError if one is unknown or none is given."""
    unique = tuple(dict.fromkeys(_listed(message_types)))
    if not unique:
        raise ValueError(f"no message type is given; known: {', '.join(MESSAGE_TYPES)}")
    for kind in unique:
        if kind not in EVENT_TYPES:
            raise ValueError(f"{kind!r} is not a message type; {_hint(kind)}")
    return unique


def upper_symbols(symbols: Names) -> tuple[str, ...]:
    """Return the symbols as the exchange writes them, each once."""
    return tuple(dict.fromkeys(map(upper_symbol, _listed(symbols))))


def check_symbols(symbols: Names) -> tuple[str, ...]:
    """Return the symbols as the exchange writes them, each once. Raises ValueError if one cannot be
    a symbol: a pattern would match nothing in Kafka.
    """
    unique = upper_symbols(symbols)
    for symbol in unique:
        if not is_symbol(symbol):
            raise ValueError(
                f"{symbol!r} cannot be a symbol; write each one as the exchange does, for example "
                "BTCUSDT; only a RedisFeed knows patterns"
            )
    return unique


def _listed(names: Names) -> Iterable[str]:
    return [names] if isinstance(names, str) else names


def _hint(kind: str) -> str:
    """Return a hint. Binance's own name is a likely mistake: aggTrade for agg_trade, for example,
    or bookTicker for quote.
    """
    try:
        return f"the events of that stream are {stream_of('any', kind).message_type!r}"
    except ValueError:
        close = difflib.get_close_matches(kind.lower(), MESSAGE_TYPES, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(MESSAGE_TYPES)}"
