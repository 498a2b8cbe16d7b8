"""Shared parts of the simulator's tests: small markets, and a client's view of a message."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bridge.tools.simulator import Capture, Frame, Market, Message

BEGIN_MS = 1_790_000_000_000


def capture_of(messages: Iterable[Message], *, every_us: int = 1_000) -> Capture:
    frames = [
        Frame(BEGIN_MS * 1000 + index * every_us, stream, payload)
        for index, (stream, payload) in enumerate(messages)
    ]
    return Capture(Path("made-up"), frames)


def trade_message(trade_id: int, at_ms: int, symbol: str = "BTCUSDT") -> Message:
    payload = (
        f'{{"e":"trade","E":{at_ms},"s":"{symbol}","t":{trade_id},"p":"61837.63000000",'
        f'"q":"0.02000000","T":{at_ms},"m":true,"M":true}}'
    )
    return f"{symbol.lower()}@trade", payload.encode()


def trades(count: int, first_id: int = 100, symbol: str = "BTCUSDT") -> list[Message]:
    return [trade_message(first_id + index, BEGIN_MS + index, symbol) for index in range(count)]


def market(*symbols: str, seed: int = 7, trades_per_second: float = 20.0) -> Market:
    return Market(
        symbols or ("BTCUSDT",),
        seed=seed,
        begin_ms=BEGIN_MS,
        trades_per_second=trades_per_second,
    )


def decoded(messages: Sequence[Message], stream: str) -> list[Any]:
    return [json.loads(payload) for name, payload in messages if name == stream]
