"""A second, independent decoder of frames, with `json.loads`, for comparison."""

import json
from typing import NamedTuple

from tests.support.events import RECEIVED, Fields


class Rule(NamedTuple):
    """The rule for one kind of payload.

    It has the message type, the key of the time, and the key of each other field of the event.
    """

    message_type: str
    time: str | None
    strings: dict[str, str] = {}  # noqa: RUF012 - read only
    times: dict[str, str] = {}  # noqa: RUF012 - read only
    within: str = ""
    taker: bool = False


_BEST = {"bid_price": "b", "bid_volume": "B", "ask_price": "a", "ask_volume": "A"}
_DAY = {"price": "c", "open": "o", "high": "h", "low": "l", "volume": "v", "quote_volume": "q"}
_WINDOW = {
    **_DAY,
    "change": "p",
    "change_percent": "P",
    "weighted_average_price": "w",
    "trade_count": "n",
}
_CANDLE = {
    **{name: key for name, key in _DAY.items() if name != "price"},
    "close": "c",
    "trade_count": "n",
    "taker_buy_volume": "V",
    "taker_buy_quote_volume": "Q",
    "closed": "x",
}
_DEAL = {"trade_id": "t", "price": "p", "volume": "q"}
_OPEN_CLOSE = {"open_time": "O", "close_time": "C"}
_RULES: dict[str, Rule] = {
    "trade": Rule("trade", "T", _DEAL, taker=True),
    "blockTrade": Rule("block_trade", "T", _DEAL, taker=True),
    "aggTrade": Rule(
        "agg_trade",
        "T",
        {
            "agg_trade_id": "a",
            "first_trade_id": "f",
            "last_trade_id": "l",
            "price": "p",
            "volume": "q",
        },
        taker=True,
    ),
    "bookTicker": Rule("quote", None, {"update_id": "u", **_BEST}),
    "ticker": Rule("ticker", "E", {**_WINDOW, **_BEST}, _OPEN_CLOSE),
    "ticker_": Rule("ticker", "E", _WINDOW, _OPEN_CLOSE),
    "miniTicker": Rule("mini_ticker", "E", _DAY),
    "kline_": Rule("candle", "E", _CANDLE, {"open_time": "t", "close_time": "T"}, within="k"),
    "avgPrice": Rule("average_price", "E", {"interval": "i", "price": "w"}),
    "book": Rule("book", None, {"last_update_id": "lastUpdateId", "bids": "bids", "asks": "asks"}),
    "depth": Rule(
        "book_delta",
        "E",
        {"first_update_id": "U", "last_update_id": "u", "bids": "b", "asks": "a"},
    ),
    "referencePrice": Rule("reference_price", "t", {"price": "r"}),
}


def read(frame: str | bytes, received: int = RECEIVED) -> list[Fields]:
    """Return a frame's events, read only from the JSON and the stream's name."""
    envelope = json.loads(frame)
    members = envelope["data"] if isinstance(envelope["data"], list) else [envelope["data"]]
    return [_read_payload(envelope["stream"], member, received) for member in members]


def _read_payload(stream: str, data: Fields, received: int) -> Fields:
    symbol, _, kind = stream.removesuffix("@arr").rpartition("!")[2].partition("@")
    kind = kind or symbol
    rule, detail = _rule(kind)
    body = data[rule.within] if rule.within else data
    fields: Fields = {
        "message_type": rule.message_type,
        "venue": "binance.spot",
        "symbol": data.get("s", symbol.upper()),
        "timestamp": _microseconds(data[rule.time]) if rule.time else None,
        "received": received,
        "source": "websocket",
    }
    fields |= {name: body[key] for name, key in rule.strings.items()}
    fields |= {name: _microseconds(body[key]) for name, key in rule.times.items()}
    if rule.taker:
        fields["side"] = "sell" if data["m"] is True else "buy"
    if rule.message_type in {"ticker", "candle"}:
        fields["window" if rule.message_type == "ticker" else "interval"] = detail or "24h"
    return fields


def _rule(kind: str) -> tuple[Rule, str]:
    for prefix in ("ticker_", "kline_"):
        if kind.startswith(prefix):
            return _RULES[prefix], kind.removeprefix(prefix)
    if kind.startswith("depth"):
        partial = kind.partition("@")[0] in {"depth5", "depth10", "depth20"}
        return _RULES["book" if partial else "depth"], ""
    return _RULES[kind], ""


def _microseconds(time: int) -> int:
    return time * 1000 if len(str(time)) <= len("1790960630913") else time
