"""What several commands take, and how they are run."""

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


def examples(*lines: str) -> str:
    """The examples at the end of a command's help, one a line."""
    return "\n".join(("[bold]Examples[/bold]", *(f"  {escape(line)}" for line in lines)))


def comma_separated(text: str | None) -> list[str]:
    """The items of an option that holds several."""
    return [item.strip() for item in (text or "").split(",") if item.strip()]


def duration(seconds: float) -> str:
    """A time in the largest unit it fills: `0.4 s`, `3 h`."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s"


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
