"""What several commands take, and how they are run."""

import sys
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.markup import escape

if TYPE_CHECKING:
    import asyncio

    from bridge.settings import Settings

T = TypeVar("T")

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        show_default=False,
        help="Settings; without it tickbridge.yaml in this folder, if there is one, "
        "then the environment.",
    ),
]
Captures = Annotated[
    list[Path],
    typer.Option(
        "--capture",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        show_default=False,
        help="Play this recording; again for each further one.",
    ),
]

Symbols = Annotated[
    str | None,
    typer.Option(metavar="A,B", show_default=False, help="Instead of binance.symbols."),
]
Streams = Annotated[
    str | None,
    typer.Option(metavar="A,B", show_default=False, help="Instead of binance.streams."),
]


def examples(*lines: str) -> str:
    """The examples at the end of a command's help, one a line."""
    return "\n".join(("[bold]Examples[/bold]", *(f"  {escape(line)}" for line in lines)))


def comma_separated(text: str | None) -> list[str]:
    """The items of an option that holds several."""
    return [item.strip() for item in (text or "").split(",") if item.strip()]


def subscription(symbols: str | None, streams: str | None) -> dict[str, object]:
    """What goes before the settings' section `binance`."""
    chosen: dict[str, object] = {}
    if symbols:
        chosen |= {"symbols": comma_separated(symbols), "extra_streams": []}
    return chosen | ({"streams": comma_separated(streams)} if streams else {})


def print_json(report: object) -> None:
    """Write a report as one JSON object."""
    import msgspec

    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(report)) + b"\n")


def reader_settings(config: Path | None, **sections: Mapping[str, object]) -> "Settings":
    """Settings of a command that only reads Kafka or Redis: it needs no symbols."""
    from bridge.settings import load_settings

    nothing = {"symbols": ["ANY"], "streams": ["trade"], "extra_streams": []}
    return load_settings(config, overrides={"binance": nothing, **sections})


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, on uvloop."""
    import asyncio

    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def stopped_by_signal() -> "asyncio.Event":
    """An event that SIGINT and SIGTERM set, in place of what they do otherwise."""
    import asyncio
    import signal

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    return stopped
