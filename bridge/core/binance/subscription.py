"""Select the streams that the settings ask for, from the symbols that the exchange lists."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

import msgspec

from bridge.core.binance.stream_names import parse_stream, stream_of, streams_path
from bridge.core.model.stream import Stream

# The status of a symbol that does not trade: it is delisted, or the exchange is in maintenance.
BREAK = "BREAK"
# Several times what the exchange lists.
LISTED_MAX = 20_000
# How many streams or symbols a log entry names.
NAMED_MAX = 20
# Web servers refuse a request line of more than 8 KiB by default (414).
MAX_PATH_CHARS = 8000


class Subscription(msgspec.Struct, frozen=True):
    """The streams to open, and what is missing.

    `refused` has one sentence for each setting that cannot be satisfied, `waiting` one for each
    pattern whose symbols do not trade yet or are not known yet. `unlisted` has the symbols of the
    settings that the exchange does not list.
    """

    streams: list[Stream] = []
    refused: list[str] = []
    waiting: list[str] = []
    unlisted: list[str] = []

    @property
    def problems(self) -> list[str]:
        """Return all sentences."""
        return self.refused + self.waiting


class Change(NamedTuple):
    """The names of the added streams and of the removed streams."""

    added: list[str]
    removed: list[str]

    def summary(self) -> dict[str, int | list[str]]:
        """Return what a log entry says about it: the first names, and how many there are."""
        return {
            "added": self.added[:NAMED_MAX],
            "removed": self.removed[:NAMED_MAX],
            "streams_added": len(self.added),
            "streams_removed": len(self.removed),
        }


def difference(before: Iterable[Stream], after: Iterable[Stream]) -> Change:
    """Return the difference between two sets of streams."""
    old = dict.fromkeys(stream.name for stream in before)
    new = dict.fromkeys(stream.name for stream in after)
    return Change([n for n in new if n not in old], [n for n in old if n not in new])


def is_pattern(symbol: str) -> bool:
    """Return whether a symbol of the settings is a pattern for several symbols."""
    return "*" in symbol or "?" in symbol


def updated(before: Mapping[str, bool] | None, statuses: Mapping[str, str]) -> dict[str, bool]:
    """Return each symbol that the exchange has listed, and whether patterns match it.

    `before` is the result for the previous answer, None if there was none; `statuses` is the new
    answer. Patterns match a symbol that is not in BREAK. What they have matched once they match for
    good: the symbol is halted or in maintenance, and trades again. A symbol that was not there
    before is about to trade.
    """
    known = before or {}
    listed = dict(known) if len(known.keys() | statuses.keys()) <= LISTED_MAX else {}
    for symbol, status in statuses.items():
        is_new = before is not None and symbol not in before
        listed[symbol] = is_new or status != BREAK or known.get(symbol, False)
    return listed


def subscribe(
    symbols: Sequence[str],
    suffixes: Sequence[str],
    extra_streams: Sequence[str],
    listed: Mapping[str, bool] | None,
) -> Subscription:
    """Return the streams of all symbols and suffixes and the extra streams, without duplicates.

    `listed` is the result of `updated`. If it is None, the exchange has not answered yet: names are
    accepted unchecked, and patterns wait. A named symbol is kept whatever its status.
    """
    found = Subscription()
    streams: dict[str, Stream] = {}
    for symbol in _resolve(symbols, listed, found):
        for suffix in suffixes:
            stream = stream_of(symbol, suffix)
            streams[stream.name] = stream
    for name in extra_streams:
        stream = parse_stream(name)
        if stream.symbol is None or _is_listed(stream.symbol, listed, found):
            streams[stream.name] = stream
    found.streams.extend(streams.values())
    return found


def make_bundles(streams: Sequence[Stream], most: int) -> list[list[Stream]]:
    """Spread the streams evenly over as few connections as possible.

    A connection has at most `most` streams, and its URL has a maximum length.
    """
    count = -(-len(streams) // most)
    while count < len(streams) and not _fit_urls(_spread(streams, count)):
        count += 1
    return _spread(streams, count)


def update_bundles(
    bundles: Sequence[Iterable[str]], streams: Iterable[Stream], most: int
) -> list[list[Stream]]:
    """Spread changed streams over the existing connections so that few connections change.

    `bundles` holds the stream names of each existing connection. A stream stays on its connection.
    A new stream goes to the first connection with room, or to a new connection at the end of the
    list. Streams that are no longer wanted are left out, so a bundle of the result may be empty.
    """
    wanted = {stream.name: stream for stream in streams}
    spread = [_Bundle(most) for _ in bundles]
    for bundle, names in zip(spread, bundles, strict=True):
        for name in names:
            if name in wanted and bundle.has_room_for(wanted[name]):
                bundle.add(wanted.pop(name))
    for stream in wanted.values():
        if not any(bundle.has_room_for(stream) for bundle in spread):
            spread.append(_Bundle(most))
        next(bundle for bundle in spread if bundle.has_room_for(stream)).add(stream)
    return [bundle.streams for bundle in spread]


class _Bundle:
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


def _fit_urls(bundles: list[list[Stream]]) -> bool:
    return all(len(streams_path(bundle)) <= MAX_PATH_CHARS for bundle in bundles)


def _spread(streams: Sequence[Stream], count: int) -> list[list[Stream]]:
    return [list(streams[index::count]) for index in range(count)]


def _resolve(
    symbols: Sequence[str], listed: Mapping[str, bool] | None, found: Subscription
) -> Iterator[str]:
    for symbol in symbols:
        if is_pattern(symbol):
            yield from _matches(symbol, listed, found)
        elif _is_listed(symbol, listed, found):
            yield symbol


def _matches(pattern: str, listed: Mapping[str, bool] | None, found: Subscription) -> list[str]:
    """Return the symbols that a pattern matches."""
    if listed is None:
        found.waiting.append(f"{pattern!r} waits until the exchange says which symbols it lists")
        return []
    of_pattern = [symbol for symbol in listed if fnmatchcase(symbol, pattern)]
    matches = [symbol for symbol in of_pattern if listed[symbol]]
    if not of_pattern:
        found.refused.append(f"the exchange lists no symbol that matches {pattern!r}")
    elif not matches:
        found.waiting.append(f"{pattern!r} waits until a symbol that it matches trades")
    return matches


def _is_listed(symbol: str, listed: Mapping[str, bool] | None, found: Subscription) -> bool:
    if listed is None or symbol in listed:
        return True
    close = difflib.get_close_matches(symbol, listed, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    found.refused.append(f"the exchange lists no symbol {symbol!r}{hint}")
    found.unlisted.append(symbol)
    return False
