"""`tickbridge verify`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.cli.options import (
    AsJson,
    Config,
    Streams,
    Symbols,
    check_folder,
    examples,
    print_json,
    progress_bar,
    run_async,
    stopped_by_signal,
    subscription,
    write_file,
)

if TYPE_CHECKING:
    from bridge.settings import Settings
    from bridge.tools.verify.live import OnProgress
    from bridge.tools.verify.report import Report


def add_to(app: typer.Typer) -> None:
    app.command(
        "verify",
        epilog=examples(
            "tickbridge verify --symbols BTCUSDT,ETHUSDT,BNBUSDT",
            "tickbridge verify -c tickbridge.yaml --seconds 600",
            "tickbridge verify --symbols BTCUSDT --html report.html",
            "tickbridge verify --json | jq '.checks[] | select(.passed | not)'",
        ),
    )(verify)


def verify(  # noqa: PLR0913 - each is an option of its own
    *,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="Time to observe the feed; Ctrl-C stops earlier.")
    ] = 60.0,
    symbols: Symbols = None,
    streams: Streams = None,
    as_json: AsJson = False,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            dir_okay=False,
            writable=True,
            show_default=False,
            help="Also write the report with plots to this file, as one page to keep or print.",
        ),
    ] = None,
    config: Config = None,
) -> None:
    """Verify the connection to the exchange: connect, measure, and print a report.

    First provokes five connection errors on loopback. Then runs the bridge's own
    feed without Kafka and Redis: checks that every stream delivers, complete and
    in order, and measures its latency and intervals.

    Exits with 1 if any check fails.
    """
    from bridge.monitoring import logs
    from bridge.settings import load_settings
    from bridge.tools.verify.text import print_report

    check_folder(html, "--html")
    settings = load_settings(config, overrides={"binance": subscription(symbols, streams)})
    # The report shows the provoked errors; the log must not.
    logs.configure(settings.log.model_copy(update={"level": "critical"}))
    report = run_async(_verify(settings, seconds))
    (print_json if as_json else print_report)(report)
    if html:
        from bridge.tools.verify.html import page

        write_file(html, page(report).encode(), "--html")
    if report.verdict != "ok":
        raise typer.Exit(1)


@contextmanager
def _progress(seconds: float) -> "Iterator[OnProgress]":
    """Show a bar on standard error if that is a terminal, and yield the update function."""
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with progress_bar(*columns) as progress:
        task = progress.add_task("provoking five errors on loopback", total=None)

        def update(elapsed_s: float, events: int) -> None:
            description = f"{events:,} events" if elapsed_s else "connecting"
            progress.update(task, total=seconds, completed=elapsed_s, description=description)

        yield update


async def _verify(settings: "Settings", seconds: float) -> "Report":
    from importlib import metadata

    from bridge.monitoring import logs
    from bridge.tools.verify.checks import checks
    from bridge.tools.verify.error_cases import try_error_cases
    from bridge.tools.verify.live import observe
    from bridge.tools.verify.report import Report

    with _progress(seconds) as update:
        error_cases = await try_error_cases(settings.binance)
        logs.configure(settings.log)
        seen = await observe(settings, seconds, stopped_by_signal(), update)
    made = [*checks(seen), *error_cases]
    return Report(
        version=metadata.version("tickbridge"),
        verdict="ok" if all(check.passed for check in made) else "failed",
        checks=made,
        observation=seen,
    )
