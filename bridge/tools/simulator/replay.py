"""Captures as a market: merged by time, played once or in rounds."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from bridge.tools.simulator.candles import Bar
from bridge.tools.simulator.capture import Capture, Snapshot
from bridge.tools.simulator.errors import SimulatorError
from bridge.tools.simulator.fields import Space, ascii_upper, symbol_of
from bridge.tools.simulator.looping import Loop
from bridge.tools.simulator.recorded_book import RecordedBook
from bridge.tools.simulator.source import Message

# Captures further apart than this are of different days: they are moved to start together.
_SAME_SESSION_US = 600 * 1_000_000
_SEAM_US = 1_000

_DEPTH_UPDATES = re.compile(r"@depth(@|$)")


class Replay:
    """A `Source` that plays captures in the order of their receive times.

    The first round is what the files contain, byte for byte. With `loop`, later rounds follow, with
    shifted ids and times (see `looping`). Raises SimulatorError if there is nothing to play.
    """

    def __init__(self, captures: Iterable[Capture], *, loop: bool = False) -> None:
        captures = list(captures)
        if not captures:
            raise SimulatorError("no capture to replay; name at least one file")
        timed = sorted(_placed(captures), key=lambda item: item[0])
        self._begin_us = timed[0][0]
        self._offsets_us = [moment - self._begin_us for moment, _ in timed]
        self._messages: list[Message] = [message for _, message in timed]
        self._duration_us = self._offsets_us[-1] + _SEAM_US
        self._loop = Loop(self._messages, self._duration_us) if loop else None
        self._round = 0
        self._next = 0
        self._books = self._recorded_books(captures)
        self.symbols = _symbols(self._messages)

    @property
    def played_once(self) -> bool:
        return self._round > 0

    @property
    def now_ms(self) -> int:
        played_us = self._offsets_us[self._next - 1] if self._next else 0
        if self._loop is None:
            played_us = max(played_us, self._round * self._duration_us)
            return (self._begin_us + played_us) // 1000
        return (self._begin_us + played_us) // 1000 + self._round * self._loop.shift_ms

    def begin(self) -> None:
        """Do nothing: a recording has its own times."""

    def due_us(self) -> int | None:
        if self._loop is None and self.played_once:
            return None
        return self._round * self._duration_us + self._offsets_us[self._next]

    def take(self, until_us: int | None, limit: int) -> Sequence[Message]:
        """Return the next messages, never of two rounds at once."""
        begin, end = self._next, min(self._next + limit, len(self._messages))
        if self.due_us() is None:
            return ()
        if until_us is not None:
            until_us -= self._round * self._duration_us
            end = bisect_right(self._offsets_us, until_us, begin, end)
        messages = self._between(begin, end)
        self._next = end
        if end == len(self._messages):
            self._round += 1
            self._next = 0
        return messages

    def want(self, streams: frozenset[str]) -> None:
        """Do nothing: leaving a recorded message out saves nothing."""

    def candles(self, symbol: str, spans: Sequence[tuple[int, int]]) -> Sequence[Bar]:  # noqa: ARG002
        """Return none: a capture has only the candles that it plays."""
        return ()

    def depth(self, symbol: str, limit: int) -> bytes:
        book = self._books.get(symbol, RecordedBook())
        book.advance(self._round, self._next)
        return book.answer(limit)

    def _between(self, begin: int, end: int) -> Sequence[Message]:
        if self._loop is None or self._round == 0:
            return self._messages[begin:end]
        moved, round_number = self._loop.moved, self._round
        return [(self._messages[i][0], moved(i, round_number)) for i in range(begin, end)]

    def _recorded_books(self, captures: Iterable[Capture]) -> dict[str, RecordedBook]:
        books: dict[str, RecordedBook] = {}
        for index, (stream, payload) in enumerate(self._messages):
            if _DEPTH_UPDATES.search(stream):
                symbol = symbol_of(stream)
                if symbol not in books:
                    shift = self._loop.id_shift(symbol, Space.BOOK) if self._loop else 0
                    books[symbol] = RecordedBook(shift)
                books[symbol].updates.append((index, payload))
        for snapshot in _first_snapshots(captures):
            if snapshot.symbol in books:
                books[snapshot.symbol].load(snapshot.payload)
        return books


def _placed(captures: Iterable[Capture]) -> Iterator[tuple[int, Message]]:
    """Yield each message with its time; a capture of another day is moved to the first one."""
    ordered = sorted(captures, key=lambda capture: capture.frames[0].received_us)
    begin_us = end_us = ordered[0].frames[0].received_us
    for capture in ordered:
        own_begin_us = capture.frames[0].received_us
        move_us = begin_us - own_begin_us if own_begin_us > end_us + _SAME_SESSION_US else 0
        latest_us = 0
        for received_us, stream, payload in capture.frames:
            latest_us = max(latest_us, received_us + move_us)  # if the clock was set back
            yield latest_us, (stream, payload)
        end_us = max(end_us, latest_us)


def _first_snapshots(captures: Iterable[Capture]) -> Iterable[Snapshot]:
    first: dict[str, Snapshot] = {}
    for capture in captures:
        for snapshot in capture.snapshots:
            first.setdefault(snapshot.symbol, snapshot)
    return first.values()


class _Row(msgspec.Struct, gc=False):
    s: str = ""


_decode_rows = msgspec.json.Decoder(list[_Row]).decode


def _symbols(messages: Iterable[Message]) -> tuple[str, ...]:
    """Return the symbols of the streams; for streams of all symbols, those of their rows."""
    found: dict[str, None] = {}
    for stream, payload in messages:
        if not stream.startswith("!"):
            found.setdefault(stream)
        elif payload.startswith(b"["):
            found.update(dict.fromkeys(row.s for row in _decode_rows(payload)))
    named = (ascii_upper(name.partition("@")[0]) for name in found)
    return tuple(dict.fromkeys(symbol for symbol in named if symbol))
