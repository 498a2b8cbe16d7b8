"""Options and helpers that several commands share."""

import re
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer
from rich.markup import escape

if TYPE_CHECKING:
    import asyncio

    from rich.progress import Progress, ProgressColumn

    from bridge.brokers.kafka_reader import OnProgress
    from bridge.settings import Settings

T = TypeVar("T")

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        show_default=False,
        help="Settings file; by default tickbridge.yaml in this folder, if it exists. "
        "Environment variables override it.",
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
        help="Play this recording; repeat the option for more recordings.",
    ),
]

Symbols = Annotated[
    str | None,
    typer.Option(
        metavar="A,B",
        show_default=False,
        help="Symbols to use instead of binance.symbols and extra_streams.",
    ),
]
Streams = Annotated[
    str | None,
    typer.Option(
        metavar="A,B", show_default=False, help="Streams to use instead of binance.streams."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the whole report as one JSON object.")]
OnlySymbols = Annotated[
    list[str],
    typer.Option(
        "--symbol",
        show_default=False,
        help="Only this symbol; repeat the option for more symbols.",
    ),
]
Brokers = Annotated[
    str | None,
    typer.Option(
        "--kafka",
        metavar="HOST:PORT",
        show_default=False,
        help="Brokers to use instead of those in the settings.",
    ),
]


def examples(*lines: str) -> str:
    """Return the examples for the end of a command's help, one per line."""
    return "\n".join(("[bold]Examples[/bold]", *(f"  {escape(line)}" for line in lines)))


def comma_separated(text: str | None) -> list[str]:
    """Return the items of a comma-separated option."""
    return [item.strip() for item in (text or "").split(",") if item.strip()]


def message_types(incomplete: str) -> list[str]:
    """Return the message types that begin with a text, to complete it in a shell."""
    from bridge.core.model.events import EVENT_TYPES

    return [kind for kind in EVENT_TYPES if kind.startswith(incomplete)]


Kinds = Annotated[
    str,
    typer.Argument(
        metavar="KIND",
        autocompletion=message_types,
        help="Message type: trade, agg_trade, quote, ticker, candle, book, gap… "
        "Several are separated by commas.",
    ),
]

_AGO = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def since(text: str, option: str = "--from") -> "Literal['earliest', 'latest'] | datetime":
    """Return what an option says: earliest, latest, a time in UTC, or how long ago.

    Raises BadParameter if the text says none of these.
    """
    if text == "earliest":
        return "earliest"
    if text == "latest":
        return "latest"
    try:
        if ago := _AGO.fullmatch(text):
            return datetime.now(UTC) - timedelta(seconds=float(ago[1]) * _UNITS_S[ago[2]])
        time = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(
            f"{text!r} is no time; write earliest, latest, a time in UTC like 2026-11-28T09:30, or "
            "how long ago, like 90s, 15m, 2h or 1d",
            param_hint=option,
        ) from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def subscription(symbols: str | None, streams: str | None) -> dict[str, object]:
    """Return the keys of the section `binance` that the options override.

    With `symbols`, the extra streams of the settings are left out too.
    """
    chosen: dict[str, object] = {}
    if symbols:
        chosen |= {"symbols": comma_separated(symbols), "extra_streams": []}
    return chosen | ({"streams": comma_separated(streams)} if streams else {})


def print_json(report: object) -> None:
    """Print a report as one JSON object."""
    sys.stdout.buffer.write(json_of(report))


def json_of(report: object) -> bytes:
    """Return a report as one JSON object for people, with an end of line."""
    import msgspec

    return msgspec.json.format(msgspec.json.encode(report)) + b"\n"


def check_folder(path: Path | None, option: str) -> None:
    """Raise BadParameter if the folder of a file that is to be written does not exist."""
    if path and not path.parent.is_dir():
        raise typer.BadParameter(f"the folder {path.parent} does not exist", param_hint=option)


def write_file(path: Path, content: bytes, option: str) -> None:
    """Write a file that an option names. Raises BadParameter."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise typer.BadParameter(f"cannot write {path}: {error}", param_hint=option) from error


def progress_bar(*columns: "ProgressColumn") -> "Progress":
    """Return a progress bar on standard error, which shows only if that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def record_progress(description: str) -> "Iterator[OnProgress]":
    """Show the progress on standard error if that is a terminal, and yield the update function.

    The bar shows the share, the records, and the records per second.
    """
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[records]:,} records"),
        TextColumn("{task.fields[rate]:,.0f}/s"),
        TimeElapsedColumn(),
    )
    with progress_bar(*columns) as progress:
        task = progress.add_task(description, total=None, records=0, rate=0.0)

        def update(records: int, remaining: int) -> None:
            total = progress.tasks[0].total or remaining
            rate = records / (progress.tasks[0].elapsed or 1)
            progress.update(
                task, total=total, completed=total - remaining, records=records, rate=rate
            )

        yield update


def reader_settings(
    config: Path | None, *, kafka: str | None = None, redis: str | None = None
) -> "Settings":
    """Return the settings for a command that only reads Kafka or Redis. It needs no symbols, and no
    room for records that wait.

    `kafka` and `redis` replace the brokers and the URL of the settings.
    """
    from bridge.settings import Settings, load_settings

    of_kafka: dict[str, object] = {"outbox_max_bytes": "1MiB"}
    overrides: dict[str, object] = {
        "binance": {"symbols": ["ANY"], "streams": ["trade"], "extra_streams": []},
        "kafka": of_kafka | ({"bootstrap_servers": kafka} if kafka else {}),
        "data_dir": None,
        "spill_max_bytes": Settings.model_fields["spill_max_bytes"].default,
    }
    if redis:
        overrides["redis"] = {"url": redis}
    return load_settings(config, overrides=overrides)


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine, on uvloop if it is installed, and return its result."""
    import asyncio

    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    with suppress(ImportError):  # only the service requires it
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(_until_terminated(work))


async def _until_terminated(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine, and cancel it once if a signal ends the command.

    The handler of `main` raises an error in whatever runs at that moment: a library may swallow it,
    and a second signal would break off the cleanup.
    """
    import asyncio
    import signal

    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    is_terminated = False

    def terminate() -> None:
        nonlocal is_terminated
        if task is not None and not is_terminated:
            is_terminated = True
            task.cancel()

    for number in (signal.SIGTERM, signal.SIGHUP):
        if callable(signal.getsignal(number)):  # set by `main`, and not ignored
            loop.add_signal_handler(number, terminate)
    try:
        return await work
    except asyncio.CancelledError:
        if is_terminated:
            raise SystemExit(128 + signal.SIGTERM) from None
        raise


def stopped_by_signal() -> "asyncio.Event":
    """Return an event that SIGINT and SIGTERM set, instead of their default action."""
    import asyncio
    import signal

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    return stopped
