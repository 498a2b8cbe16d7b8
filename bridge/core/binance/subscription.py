"""Which streams the settings ask for, once the exchange has said which symbols it lists."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

import msgspec

from bridge.core.model.stream import Stream, parse_stream, stream_of, streams_path

TRADING = "TRADING"
# Web servers refuse a request line of more than 8 KiB by default (414).
MAX_PATH_CHARS = 8000


class Subscription(msgspec.Struct, frozen=True):
    """The streams to open; and for each thing asked for that cannot be had, a sentence."""

    streams: list[Stream]
    refused: list[str]


class Change(NamedTuple):
    """The names of streams that came, and of those that went."""

    added: list[str]
    removed: list[str]


def difference(before: Iterable[Stream], after: Iterable[Stream]) -> Change:
    """How the streams have changed."""
    old = dict.fromkeys(stream.name for stream in before)
    new = dict.fromkeys(stream.name for stream in after)
    return Change([n for n in new if n not in old], [n for n in old if n not in new])


def is_pattern(symbol: str) -> bool:
    """Whether a symbol of the settings stands for several."""
    return "*" in symbol or "?" in symbol


def subscribe(
    symbols: Sequence[str],
    suffixes: Sequence[str],
    extra_streams: Sequence[str],
    listed: Mapping[str, str] | None,
) -> Subscription:
    """The streams of all symbols and suffixes, and the extra ones, each once.

    `listed` maps each symbol of the exchange to its status, or is None where that is unknown: names
    are then taken as they are, and patterns match nothing. A named symbol is kept whatever its
    status, for it may trade again; a pattern takes those that trade.
    """
    refused: list[str] = []
    streams: dict[str, Stream] = {}
    for symbol in _resolve(symbols, listed, refused):
        for suffix in suffixes:
            stream = stream_of(symbol, suffix)
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


def connections_again(
    parts: Sequence[Iterable[str]], streams: Iterable[Stream], most: int
) -> list[list[Stream]]:
    """The streams spread over the connections there are, and further ones behind them: each stays
    where it is, and what is new goes to the first that has room, so that few have to change.

    `parts` has the names of the streams that each connection has; what of them nobody wants any
    more is left out, and that may be all of a part.
    """
    wanted = {stream.name: stream for stream in streams}
    spread = [_Part(most) for _ in parts]
    for part, names in zip(spread, parts, strict=True):
        for name in names:
            if name in wanted and part.has_room_for(wanted[name]):
                part.add(wanted.pop(name))
    for stream in wanted.values():
        if not any(part.has_room_for(stream) for part in spread):
            spread.append(_Part(most))
        next(part for part in spread if part.has_room_for(stream)).add(stream)
    return [part.streams for part in spread]


class _Part:
    """The streams of one connection, and how long its URL is."""

    def __init__(self, most: int) -> None:
        self.streams: list[Stream] = []
        self._most = most
        self._path_chars = len(streams_path(())) - 1  # the first has no stroke before it

    def has_room_for(self, stream: Stream) -> bool:
        room = self._path_chars + _path_chars(stream) <= MAX_PATH_CHARS
        return len(self.streams) < self._most and room

    def add(self, stream: Stream) -> None:
        self.streams.append(stream)
        self._path_chars += _path_chars(stream)


def _path_chars(stream: Stream) -> int:
    """What a further stream adds to a path."""
    return len(streams_path((stream,))) - len(streams_path(())) + 1


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
