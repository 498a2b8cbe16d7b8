"""Later rounds of a capture: the same messages with their ids and times shifted.

Every message is split once into a pattern and its numbers. A round adds one amount per symbol and
kind of number, and fills the pattern again. So ids stay contiguous and times keep rising from one
round to the next, and strings, prices and the order of fields cannot change.
"""

from collections.abc import Iterable, Sequence
from operator import add
from typing import NamedTuple

from bridge.tools.simulator.fields import MICROSECONDS_FROM, TIMES, Number, Space, kind_of, numbers
from bridge.tools.simulator.source import Message

_MINUTE_MS = 60_000

# Ids that must continue without a hole decide the shift of their space; the others follow.
_RANK = {"trade": 0, "aggTrade": 1}
_LAST_RANK = 2

# Messages that name the id they continue: the field, the id that it follows, and the step.
# Quotes go beyond the last depth update, so the first update of a round must close the distance.
_CHAINS = (("pu", "u", 0), ("U", "u", 1), ("f", "l", 1))
_CHAINED_KINDS = frozenset({"depth", "aggTrade"})

Move = tuple[str, Space, int]
"""Symbol, space, and how many units of the number make one of the space (1000 for µs)."""


class _Template(NamedTuple):
    pattern: bytes
    values: tuple[int, ...]
    moves: tuple[Move, ...]


class _Span:
    __slots__ = ("high", "low")

    def __init__(self, value: int) -> None:
        self.low = self.high = value

    def include(self, value: int) -> None:
        self.low = min(self.low, value)
        self.high = max(self.high, value)

    @property
    def length(self) -> int:
        return self.high - self.low + 1


class Loop:
    """The messages of one round, and the same messages in any later round."""

    def __init__(self, messages: Sequence[Message], duration_us: int) -> None:
        self._found = [list(numbers(*message)) for message in messages]
        self._shifts = _shifts(messages, self._found)
        self.shift_ms = _time_shift_ms(messages, self._found, duration_us)
        self._templates = [
            _template(payload, found)
            for (_, payload), found in zip(messages, self._found, strict=True)
        ]
        self._bridge(messages)
        del self._found
        self._round = 0
        self._amounts: dict[tuple[Move, ...], tuple[int, ...]] = {}

    def moved(self, index: int, round_number: int) -> bytes:
        """Return message `index` of round `round_number`; round 0 is the capture itself."""
        if round_number != self._round:
            self._round = round_number
            self._amounts.clear()
        pattern, values, moves = self._templates[index]
        amounts = self._amounts.get(moves)
        if amounts is None:
            amounts = tuple(round_number * self._shift(move) for move in moves)
            self._amounts[moves] = amounts
        return pattern % tuple(map(add, values, amounts))

    def id_shift(self, symbol: str, space: Space) -> int:
        """Return by how much a round shifts the ids of one space."""
        return self._shifts.get((symbol, space), 0)

    def _shift(self, move: Move) -> int:
        symbol, space, scale = move
        return self.shift_ms * scale if space in TIMES else self.id_shift(symbol, space)

    def _bridge(self, messages: Sequence[Message]) -> None:
        first: dict[str, int] = {}
        last: dict[str, int] = {}
        for index, (stream, _) in enumerate(messages):
            if kind_of(stream) in _CHAINED_KINDS:
                first.setdefault(stream, index)
                last[stream] = index
        for stream, index in first.items():
            self._templates[index] = self._bridged(index, last[stream])

    def _bridged(self, first: int, last: int) -> _Template:
        """Return the first message of a chain as it follows the last one of the round before."""
        template = self._templates[first]
        keys = {number.key: position for position, number in enumerate(self._found[first])}
        ends = {number.key: number.value for number in self._found[last]}
        for key, follows, step in _CHAINS:
            if key in keys and follows in keys and follows in ends:
                symbol, space, _ = template.moves[keys[key]]
                value = ends[follows] + step - self.id_shift(symbol, space)
                values = list(template.values)
                if value <= values[keys[follows]]:
                    values[keys[key]] = value
                return template._replace(values=tuple(values))
        return template


def _template(payload: bytes, found: Iterable[Number]) -> _Template:
    pieces: list[bytes] = []
    values: list[int] = []
    moves: list[Move] = []
    copied = 0
    for number in found:
        pieces += payload[copied : number.start].replace(b"%", b"%%"), b"%d"
        copied = number.end
        values.append(number.value)
        moves.append((number.symbol, number.space, _scale(number)))
    pieces.append(payload[copied:].replace(b"%", b"%%"))
    return _Template(b"".join(pieces), tuple(values), tuple(moves))


def _scale(number: Number) -> int:
    return 1000 if number.space in TIMES and number.value >= MICROSECONDS_FROM else 1


def _shifts(
    messages: Sequence[Message], found: Sequence[Sequence[Number]]
) -> dict[tuple[str, Space], int]:
    """Return the number of ids that a round uses up, by symbol and kind of id."""
    spans: dict[tuple[str, Space, int], _Span] = {}
    for (stream, _), in_message in zip(messages, found, strict=True):
        rank = _RANK.get(kind_of(stream), _LAST_RANK)
        for number in in_message:
            if number.space in TIMES:
                continue
            if number.space is Space.TRADE and rank == _LAST_RANK and number.key != "L":
                continue  # the first trade of a candle or window may be a day old
            key = (number.symbol, number.space, rank)
            spans.setdefault(key, _Span(number.value)).include(number.value)
    shifts: dict[tuple[str, Space], int] = {}
    for symbol, space, rank in sorted(spans, key=lambda key: key[2]):
        shifts.setdefault((symbol, space), spans[symbol, space, rank].length)
    return shifts


def _time_shift_ms(
    messages: Sequence[Message], found: Sequence[Sequence[Number]], duration_us: int
) -> int:
    """Return by how much a round shifts the times.

    It is more than the whole round spans; with candles, whole minutes.
    """
    spans: dict[str, _Span] = {}
    for in_message in found:
        for number in in_message:
            if number.space is Space.CLOCK:
                value = number.value // _scale(number)
                spans.setdefault(number.symbol, _Span(value)).include(value)
    longest = max((span.length for span in spans.values()), default=0)
    shift = max(longest, duration_us // 1000 + 1)
    if any(kind_of(stream) == "kline" for stream, _ in messages):
        return -(-shift // _MINUTE_MS) * _MINUTE_MS
    return shift
