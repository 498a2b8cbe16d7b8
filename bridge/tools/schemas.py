"""JSON Schemas of the events, one file each, generated from `core/model/events.py`.

`x-unit` is ours: the unit of a number. What may change in them is ruled in docs/schemas.md.
"""

import json
from pathlib import Path
from typing import Any

import msgspec

from bridge.core.model.events import EVENT_TYPES, Event

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REWRITE = "tickbridge schemas write"


def schema(event_type: type[Event]) -> dict[str, Any]:
    """The JSON Schema (2020-12) of one event."""
    name = event_type.__name__
    body = msgspec.json.schema(event_type)["$defs"][name]
    message_type = event_type.__struct_config__.tag
    properties = {key: _property(value) for key, value in body["properties"].items()}
    properties["message_type"] = {"description": "The kind of the event.", "const": message_type}
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


def _property(body: dict[str, Any]) -> dict[str, Any]:
    """One field; what is said of a value that may be null is said of the field."""
    said: dict[str, Any] = {}
    for choice in body.get("anyOf", ()):
        said |= {key: choice.pop(key) for key in ("description", "x-unit") if key in choice}
    return said | body
