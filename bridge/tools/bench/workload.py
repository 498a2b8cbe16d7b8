"""The load: real frames from captures, or invented ones, evenly spread at a given rate.

The load is even so that one number describes it. Due messages are sent each millisecond. The bursts
of a capture are lost; the scenario `burst` has one of a known height instead. Only a whole market
is played at a multiple of its own times, with its bursts.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import NamedTuple

import msgspec

from bridge.tools.bench.whole_market import whole_market
from bridge.tools.simulator import Capture, Frame, Message, Replay, Source, messages
from bridge.tools.simulator.candles import Bar
from bridge.tools.simulator.instrument import Fill
from bridge.tools.simulator.listing import UNIT

INVENTED_FRAMES = 60_000
_BEGIN_MS = 1_700_000_000_000
# Recorded BTCUSDT streams have about three quotes for each trade.
_TURNS = {"bookTicker": 3}


class Wire(NamedTuple):
    """How frames come to the bridge: its settings `binance.transport` and `binance.compression`."""

    transport: str
    compression: str

    @property
    def is_compressed(self) -> bool:
        return self.compression == "deflate"


WIRES = {
    "websockets": Wire("websockets", "none"),
    "deflate": Wire("websockets", "deflate"),
    "picows": Wire("picows", "none"),
}


class Phase(msgspec.Struct, frozen=True):
    """A number of messages per second, for a number of seconds. A whole market has a rate of 0."""

    rate: int
    seconds: float


class Load(msgspec.Struct, frozen=True):
    """The input of a generator. Without phases it plays at full speed until it is stopped.

    `captures` are files. Without files, messages of `symbols` symbols are invented. `streams` are
    the streams of each symbol; invented messages are for trade, aggTrade and bookTicker only.

    With `speed` the captures become a whole market of `symbols` symbols, which is played at this
    multiple of its own times for the seconds of the only phase.
    """

    phases: tuple[Phase, ...] = ()
    captures: tuple[str, ...] = ()
    symbols: int = 3
    streams: tuple[str, ...] = ("trade", "bookTicker")
    port: int = 0
    speed: float | None = None


def read_source(load: Load) -> Replay:
    """Return a source that plays the frames of a load in a loop.

    Raises CaptureError if a file cannot be read, and SimulatorError if none has these streams.
    """
    captures = [Capture.read(Path(path)) for path in load.captures] or [_invented(load)]
    kinds = tuple(f"@{kind}" for kind in load.streams)
    for capture in captures:
        capture.frames = [frame for frame in capture.frames if frame.stream.endswith(kinds)]
    captures = [capture for capture in captures if capture.frames]
    if load.speed is not None:
        captures = [whole_market(captures, load.symbols)]
    return Replay(captures, loop=True)


def _invented(load: Load) -> Capture:
    """Invent messages. The symbols take turns with the same pattern, so the mix never changes."""
    symbols = [f"S{number:04}USDT" for number in range(load.symbols)]
    pattern = [kind for kind in load.streams for _ in range(_TURNS.get(kind, 1))]
    frames = []
    for number in range(INVENTED_FRAMES):
        turn, place = divmod(number, len(symbols))
        round_number, kind = turn // len(pattern), pattern[turn % len(pattern)]
        payload = _payload(kind, symbols[place], turn, round_number)
        frames.append(Frame(number * 1000, f"{symbols[place].lower()}@{kind}", payload))
    return Capture(Path("invented"), frames)


def _payload(kind: str, symbol: str, turn: int, round_number: int) -> bytes:
    price = (60_000 + turn % 100) * UNIT
    fill = Fill(round_number + 1, price, UNIT // 100, buy=bool(turn % 2))
    time_ms = _BEGIN_MS + turn
    match kind:
        case "trade":
            return messages.trade(symbol, time_ms, fill)
        case "aggTrade":
            return messages.aggregate_trade(symbol, time_ms, round_number + 1, [fill])
        case _:
            return messages.quote(symbol, turn, (price, UNIT, price + UNIT // 100, 2 * UNIT))


class Schedule:
    """The due time of each message of a load, in microseconds since the load began."""

    def __init__(self, phases: Sequence[Phase]) -> None:
        self._phases = phases
        self.begins_us = [0, *accumulate(round(phase.seconds * 1e6) for phase in phases)]
        self._counts = [0, *accumulate(round(phase.rate * phase.seconds) for phase in phases)]

    @property
    def total(self) -> int:
        """Return the number of messages."""
        return self._counts[-1]

    def due_us(self, number: int) -> int:
        """Return the due time of a message. The first message has number 0."""
        phase = bisect_right(self._counts, number) - 1
        before_us = -((self._counts[phase] - number) * 10**6 // self._rate(phase))
        return self.begins_us[phase] + before_us

    def count_by(self, time_us: int) -> int:
        """Return the number of messages that are due by this time."""
        if time_us >= self.begins_us[-1]:
            return self.total
        phase = bisect_right(self.begins_us, time_us) - 1
        passed_us = time_us - self.begins_us[phase]
        due = self._counts[phase] + passed_us * self._rate(phase) // 10**6 + 1
        return min(due, self._counts[phase + 1])

    def windows_us(self) -> list[tuple[int, int]]:
        """Return the beginning and the end of each phase."""
        return list(pairwise(self.begins_us))

    def _rate(self, phase: int) -> int:
        return self._phases[phase].rate


class Offered:
    """A `Source` that hands out the messages of another source by a schedule, and counts them.

    Without a schedule it hands them out when that source does, until `end_us` on its clock.
    """

    played_once = False

    def __init__(
        self, source: Source, schedule: Schedule | None, end_us: float = float("inf")
    ) -> None:
        self.count = 0
        self._source = source
        self._schedule = schedule
        self._end_us = end_us

    @property
    def symbols(self) -> Sequence[str]:
        return self._source.symbols

    @property
    def now_ms(self) -> int:
        return self._source.now_ms

    def begin(self) -> None:
        self._source.begin()

    def due_us(self) -> int | None:
        if self._schedule is None:
            due_us = self._source.due_us()
            return due_us if due_us is not None and due_us < self._end_us else None
        return None if self.count >= self._schedule.total else self._schedule.due_us(self.count)

    def take(self, until_us: int | None, limit: int) -> Sequence[Message]:
        if self._schedule is None:
            taken = self._source.take(until_us, limit)
        else:
            due = self._schedule.total if until_us is None else self._schedule.count_by(until_us)
            limit = min(limit, due - self.count)
            taken = self._source.take(None, limit) if limit > 0 else ()
        self.count += len(taken)
        return taken

    def want(self, streams: frozenset[str]) -> None:
        self._source.want(streams)

    def candles(self, symbol: str, spans: Sequence[tuple[int, int]]) -> Sequence[Bar]:
        return self._source.candles(symbol, spans)

    def depth(self, symbol: str, limit: int) -> bytes:
        return self._source.depth(symbol, limit)
