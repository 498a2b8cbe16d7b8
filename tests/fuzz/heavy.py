"""Inputs that might cost more than their length: many parts, deep nesting, long names and numbers,
numbers far apart.
"""

import json
from collections.abc import Callable
from typing import Any

from tests.support.events import FRAMES

# Returns an input of about so many bytes.
Heavy = Callable[[int], bytes]

_TRADE: dict[str, Any] = json.loads(FRAMES["trade"])
_MINI: dict[str, Any] = json.loads(FRAMES["miniTicker"])["data"]
_ROW = {"price": "1", "qty": "2", "time": 1791600000123, "isBuyerMaker": True}


def _repeated(part: bytes, begin: bytes = b"", end: bytes = b"") -> Heavy:
    return lambda size: begin + part * max(1, (size - len(begin + end)) // len(part)) + end


def _joined(part: Callable[[int], str], length: int, begin: str, end: str, by: str = ",") -> Heavy:
    """Join numbered parts, each of about this length."""
    return lambda size: (begin + by.join(map(part, range(size // length))) + end).encode()


def _trade(**changes: object) -> str:
    return json.dumps({**_TRADE, "data": _TRADE["data"] | changes})


def _mini(number: int) -> str:
    return json.dumps(_MINI | {"s": f"S{number}USDT"})


_MARKET = '{"stream":"!miniTicker@arr","data":['

HEAVY: dict[str, dict[str, Heavy]] = {
    "frames": {
        "empty frames": _repeated(b"\n"),
        "one trade": _repeated(FRAMES["trade"].encode() + b"\n"),
        "trades far apart": _joined(lambda n: _trade(t=n * 10**9 + 1), 230, "", "", "\n"),
        "trades backwards": _joined(lambda n: _trade(t=10**9 - n), 230, "", "", "\n"),
        "every other trade": _joined(lambda n: _trade(t=2 * n + 1), 230, "", "", "\n"),
        "a market of many": _joined(_mini, 230, _MARKET, "]}"),
        "a market of nothing": _repeated(b"{},", _MARKET.encode(), b"{}]}"),
        "brackets": _repeated(b"["),
        "a long price": lambda size: _trade(p="9" * size).encode(),
        "a long number": _repeated(b"9", b'{"stream":"btcusdt@trade","data":{"t":', b"}}"),
        "a long name": lambda size: _trade(s="A" * size).encode(),
        "bytes that are no text": _repeated(b"\xff"),
    },
    "answers": {
        "rows": _joined(lambda n: json.dumps(_ROW | {"id": n}), 80, "[", "]"),
        "bad rows": _repeated(b"{},", b"[", b"{}]"),
        "symbols": _joined(
            lambda n: f'{{"symbol":"S{n}","status":"BREAK"}}', 38, '{"symbols":[', "]}"
        ),
        "brackets": _repeated(b"["),
        "a long number": _repeated(b"9", b'{"serverTime":', b"}"),
    },
    "settings": {
        "unknown keys": _joined(lambda n: f"k{n}: 1", 10, "", "", "\n"),
        "wrong symbols": _joined(lambda n: f"'s {n}'", 10, "binance: {symbols: [", "]}"),
        "brackets": _repeated(b"[", b"binance: "),
        "a number by sixty": _repeated(b":1", b"http: {port: 1", b"}"),
        "a long number": _repeated(b"9", b"http: {port: ", b"}"),
        "lists in lists": _joined(lambda n: f"a{n}: &a{n + 1} [*a{n}]", 18, "x: &a0 x\n", "", "\n"),
        "merged again and again": _joined(
            lambda n: f"a{n}: &a{n + 1} {{<<: *a{n}, b{n}: 1}}", 30, "x: &a0 {}\n", "", "\n"
        ),
    },
    "chunks": {
        "nothing": _repeated(b"\xc0", b"\xdd\x7f\xff\xff\xff"),
        "a count without content": lambda size: b"\xdd\xff\xff\xff\xff" + b"\x90" * size,
        "arrays": _repeated(b"\x91"),
    },
    "records": {
        "brackets": _repeated(b"["),
        "a long number": _repeated(b"9", b'{"message_type":"trade","trade_id":', b"}"),
        "many fields": _joined(lambda n: f'"f{n}":"1"', 10, "{", "}"),
        "a long text": _repeated(b"a", b'{"message_type":"', b'"}'),
    },
}
