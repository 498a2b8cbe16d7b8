"""JSON Schemas of the events, one file each, generated from `core/events.py`.

`x-unit` is ours: the unit of a number, by the name of its field, which means the same everywhere.
What may change in them is ruled in docs/schemas.md.
"""

import json
from pathlib import Path
from typing import Any

import msgspec

from bridge.core.events import EVENT_TYPES, Event

DIALECT = "https://json-schema.org/draft/2020-12/schema"
TIME = "microseconds since 1970-01-01 UTC"
PRICE = "quote asset for one of the base asset"
BASE = "base asset"
QUOTE = "quote asset"
LEVELS = f"[{PRICE}, {BASE}] pairs"
UNITS = {
    **dict.fromkeys(("timestamp", "received", "open_time", "close_time"), TIME),
    **dict.fromkeys(("from_time", "to_time"), TIME),
    **dict.fromkeys(("price", "bid_price", "ask_price", "weighted_average_price"), PRICE),
    **dict.fromkeys(("open", "high", "low", "close", "change"), PRICE),
    **dict.fromkeys(("volume", "bid_volume", "ask_volume", "taker_buy_volume"), BASE),
    **dict.fromkeys(("quote_volume", "taker_buy_quote_volume"), QUOTE),
    **dict.fromkeys(("bids", "asks"), LEVELS),
    "change_percent": "percent",
    "trade_count": "trades",
}
# For fields that have no description of their own.
_DESCRIPTIONS = {
    "message_type": "The kind of the event.",
    "trade_count": "Number of trades in it.",
    "closed": "Whether this is the candle's last state.",
    "price": "The price; null while there is none.",
    "bid_price": "The best price somebody buys at.",
    "bid_volume": "What is wanted at that price.",
    "ask_price": "The best price somebody sells at.",
    "ask_volume": "What is offered at that price.",
    "interval": "The time it covers, as the exchange writes it.",
    "bids": "Buyers' levels, the highest price first in a book.",
    "asks": "Sellers' levels, the lowest price first in a book.",
    "cause": "What interrupted the stream, in a word.",
    "reason": "What is wrong with it: a word, a colon, and the details.",
    "first_id": "The first id that is missing; null where ids say nothing.",
    "last_id": "The last id that is missing; null where ids say nothing.",
    "from_time": "Time of the last event before the gap; null where unknown.",
    "to_time": "Time of the first event behind the gap; null where unknown.",
}
_REWRITE = "tickbridge schemas write"


def schema(event_type: type[Event]) -> dict[str, Any]:
    """The JSON Schema (2020-12) of one event."""
    name = event_type.__name__
    body = msgspec.json.schema(event_type)["$defs"][name]
    message_type = event_type.__struct_config__.tag
    properties = {key: _property(key, value) for key, value in body["properties"].items()}
    properties["message_type"] = {
        "description": _DESCRIPTIONS["message_type"],
        "const": message_type,
    }
    return {
        "$schema": DIALECT,
        "$id": f"urn:tickbridge:event:{message_type}",
        "title": name,
        "description": body["description"],
        "type": "object",
        "properties": properties,
        "required": body["required"],
        "additionalProperties": True,
    }


def write(folder: Path) -> list[Path]:
    """Write all schemas, remove what is none of them; the paths written."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = _texts()
    for path in _present(folder) - texts.keys():
        (folder / path).unlink()
    for path, text in texts.items():
        (folder / path).write_text(text, encoding="utf-8")
    return [folder / path for path in texts]


def check(folder: Path) -> list[str]:
    """How the files differ from the events, a sentence each; empty if they do not."""
    texts = _texts()
    present = _present(folder)
    return [
        *(f"{folder / p} is missing; run {_REWRITE}" for p in texts if p not in present),
        *(
            f"{folder / p} is not what the event is now; see docs/schemas.md, then run {_REWRITE}"
            for p in texts
            if p in present and (folder / p).read_text(encoding="utf-8") != texts[p]
        ),
        *(
            f"{folder / p} is the schema of no event; remove it, or run {_REWRITE}"
            for p in sorted(present - texts.keys())
        ),
    ]


def _texts() -> dict[str, str]:
    """Each file's name and content."""
    return {
        f"{message_type}.json": json.dumps(schema(event_type), indent=2, ensure_ascii=False) + "\n"
        for message_type, event_type in EVENT_TYPES.items()
    }


def _present(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.json")}


def _property(name: str, body: dict[str, Any]) -> dict[str, Any]:
    description = {"description": _DESCRIPTIONS[name]} if name in _DESCRIPTIONS else {}
    unit = {"x-unit": UNITS[name]} if name in UNITS else {}
    return description | body | unit
