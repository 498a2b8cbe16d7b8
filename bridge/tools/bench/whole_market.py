"""A whole market, made of the recordings of its busiest symbols.

All symbols play the same recorded minute, so they all burst together: no real market is that hard.
Each plays a share of the minute. The shares follow Zipf's law, down to that of a small pair: in the
captures of small pairs, each of them has 3.5 messages per second.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bridge.tools.simulator import Capture, Frame

MINUTE_US = 60_000_000
# In the busiest minute a recorded symbol has about 140 messages per second. The quietest symbols
# play one in 40 of them.
LEAST_SHARE = 40


def whole_market(captures: Sequence[Capture], symbols: int) -> Capture:
    """Return a minute of this number of symbols. Each capture has one symbol."""
    minutes = list(_busiest_minute(captures))
    frames: list[Frame] = []
    for number in range(symbols):
        minute = minutes[number % len(minutes)]
        frames += _shared(minute, f"S{number:04}USDT", number // len(minutes) + 1)
    frames.sort(key=lambda frame: frame.received_us)
    return Capture(Path("whole market"), frames)


def _busiest_minute(captures: Sequence[Capture]) -> Iterator[list[Frame]]:
    """Yield the frames of each capture in the minute around the busiest second of all."""
    seconds = Counter(
        frame.received_us // 1_000_000 for capture in captures for frame in capture.frames
    )
    begin_us = max(seconds, key=lambda second: seconds[second]) * 1_000_000 - MINUTE_US // 2
    for capture in captures:
        begin, end = (
            bisect_left(capture.frames, at_us, key=lambda frame: frame.received_us)
            for at_us in (begin_us, begin_us + MINUTE_US)
        )
        yield capture.frames[begin:end]


def _shared(minute: Sequence[Frame], symbol: str, number: int) -> Iterator[Frame]:
    """Yield one in `number` frames of each stream, as frames of another symbol."""
    keep = min(number, LEAST_SHARE)
    seen: Counter[str] = Counter()
    last: dict[str, int] = {}
    for frame in minute:
        kind = frame.stream.partition("@")[2]
        seen[kind] += 1
        if (seen[kind] + number) % keep == 0:
            payload = _renamed(frame.payload, symbol, last)
            yield Frame(frame.received_us, f"{symbol.lower()}@{kind}", payload)


def _renamed(payload: bytes, symbol: str, last: dict[str, int]) -> bytes:
    """Return a message of another symbol. The ids of trades and depth updates have no holes.

    `last` has the last id of this symbol by the name of its field.
    """
    message: dict[str, Any] = msgspec.json.decode(payload)
    message["s"] = symbol
    if "t" in message:
        message["t"] = last["t"] = last.get("t", message["t"] - 1) + 1
    elif "U" in message:
        first, length = last.get("u", message["U"] - 1) + 1, message["u"] - message["U"]
        message["U"], message["u"] = first, first + length
        last["u"] = first + length
    return msgspec.json.encode(message)
