"""JSON Schemas of the events, one file each, generated from `core/model/events.py`.

`x-unit` is our own keyword: the unit of a number. docs/reference/events.md says which changes are
allowed.
"""

import json
from pathlib import Path
from typing import Any

import msgspec

from bridge.core.model.events import EVENT_TYPES, Event

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REWRITE = "tickbridge schemas write"


def schema(event_type: type[Event]) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of one event."""
    name = event_type.__name__
    body = msgspec.json.schema(event_type)["$defs"][name]
    message_type = event_type.__struct_config__.tag
    properties = {key: _property(value) for key, value in body["properties"].items()}
    properties["message_type"] = {
        "description": "The message type of the event.",
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
    """Write all schemas, remove other JSON files from `folder`, and return the paths written."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = _texts()
    for path in _present(folder) - texts.keys():
        (folder / path).unlink()
    for path, text in texts.items():
        (folder / path).write_text(text, encoding="utf-8")
    return [folder / path for path in texts]


def check(folder: Path) -> list[str]:
    """Return a sentence for each file that differs from the events, an empty list if none does."""
    texts = _texts()
    present = _present(folder)
    return [
        *(f"{folder / p} is missing; run {_REWRITE}" for p in texts if p not in present),
        *(
            f"{folder / p} differs from its event; read docs/reference/events.md, run {_REWRITE}"
            for p in texts
            if p in present and (folder / p).read_text(encoding="utf-8") != texts[p]
        ),
        *(
            f"{folder / p} belongs to no event; remove it, or run {_REWRITE}"
            for p in sorted(present - texts.keys())
        ),
    ]


def _texts() -> dict[str, str]:
    """Return the content of each schema file by its name."""
    return {
        f"{message_type}.json": json.dumps(schema(event_type), indent=2, ensure_ascii=False) + "\n"
        for message_type, event_type in EVENT_TYPES.items()
    }


def _present(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.json")}


def _property(body: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a field. If it may be null, description and unit move to the field."""
    said: dict[str, Any] = {}
    for choice in body.get("anyOf", ()):
        said |= {key: choice.pop(key) for key in ("description", "x-unit") if key in choice}
    return said | body
