"""Writes docs/settings.md and docs/metrics.md from what they describe: `make docs`.

A test holds the files to be what this writes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bridge.app.service import Service
from bridge.monitoring.metrics import BridgeCollector
from bridge.monitoring.status import Status
from bridge.settings import load_settings, settings_schema

FOLDER = Path(__file__).parent
MADE = "<!-- made by `make docs`: change the code instead -->\n\n"
SETTINGS_HEAD = """# Settings

One YAML file; every key can also come from the environment, in capitals with two underscores
between section and key (`TICKBRIDGE_KAFKA__BOOTSTRAP_SERVERS`), or from a file named there
(`TICKBRIDGE_KAFKA__PASSWORD_FILE`). The environment goes before the file. An unknown key is an
error that names the nearest known one. `tickbridge config check` tells everything that is wrong,
`tickbridge config show` what would be used, `tickbridge config schema` is for editors.

Symbols and streams of a file that changes count at once
([how](operations.md#symbols-and-streams)); everything else counts from the next start.
"""
METRICS_HEAD = """# Metrics

At `/metrics`, in Prometheus' text format. Units are base units, labels are bounded (no symbols),
and every series that may come is there from the start, at zero. Counting costs nothing per message:
plain integers are read when they are scraped. The usual `process_*` metrics are there too.
"""


def settings_text() -> str:
    """The page of all settings."""
    schema = settings_schema()
    sections, single = {}, {}
    for name, value in schema["properties"].items():
        if "$ref" in value:
            sections[name] = schema["$defs"][value["$ref"].rpartition("/")[2]]
        else:
            single[name] = value
    text = SETTINGS_HEAD.replace("\n\n", f"\n\n{MADE}", 1)
    for name, section in sections.items():
        text += f"\n## {name}\n{section['description']}\n\n" + _table(section["properties"])
    return text + "\n## Outside the sections\n\n" + _table(single)


def _table(keys: dict[str, Any]) -> str:
    rows = [f"| `{name}` | {_default(key)} | {_meaning(key)} |\n" for name, key in keys.items()]
    return "| key | default | meaning |\n|---|---|---|\n" + "".join(rows)


def _default(key: dict[str, Any]) -> str:
    default = key.get("default")
    if default is None or default == []:
        return ""
    if isinstance(default, list):
        return f"`[{', '.join(default)}]`"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _meaning(key: dict[str, Any]) -> str:
    sentence = key["description"].replace("\n", " ").replace("|", r"\|")
    choices = [value for part in (key, *key.get("anyOf", ())) for value in part.get("enum", ())]
    bounds = [
        f"{word} {key[name]:,}"
        for name, word in (
            ("minimum", "at least"),
            ("exclusiveMinimum", "above"),
            ("maximum", "at most"),
        )
        if name in key
    ]
    notes = [*bounds, *([f"one of {', '.join(f'`{c}`' for c in choices)}"] if choices else [])]
    return f"{sentence} ({'; '.join(notes)})" if notes else sentence


def metrics_text() -> str:
    """The page of all metrics."""
    rows = (
        f"| `{name}` | {kind} | {labels} | {text} |\n" for name, kind, labels, text in _metrics()
    )
    table = "| metric | type | labels | meaning |\n|---|---|---|---|\n" + "".join(rows)
    return METRICS_HEAD.replace("\n\n", f"\n\n{MADE}", 1) + "\n" + table


def _metrics() -> Iterator[tuple[str, str, str, str]]:
    """Name, type, labels and meaning of each, as a bridge exposes it."""
    binance = {"symbols": ["BTCUSDT"]}
    status: Status = Service(load_settings(environment={}, overrides={"binance": binance})).status
    for family in BridgeCollector(status).collect():
        labels = dict.fromkeys(label for sample in family.samples for label in sample.labels)
        labels.pop("le", None)
        name = family.name + ("_total" if family.type == "counter" else "")
        yield (
            f"`{name}`",
            family.type,
            ", ".join(f"`{label}`" for label in labels),
            family.documentation,
        )


PAGES = {"settings.md": settings_text, "metrics.md": metrics_text}

if __name__ == "__main__":
    for name, text in PAGES.items():
        (FOLDER / name).write_text(text())
