"""JSON Schemas, one file each: of the events, generated from `core/model/events.py`, and of the
answer of `/status`, from `monitoring/report.py`.

`x-unit` is our own keyword: the unit of a number. docs/reference/events.md says which changes are
allowed.
"""

import json
from pathlib import Path
from typing import Any

import msgspec

from bridge.core.model.events import EVENT_TYPES, Event
from bridge.monitoring.report import Report

DIALECT = "https://json-schema.org/draft/2020-12/schema"
HTTP_STATUS = "http_status"
NAMES = (*EVENT_TYPES, HTTP_STATUS)
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


def status_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the answer of `/status`."""
    whole = msgspec.json.schema(Report)
    bodies = whole["$defs"]
    for body in bodies.values():
        for field, value in body["properties"].items():
            body["properties"][field] = _property(value)
    return {
        "$schema": DIALECT,
        "$id": f"urn:tickbridge:{HTTP_STATUS}",
        **bodies.pop(Report.__name__),
        "$defs": bodies,
    }


def text(name: str) -> str:
    """Return the schema of one of NAMES, as JSON for people."""
    found = status_schema() if name == HTTP_STATUS else schema(EVENT_TYPES[name])
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


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
            f"{folder / p} differs from the code; read docs/reference/events.md, run {_REWRITE}"
            for p in texts
            if p in present and (folder / p).read_text(encoding="utf-8") != texts[p]
        ),
        *(
            f"{folder / p} belongs to nothing; remove it, or run {_REWRITE}"
            for p in sorted(present - texts.keys())
        ),
    ]


def _texts() -> dict[str, str]:
    """Return the content of each schema file by its name."""
    return {f"{name}.json": text(name) for name in NAMES}


def _present(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.json")}


def _property(body: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a field. If it may be null, description and unit move to the field."""
    said: dict[str, Any] = {}
    for choice in body.get("anyOf", ()):
        said |= {key: choice.pop(key) for key in ("description", "x-unit") if key in choice}
    return said | body
