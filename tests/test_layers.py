"""Who may import whom: the arrows of the design, held by reading every import of the package.

Each part of the package (a folder or a module directly below it) has a row in `ARROWS`, which
names the parts of the package it may import; itself always. The two edges may not even reach each
other through others. A new part gets a row before its first import.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = "bridge"
ROOT = Path(__file__).parent.parent

ANYTHING = frozenset({""})
BASICS = frozenset({"core", "errors", "retry", "settings", "telemetry"})

ARROWS: dict[str, frozenset[str]] = {
    # Leaves: what everything may lean on.
    "errors": frozenset(),
    "telemetry": frozenset(),
    "retry": frozenset(),
    "pace": frozenset(),
    "words": frozenset(),
    "tables": frozenset(),
    "loop_lag": frozenset({"telemetry"}),
    "logs": frozenset({"settings"}),
    # The pure middle.
    "core": frozenset({"errors"}),
    "settings": frozenset({"core", "errors"}),
    "schemas": frozenset({"core", "errors"}),
    "backlog": frozenset({"core"}),
    "batch_limit": frozenset({"core"}),
    "outbox": frozenset({"batch_limit", "backlog", "core", "telemetry"}),
    "spill": frozenset({"core", "spill_rows"}),
    "spill_rows": frozenset({"core"}),
    "repair": BASICS,
    "pipeline": frozenset({"core", "errors", "repair", "sinks.base", "telemetry"}),
    # The two edges.
    "binance": BASICS,
    "sinks": BASICS | {"backlog", "pace", "outbox", "spill", "spill_rows"},
    # What stands beside the flow: watches it, reads what it wrote, or plays the exchange.
    "http": frozenset({"binance", "core", "errors", "settings", "sinks.base", "telemetry"}),
    "client": frozenset({"core", "errors", "settings"})
    | {"sinks.kafka_client", "sinks.kafka_consumer", "sinks.redis_client"},
    "audit": frozenset({"core", "errors", "settings", "sinks.kafka_reading", "tables"}),
    "simulator": frozenset({"errors"}),
    "embedded": frozenset({"errors"}),
    "verify": BASICS
    | {"audit", "binance", "pipeline", "repair", "simulator", "sinks.base", "sinks.memory"}
    | {"tables", "words"},
    "settings_file": frozenset({"settings"}),
    "reload": frozenset({"core", "errors", "settings", "telemetry"}),
    # What puts the parts together.
    "feeding": ANYTHING,
    "service": ANYTHING,
    "demo": ANYTHING,
    "bench": ANYTHING,
    "commands": ANYTHING,
    "cli": frozenset({"commands", "errors", "logs"}),
    "__main__": frozenset({"cli"}),
}
# No module of the first part reaches one of the second, however many imports lie between.
NEVER_REACHES = [
    ("binance", "sinks"),
    ("sinks", "binance"),
    ("client", "binance"),
    ("audit", "binance"),
]
# What the core may import from outside: nothing that waits, tells the time, draws a number, asks
# the system, logs, or talks to anyone.
CORE_OUTSIDE = frozenset(
    {
        *("collections", "difflib", "enum", "fnmatch", "functools", "itertools"),
        *("msgspec", "operator", "re", "string", "typing", "urllib.parse"),
    }
)


class Import(NamedTuple):
    """One import of one module: where it stands, and the whole name of what it imports."""

    module: str
    file: str
    line: int
    target: str


def sources() -> dict[str, tuple[str, str]]:
    """Each module of the package: its file and its text."""
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        file = path.relative_to(ROOT)
        parts = file.with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[module] = (str(file), path.read_text())
    return found


def imports(modules: Mapping[str, tuple[str, str]]) -> list[Import]:
    """Every import, also inside functions and for type checking only."""
    return [
        Import(module, file, line, target)
        for module, (file, text) in modules.items()
        for line, target in _imports_of(text, module, file, modules)
    ]


def _imports_of(
    text: str, module: str, file: str, modules: Iterable[str]
) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(text, file)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, module, file)
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield node.lineno, whole if whole in modules else base


def _base(node: ast.ImportFrom, module: str, file: str) -> str:
    """What stands behind `from`, with the dots of a relative import resolved."""
    if not node.level:
        return node.module or ""
    package = module.split(".") if file.endswith("__init__.py") else module.split(".")[:-1]
    above = package[: len(package) - node.level + 1]
    return ".".join([*above, *([node.module] if node.module else [])])


def inside(target: str, names: Iterable[str]) -> bool:
    return any(target == name or target.startswith(f"{name}.") for name in names)


def is_ours(target: str) -> bool:
    return inside(target, [PACKAGE])


def part(module: str) -> str:
    """`bridge.core.wire` is of the part `core`."""
    return module.partition(".")[2].partition(".")[0]


def violations(modules: Mapping[str, tuple[str, str]]) -> list[str]:
    """Every import against the arrows, as `file:line: from -> to, why`."""
    found = imports(modules)
    return [*_against_arrows(found), *_impure(found), *_reaching(found, modules)]


def _against_arrows(found: Iterable[Import]) -> Iterator[str]:
    for one in found:
        home, target = part(one.module), one.target.removeprefix(PACKAGE).removeprefix(".")
        if not is_ours(one.target) or not target or part(one.target) == home:
            continue
        if home not in ARROWS:
            yield f"{one.file}:{one.line}: {home!r} has no row in ARROWS"
        elif ARROWS[home] is not ANYTHING and not inside(target, ARROWS[home]):
            yield f"{one.file}:{one.line}: {one.module} -> {one.target}, no arrow"


def _impure(found: Iterable[Import]) -> Iterator[str]:
    for one in found:
        if part(one.module) != "core" or is_ours(one.target) or inside(one.target, CORE_OUTSIDE):
            continue
        yield f"{one.file}:{one.line}: {one.module} -> {one.target}, the core is pure"


def _reaching(found: Iterable[Import], modules: Iterable[str]) -> Iterator[str]:
    arrows: dict[str, set[str]] = {module: set() for module in modules}
    for one in found:
        if is_ours(one.target):
            arrows[one.module] |= {one.target, *_packages_of(one.target)} & arrows.keys()
    for module in arrows:
        for first, last in NEVER_REACHES:
            if part(module) == first:
                yield from _chains(module, last, arrows)


def _packages_of(module: str) -> Iterator[str]:
    """Importing a module runs the packages above it, too."""
    while module := module.rpartition(".")[0]:
        yield module


def _chains(start: str, forbidden: str, arrows: Mapping[str, set[str]]) -> Iterator[str]:
    """The shortest way from a module to each of a forbidden part."""
    ways = {start: [start]}
    queue = [start]
    for module in queue:
        for target in sorted(arrows[module] - ways.keys()):
            ways[target] = [*ways[module], target]
            queue.append(target)
            if part(target) == forbidden:
                yield f"{' -> '.join(ways[target])}: {part(start)} never reaches {forbidden}"


def test_every_import_follows_an_arrow_of_the_design() -> None:
    assert violations(sources()) == []


def test_the_check_reads_the_whole_package() -> None:
    modules = sources()
    assert {"bridge", "bridge.core.wire", "bridge.sinks.kafka", "bridge.service"} <= modules.keys()
    targets = {one.target for one in imports(modules)}
    assert {"asyncio", "msgspec", "bridge.core.wire", "bridge.sinks.base"} <= targets


def test_the_core_has_arrows_to_nothing_but_errors() -> None:
    assert ARROWS["core"] == {"errors"}
    impure = "asyncio socket time random os logging datetime secrets uuid aiokafka redis structlog"
    assert not CORE_OUTSIDE & set(impure.split())


@pytest.mark.parametrize(
    ("module", "line", "complaint"),
    [
        ("core.wire", "import time", "bridge.core.wire -> time, the core is pure"),
        ("core.wire", "import os.path", "bridge.core.wire -> os.path, the core is pure"),
        ("core.wire", "from datetime import datetime", "bridge.core.wire -> datetime, the core"),
        ("core.wire", "import urllib.request", "-> urllib.request, the core is pure"),
        ("core.wire", "    from random import random", "-> random, the core is pure"),
        ("core.wire", "import redis as collections", "-> redis, the core is pure"),
        ("core.wire", "from bridge.telemetry import X", "-> bridge.telemetry, no arrow"),
        ("core.wire", "from bridge import sinks", "-> bridge.sinks, no arrow"),
        ("core.wire", "from ..sinks import base", "-> bridge.sinks.base, no arrow"),
        ("core.wire", "from .. import sinks", "-> bridge.sinks, no arrow"),
        ("binance.leg", "from bridge.sinks.base import Sink", "-> bridge.sinks.base, no arrow"),
        ("binance.leg", "import bridge.sinks", "bridge.binance.leg -> bridge.sinks, no arrow"),
        ("binance.leg", "from bridge.service import Service", "-> bridge.service, no arrow"),
        ("sinks.base", "from bridge.binance import leg", "-> bridge.binance.leg, no arrow"),
        ("client.kafka", "from bridge.sinks.base import Sink", "-> bridge.sinks.base, no arrow"),
        ("simulator", "from bridge.core import wire", "bridge.simulator -> bridge.core.wire, no"),
        ("novelty", "from bridge.core import wire", "'novelty' has no row in ARROWS"),
    ],
)
def test_an_import_against_the_arrows_is_named_with_its_file_and_line(
    module: str, line: str, complaint: str
) -> None:
    modules = made_up()
    file = f"bridge/{module.replace('.', '/')}.py"
    modules[f"bridge.{module}"] = (file, f"import re\n\ndef f() -> None:\n    {line.strip()}\n")
    found = violations(modules)
    assert found
    assert found[0].startswith(f"{file}:4: ")
    assert complaint in found[0]


def test_an_edge_that_reaches_the_other_through_a_third_is_named_with_its_way() -> None:
    modules = made_up()
    modules["bridge.telemetry"] = ("bridge/telemetry.py", "import bridge.sinks.base\n")
    assert (
        "bridge.binance.leg -> bridge.telemetry -> bridge.sinks.base: binance never reaches sinks"
        in violations(modules)
    )


def test_imports_along_the_arrows_are_no_violations() -> None:
    assert violations(made_up()) == []


def made_up() -> dict[str, tuple[str, str]]:
    """A small package that keeps to the arrows."""
    texts = {
        "bridge": "",
        "bridge.errors": "import typing\n",
        "bridge.telemetry": "import time\n",
        "bridge.core": "",
        "bridge.core.wire": "import collections.abc\nfrom bridge.errors import InvalidFrame\n",
        "bridge.sinks": "",
        "bridge.sinks.base": "import asyncio\nfrom bridge.core.wire import Trade\n",
        "bridge.binance": "",
        "bridge.binance.leg": "from bridge.core import wire\nfrom bridge.telemetry import X\n",
        "bridge.client": "",
        "bridge.client.kafka": "import redis\n",
        "bridge.simulator": "import random\n",
        "bridge.service": "from bridge.binance import leg\nfrom bridge.sinks.base import Sink\n",
    }
    return {module: (f"{module.replace('.', '/')}.py", text) for module, text in texts.items()}
