"""Select the streams that the settings ask for, from the symbols that the exchange lists."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

import msgspec

from bridge.core.binance.stream_names import parse_stream, stream_of, streams_path
from bridge.core.model.stream import Stream

TRADING = "TRADING"
# Web servers refuse a request line of more than 8 KiB by default (414).
MAX_PATH_CHARS = 8000


class Subscription(msgspec.Struct, frozen=True):
    """The streams to open, one sentence for each setting that cannot be satisfied, and the symbols
    of the settings that the exchange does not list.
    """

    streams: list[Stream]
    refused: list[str]
    unlisted: list[str] = []


class Change(NamedTuple):
    """The names of the added streams and of the removed streams."""

    added: list[str]
    removed: list[str]


def difference(before: Iterable[Stream], after: Iterable[Stream]) -> Change:
    """Return the difference between two sets of streams."""
    old = dict.fromkeys(stream.name for stream in before)
    new = dict.fromkeys(stream.name for stream in after)
    return Change([n for n in new if n not in old], [n for n in old if n not in new])


def is_pattern(symbol: str) -> bool:
    """Return whether a symbol of the settings is a pattern for several symbols."""
    return "*" in symbol or "?" in symbol


def subscribe(
    symbols: Sequence[str],
    suffixes: Sequence[str],
    extra_streams: Sequence[str],
    listed: Mapping[str, str] | None,
) -> Subscription:
    """Return the streams of all symbols and suffixes and the extra streams, without duplicates.

    `listed` maps each symbol of the exchange to its status. If it is None, the listing is unknown:
    names are accepted unchecked, and patterns match nothing. A named symbol is kept whatever its
    status, because it may trade again. A pattern matches only symbols that trade.
    """
    refused: list[str] = []
    unlisted: list[str] = []
    streams: dict[str, Stream] = {}
    for symbol in _resolve(symbols, listed, refused, unlisted):
        for suffix in suffixes:
            stream = stream_of(symbol, suffix)
            streams[stream.name] = stream
    for name in extra_streams:
        stream = parse_stream(name)
        if stream.symbol is None or _is_listed(stream.symbol, listed, refused, unlisted):
            streams[stream.name] = stream
    return Subscription(list(streams.values()), refused, unlisted)


def make_shards(streams: Sequence[Stream], most: int) -> list[list[Stream]]:
    """Spread the streams evenly over as few connections as possible.

    A connection has at most `most` streams, and its URL has a maximum length.
    """
    count = -(-len(streams) // most)
    while count < len(streams) and not _fit_urls(_spread(streams, count)):
        count += 1
    return _spread(streams, count)


def update_shards(
    shards: Sequence[Iterable[str]], streams: Iterable[Stream], most: int
) -> list[list[Stream]]:
    """Spread changed streams over the existing connections so that few connections change.

    `shards` holds the stream names of each existing connection. A stream stays on its connection. A
    new stream goes to the first connection with room, or to a new connection at the end of the
    list. Streams that are no longer wanted are left out, so a shard of the result may be empty.
    """
    wanted = {stream.name: stream for stream in streams}
    spread = [_Shard(most) for _ in shards]
    for shard, names in zip(spread, shards, strict=True):
        for name in names:
            if name in wanted and shard.has_room_for(wanted[name]):
                shard.add(wanted.pop(name))
    for stream in wanted.values():
        if not any(shard.has_room_for(stream) for shard in spread):
            spread.append(_Shard(most))
        next(shard for shard in spread if shard.has_room_for(stream)).add(stream)
    return [shard.streams for shard in spread]


class _Shard:
    """The streams of one connection, and the length of its URL path."""

    def __init__(self, most: int) -> None:
        self.streams: list[Stream] = []
        self._most = most
        self._path_chars = len(streams_path(())) - 1  # no slash before the first stream

    def has_room_for(self, stream: Stream) -> bool:
        room = self._path_chars + _path_chars(stream) <= MAX_PATH_CHARS
        return len(self.streams) < self._most and room

    def add(self, stream: Stream) -> None:
        self.streams.append(stream)
        self._path_chars += _path_chars(stream)


def _path_chars(stream: Stream) -> int:
    """Return the number of characters that one more stream adds to a path."""
    return len(streams_path((stream,))) - len(streams_path(())) + 1


def _fit_urls(shards: list[list[Stream]]) -> bool:
    return all(len(streams_path(shard)) <= MAX_PATH_CHARS for shard in shards)


def _spread(streams: Sequence[Stream], count: int) -> list[list[Stream]]:
    return [list(streams[index::count]) for index in range(count)]


def _resolve(
    symbols: Sequence[str],
    listed: Mapping[str, str] | None,
    refused: list[str],
    unlisted: list[str],
) -> Iterator[str]:
    for symbol in symbols:
        if is_pattern(symbol):
            matches = [s for s, status in (listed or {}).items() if _trades(s, status, symbol)]
            if not matches:
                refused.append(f"binance.symbols: no trading symbol matches {symbol!r}")
            yield from matches
        elif _is_listed(symbol, listed, refused, unlisted):
            yield symbol


def _trades(symbol: str, status: str, pattern: str) -> bool:
    return status == TRADING and fnmatchcase(symbol, pattern)


def _is_listed(
    symbol: str, listed: Mapping[str, str] | None, refused: list[str], unlisted: list[str]
) -> bool:
    if listed is None or symbol in listed:
        return True
    close = difflib.get_close_matches(symbol, listed, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    refused.append(f"the exchange lists no symbol {symbol!r}{hint}")
    unlisted.append(symbol)
    return False
