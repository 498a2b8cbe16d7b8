"""Which streams the settings ask for, once the exchange has said which symbols it lists."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

import msgspec

from bridge.core.streams import Stream, parse_stream, stream_of, streams_path

TRADING = "TRADING"
# Web servers refuse a request line of more than 8 KiB by default (414).
MAX_PATH_CHARS = 8000


class Subscription(msgspec.Struct, frozen=True):
    """The streams to open; and for each thing asked for that cannot be had, a sentence."""

    streams: list[Stream]
    refused: list[str]


def is_pattern(symbol: str) -> bool:
    """Whether a symbol of the settings stands for several."""
    return "*" in symbol or "?" in symbol


def subscribe(
    symbols: Sequence[str],
    kinds: Sequence[str],
    extra_streams: Sequence[str],
    listed: Mapping[str, str] | None,
) -> Subscription:
    """The streams of all symbols and kinds, and the extra ones, each once.

    `listed` maps each symbol of the exchange to its status, or is None where that is unknown: names
    are then taken as they are, and patterns match nothing. A named symbol is kept whatever its
    status, for it may trade again; a pattern takes those that trade.
    """
    refused: list[str] = []
    streams: dict[str, Stream] = {}
    for symbol in _resolve(symbols, listed, refused):
        for kind in kinds:
            stream = stream_of(symbol, kind)
            streams[stream.name] = stream
    for name in extra_streams:
        stream = parse_stream(name)
        if stream.symbol is None or _is_listed(stream.symbol, listed, refused):
            streams[stream.name] = stream
    return Subscription(list(streams.values()), refused)


def connections(streams: Sequence[Stream], most: int) -> list[list[Stream]]:
    """The streams spread evenly over as few connections as `most` a connection, and the length of
    a URL, allow.
    """
    count = -(-len(streams) // most)
    while count < len(streams) and not _fit_urls(_spread(streams, count)):
        count += 1
    return _spread(streams, count)


def _fit_urls(parts: list[list[Stream]]) -> bool:
    return all(len(streams_path(part)) <= MAX_PATH_CHARS for part in parts)


def _spread(streams: Sequence[Stream], count: int) -> list[list[Stream]]:
    return [list(streams[index::count]) for index in range(count)]


def _resolve(
    symbols: Sequence[str], listed: Mapping[str, str] | None, refused: list[str]
) -> Iterator[str]:
    for symbol in symbols:
        if is_pattern(symbol):
            matches = [s for s, status in (listed or {}).items() if _trades(s, status, symbol)]
            if not matches:
                refused.append(f"binance.symbols: no symbol that trades matches {symbol!r}")
            yield from matches
        elif _is_listed(symbol, listed, refused):
            yield symbol


def _trades(symbol: str, status: str, pattern: str) -> bool:
    return status == TRADING and fnmatchcase(symbol, pattern)


def _is_listed(symbol: str, listed: Mapping[str, str] | None, refused: list[str]) -> bool:
    if listed is None or symbol in listed:
        return True
    close = difflib.get_close_matches(symbol, listed, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    refused.append(f"the exchange lists no symbol {symbol!r}{hint}")
    return False
