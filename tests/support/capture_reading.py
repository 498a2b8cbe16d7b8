"""Reads captures without any of the bridge's code, so that tests can compare with them."""

import gzip
import json
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def read_capture(path: Path) -> dict[str, list[Row]]:
    """Return the expected events by topic suffix, in file order; `received` is left out."""
    expected: dict[str, list[Row]] = {"trade": [], "quote": [], "book_delta": []}
    with gzip.open(path, "rt") as lines:
        for line in lines:
            frame = json.loads(line.split(" ", 1)[1])
            if "stream" in frame:  # the recorder's REST snapshot has none
                row = _READERS[frame["stream"].split("@")[1]](frame["data"])
                expected[row["message_type"]].append(row)
    return expected


def _trade(data: Row) -> Row:
    return _row(
        "trade",
        data,
        data["T"] * 1000,
        trade_id=data["t"],
        price=data["p"],
        volume=data["q"],
        side="sell" if data["m"] else "buy",
    )


def _quote(data: Row) -> Row:
    return _row(
        "quote",
        data,
        None,
        update_id=data["u"],
        bid_price=data["b"],
        bid_volume=data["B"],
        ask_price=data["a"],
        ask_volume=data["A"],
    )


def _book_delta(data: Row) -> Row:
    return _row(
        "book_delta",
        data,
        data["E"] * 1000,
        first_update_id=data["U"],
        last_update_id=data["u"],
        bids=data["b"],
        asks=data["a"],
    )


def _row(message_type: str, data: Row, timestamp: int | None, **own: object) -> Row:
    return {
        "message_type": message_type,
        "venue": "binance.spot",
        "symbol": data["s"],
        "timestamp": timestamp,
        "source": "websocket",
        **own,
    }


_READERS = {"trade": _trade, "bookTicker": _quote, "depth": _book_delta}
