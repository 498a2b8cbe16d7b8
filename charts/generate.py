"""Write the generated parts of the chart: `make chart`.

In values.schema.json these are `settings`, `secrets` and the definitions they use, which come from
the settings model, and the names of the alerts. In README.md it is the table of values; it comes
from the comments in values.yaml.

The rest of both files is written by hand. Tests check that the generated parts are up to date.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from bridge.settings import settings_schema
from bridge.settings.problems import KEYS, is_secret

CHART = Path(__file__).parent / "tickbridge"
BEGIN, END = "<!-- values -->\n", "<!-- end of values -->\n"
MARK = "# -- "
DURATION = {"type": "string", "pattern": "^([0-9]+(ms|[smhdwy]))+$"}
SECRET = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "key": {"type": "string"}},
    "required": ["name", "key"],
    "additionalProperties": False,
}


def texts() -> dict[Path, str]:
    """Return the new text of both files. The parts written by hand are copied from the files."""
    schema, readme = CHART / "values.schema.json", CHART / "README.md"
    return {
        schema: json.dumps(_schema(json.loads(schema.read_text())), indent=2) + "\n",
        readme: _readme(readme.read_text()),
    }


def _schema(chart: dict[str, Any]) -> dict[str, Any]:
    model = _untitled(settings_schema())
    settings = {
        "description": "The settings file: see `tickbridge config schema`.",
        "type": "object",
        # The templates read host and port, so this section is required.
        "required": ["http"],
        "properties": model["properties"],
        "additionalProperties": False,
    }
    model["$defs"]["Http"]["required"] = ["host", "port"]
    chart["properties"] |= {"settings": settings, "secrets": _secrets()}
    chart["properties"]["prometheusRule"]["properties"]["alerts"] = _alerts()
    chart["$defs"] = model["$defs"]
    return chart


def _secrets() -> dict[str, Any]:
    """Return a closed schema: one reference to a Secret for each key that may hold a password."""
    sections: dict[str, Any] = {}
    for section, key in (name.split(".") for name in KEYS if is_secret(name)):
        sections.setdefault(section, {})[key] = SECRET
    return _closed({name: _closed(keys) for name, keys in sections.items()})


def _alerts() -> dict[str, Any]:
    """Return a closed schema: for each alert `false`, or what replaces its own keys."""
    texts = {"type": "object", "additionalProperties": {"type": "string"}}
    changes = _closed(
        {"expr": {"type": "string"}, "for": DURATION, "labels": texts, "annotations": texts}
    )
    groups = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"]
    names = [rule["alert"] for group in groups for rule in group["rules"]]
    return _closed({name: {"oneOf": [{"const": False}, changes]} for name in names})


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _untitled(node: Any) -> Any:
    """Remove pydantic's titles, which only repeat the keys, and its defaults of whole sections."""
    if isinstance(node, list):
        return [_untitled(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return {"$ref": node["$ref"]}
    return {key: _untitled(value) for key, value in node.items() if key != "title"}


def _readme(text: str) -> str:
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    rows = (f"| `{key}` | {value} | {meaning} |\n" for key, value, meaning in explained())
    return "".join((head, BEGIN, "| value | default | |\n|---|---|---|\n", *rows, END, tail))


def explained() -> Iterator[tuple[str, str, str]]:
    """Yield the dotted key, the default as YAML and the meaning of each commented value."""
    source = (CHART / "values.yaml").read_text()
    lines = source.splitlines()
    root = yaml.compose(source)
    assert root is not None
    for key, line, node in keys(root):
        if meaning := _comment(lines[:line]):
            yield key, "" if _is_block(node) else f"`{_flow(node)}`", meaning


def keys(mapping: yaml.Node, prefix: str = "") -> Iterator[tuple[str, int, yaml.Node]]:
    """Yield each key that has its own line: the dotted key, its line number and its value."""
    for key, node in mapping.value:
        yield f"{prefix}{key.value}", key.start_mark.line, node
        if _is_block(node):
            yield from keys(node, f"{prefix}{key.value}.")


def _is_block(node: yaml.Node) -> bool:
    return isinstance(node, yaml.MappingNode) and not node.flow_style


def _comment(above: list[str]) -> str:
    """Return the text of the comment that ends on the last of these lines, or an empty text."""
    words: list[str] = []
    for line in map(str.strip, reversed(above)):
        if line.startswith(MARK):
            return " ".join((line.removeprefix(MARK), *words))
        if not line.startswith("# "):
            return ""
        words.insert(0, line.removeprefix("# "))
    return ""


def _flow(node: yaml.Node) -> str:
    """Return a value as YAML on one line."""
    value = yaml.safe_load(yaml.serialize(node))
    if isinstance(value, str):
        return value or '""'
    text = yaml.safe_dump(value, default_flow_style=True, width=sys.maxsize, sort_keys=False)
    return text.removesuffix("...\n").strip()


if __name__ == "__main__":
    for path, text in texts().items():
        path.write_text(text, encoding="utf-8")
