"""`tickbridge audit`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.cli.options import (
    Brokers,
    Config,
    OnlySymbols,
    examples,
    print_json,
    reader_settings,
    run_async,
)

if TYPE_CHECKING:
    from bridge.tools.audit.run import OnProgress


def add_to(app: typer.Typer) -> None:
    app.command(
        "audit",
        epilog=examples(
            "tickbridge audit",
            "tickbridge audit --kind agg_trade --symbol BTCUSDT",
            "tickbridge audit --json | jq '.findings[].text'",
        ),
    )(audit)


def _kind(text: str) -> str:
    from bridge.client.message_types import check_message_types
    from bridge.tools.audit.rules import RULES

    try:
        (kind,) = check_message_types([text])
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if kind not in RULES:
        raise typer.BadParameter(f"{kind} events have no order to check; use {', '.join(RULES)}")
    return kind


def audit(
    *,
    kind: Annotated[
        str,
        typer.Option(
            parser=_kind, metavar="KIND", help="Message type: trade, agg_trade, book_delta…"
        ),
    ] = "trade",
    symbol: OnlySymbols = [],  # noqa: B006 - typer's own way, and never changed
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the whole report as one JSON object.")
    ] = False,
    kafka: Brokers = None,
    config: Config = None,
) -> None:
    """Check a Kafka topic: find events that are missing, repeated or out of order, by their ids,
    and statuses that claim too much.

    Reads the topic from its beginning to its current end, and the gap and status topics too.

    Exits with 1 if it finds anything that no gap event has announced.
    """
    from bridge.client.message_types import upper_symbols
    from bridge.monitoring import logs
    from bridge.tools.audit.run import audit_topic
    from bridge.tools.audit.text import print_report

    settings = reader_settings(config, kafka=kafka)
    logs.configure(settings.log)
    with _progress(kind) as on_progress:
        report = run_async(
            audit_topic(
                settings.kafka, kind, symbols=upper_symbols(symbol), on_progress=on_progress
            )
        )
    (print_json if as_json else print_report)(report)
    if report.findings:
        raise typer.Exit(1)


@contextmanager
def _progress(kind: str) -> "Iterator[OnProgress]":
    """Show the progress on standard error if that is a terminal, and yield the update function.

    The bar shows the share, the records, and the records per second.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[records]:,} records"),
        TextColumn("{task.fields[rate]:,.0f}/s"),
        TimeElapsedColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(kind, total=None, records=0, rate=0.0)

        def update(records: int, remaining: int) -> None:
            total = progress.tasks[0].total or remaining
            rate = records / (progress.tasks[0].elapsed or 1)
            progress.update(
                task, total=total, completed=total - remaining, records=records, rate=rate
            )

        yield update
