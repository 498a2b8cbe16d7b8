"""The message_types of events a reader may ask for, and where each is filed."""

import difflib
from collections.abc import Iterable, Sequence

from bridge.client.events import EVENT_TYPES
from bridge.core.model.stream import stream_of, upper_symbol

MESSAGE_TYPES = tuple(EVENT_TYPES)


def check_message_types(message_types: Iterable[str]) -> tuple[str, ...]:
    """Return the message_types, each once. Raises ValueError for one that is no message type."""
    unique = tuple(dict.fromkeys(message_types))
    if not unique:
        raise ValueError(f"no kind of event is named; known: {', '.join(MESSAGE_TYPES)}")
    for kind in unique:
        if kind not in EVENT_TYPES:
            raise ValueError(f"{kind!r} is no kind of event; {_hint(kind)}")
    return unique


def upper_symbols(symbols: Sequence[str]) -> tuple[str, ...]:
    """The symbols as the exchange writes them, each once."""
    return tuple(dict.fromkeys(map(upper_symbol, symbols)))


def _hint(kind: str) -> str:
    """Binance's own name is a likely mistake: aggTrade for agg_trade, bookTicker for quote."""
    try:
        return f"the events of that stream are {stream_of('any', kind).message_type!r}"
    except ValueError:
        close = difflib.get_close_matches(kind.lower(), MESSAGE_TYPES, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(MESSAGE_TYPES)}"
