"""What stands above the figures: where everything is, and what to try. Printed once, so that it
can be selected and copied while the figures below change.
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
    """Where the parts of the demo can be reached: `host:port`, and two URLs."""

    kafka: str
    redis: str
    redis_kind: str
    http: str


def introduce(
    console: Console, exchange: Exchange, addresses: Addresses, symbol: str, kind: str
) -> None:
    """Print source, addresses and commands; `symbol` and `kind` are the commands' examples."""

    def line(text: str, style: str = "") -> None:
        console.print(text, style=style, soft_wrap=True, markup=False, highlight=False)

    line("Tickbridge demo", "bold")
    line(f"  Source  {exchange.title}")
    for reason in exchange.reasons:
        line(f"          {reason}", "dim")
    line(f"  Kafka   {addresses.kafka}  (librdkafka's mock cluster)")
    line(f"  Redis   {addresses.redis}  ({_redis(addresses.redis_kind)})")
    line(f"  HTTP    {addresses.http}/readyz  {addresses.http}/metrics")
    line("Try in a second terminal", "bold")
    for command in commands(addresses, symbol, kind):
        line(f"  {command}", "cyan")


def _redis(kind: str) -> str:
    """Say so where latencies come from: fakeredis looks for new messages every 10 ms."""
    return f"{kind}, up to 10 ms late" if kind.startswith("fakeredis") else kind


def commands(addresses: Addresses, symbol: str, kind: str) -> list[str]:
    """Commands that work as they stand, from the same folder."""
    tickbridge = program()
    return [
        f"{tickbridge} price {shlex.quote(symbol)} --redis {addresses.redis}",
        f"{tickbridge} tail {kind} --kafka {addresses.kafka} --count 5",
        f"curl {addresses.http}/metrics",
    ]


def program() -> str:
    """How this program is called from the folder it was started in."""
    if shutil.which(PROGRAM):
        return PROGRAM
    started = Path(sys.argv[0]).absolute()
    if started.name == PROGRAM:
        return shlex.quote(_shortest(started))
    return f"{shlex.quote(_shortest(Path(sys.executable)))} -m bridge"


def _shortest(path: Path) -> str:
    folder = Path.cwd()
    return os.fspath(path.relative_to(folder) if path.is_relative_to(folder) else path)
