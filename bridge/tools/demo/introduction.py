"""The introduction above the figures: addresses, and commands to try.

It is printed once, so that it can be selected and copied while the figures below it change.
"""

import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bridge.tools.demo.source import Exchange

PROGRAM = "tickbridge"


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of the demo: `kafka` as `host:port`, `redis` and `http` as URLs."""

    kafka: str
    redis: str
    redis_kind: str
    http: str


def introduce(
    console: Console, exchange: Exchange, addresses: Addresses, symbol: str, kind: str
) -> None:
    """Print source, addresses and commands. The commands use `symbol` and `kind` as examples."""

    def line(text: str, style: str = "") -> None:
        console.print(text, style=style, soft_wrap=True, markup=False, highlight=False)

    line("Tickbridge demo", "bold")
    line(f"  Source  {exchange.title}")
    for reason in exchange.reasons:
        line(f"          {reason}", "dim")
    line(f"  Kafka   {addresses.kafka}  (librdkafka's mock cluster)")
    line(f"  Redis   {addresses.redis}  ({addresses.redis_kind})")
    line(f"  HTTP    {addresses.http}/readyz  {addresses.http}/metrics")
    line(f"  Browser {addresses.http}/")
    line("Try in a second terminal", "bold")
    for command in commands(addresses, symbol, kind):
        line(f"  {command}", "cyan")


def commands(addresses: Addresses, symbol: str, kind: str) -> list[str]:
    """Return commands that can be pasted unchanged, in the same folder."""
    tickbridge = program()
    return [
        f"{tickbridge} price {shlex.quote(symbol)} --redis {addresses.redis}",
        f"{tickbridge} tail {kind} --kafka {addresses.kafka} --count 5",
        f"{tickbridge} status --url {addresses.http}",
        f"{tickbridge} audit --kafka {addresses.kafka}",
        f"curl {addresses.http}/metrics",
    ]


def program() -> str:
    """Return the command that starts this program from the current folder."""
    if shutil.which(PROGRAM):
        return PROGRAM
    started = Path(sys.argv[0]).absolute()
    if started.name == PROGRAM:
        return shlex.quote(_shortest(started))
    return f"{shlex.quote(_shortest(Path(sys.executable)))} -m bridge"


def _shortest(path: Path) -> str:
    folder = Path.cwd()
    return os.fspath(path.relative_to(folder) if path.is_relative_to(folder) else path)
