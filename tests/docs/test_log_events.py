"""docs/reference/logs.md lists the log events of the bridge, with their levels and fields."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "logs.md").read_text()
LEVELS = {
    "debug": "debug",
    "info": "info",
    "warning": "warning",
    "error": "error",
    "exception": "error",
    "_warn_seldom": "warning",
}
# They log sentences, or nothing.
OTHERS = ("client", "tools")


class Event(NamedTuple):
    name: str
    level: str


def logged() -> Iterator[tuple[Event, set[str]]]:
    """Yield each event in the source, with the fields that a call names."""
    bridge = ROOT / "bridge"
    for path in bridge.rglob("*.py"):
        if path.relative_to(bridge).parts[0] not in OTHERS:
            for node in ast.walk(ast.parse(path.read_text())):
                yield from events_of(node)


def events_of(node: ast.AST) -> Iterator[tuple[Event, set[str]]]:
    match node:
        case ast.Call(func=ast.Attribute(attr=method), args=[name, *_], keywords=keywords) if (
            method in LEVELS
        ):
            fields = {keyword.arg for keyword in keywords if keyword.arg}
            for part in ast.walk(name):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield Event(part.value, LEVELS[method]), fields


def documented() -> dict[Event, set[str]]:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.splitlines()
        if line.startswith("| `")
    ]
    return {
        Event(name.strip("`"), level): set(re.findall(r"`(\w+)`", fields))
        for name, level, _meaning, _remedy, fields in rows
    }


def test_every_log_event_is_documented_and_no_other() -> None:
    assert sorted({event for event, _ in logged()}) == sorted(documented())


def test_every_field_of_a_log_event_is_documented() -> None:
    fields = documented()
    for event, named in logged():
        assert named <= fields[event], event
