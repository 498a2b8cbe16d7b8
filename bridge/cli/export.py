"""`tickbridge export`."""

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.cli.options import (
    Brokers,
    Config,
    Kinds,
    comma_separated,
    examples,
    print_json,
    reader_settings,
    record_progress,
    run_async,
    since,
)

if TYPE_CHECKING:
    from bridge.client.time_range import TimeRange
    from bridge.tools.export.manifest import Manifest


class Format(StrEnum):
    """The format of the files."""

    parquet = "parquet"
    csv = "csv"


def add_to(app: typer.Typer) -> None:
    app.command(
        "export",
        epilog=examples(
            "tickbridge export trade --from 2026-11-28 --to 2026-11-29 --out trades",
            "tickbridge export trade,quote --symbols BTCUSDT,ETHUSDT --from 2h --out lately",
            "tickbridge export candle --from earliest --format csv --out candles",
        ),
    )(export)


def export(  # noqa: PLR0913 - each is an option of its own
    kind: Kinds,
    *,
    begin: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="TIME",
            show_default=False,
            help="The first event time: a time in UTC (2026-11-28T09:30), how long ago (90s, 15m, "
            "2h, 1d), or earliest.",
        ),
    ],
    end: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="TIME",
            show_default=False,
            help="The end, excluded: a time in UTC or how long ago; by default now.",
        ),
    ] = None,
    symbols: Annotated[
        str | None,
        typer.Option(metavar="A,B", show_default=False, help="Only these symbols."),
    ] = None,
    file_format: Annotated[
        Format, typer.Option("--format", help="The format of the files.")
    ] = Format.parquet,
    out: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER",
            file_okay=False,
            show_default=False,
            help="New or empty folder, or that of an export that is to be continued.",
        ),
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the manifest as one JSON object.")
    ] = False,
    kafka: Brokers = None,
    config: Config = None,
) -> None:
    """Export the events of a time range from Kafka topics to parquet or CSV.

    Writes parts of about 500,000 rows to a folder for each message type, and
    manifest.json with the counts, first and last ids and checksums. If it is
    stopped, the same command continues after the last part.

    Exits with 1 if a symbol has no events.
    """
    from bridge.client.message_types import check_message_types, check_symbols
    from bridge.monitoring import logs
    from bridge.tools.export.manifest import Options
    from bridge.tools.export.run import export_topics

    settings = reader_settings(config, kafka=kafka)
    logs.configure(settings.log)
    try:
        kinds = check_message_types(comma_separated(kind))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="KIND") from None
    try:
        names = check_symbols(comma_separated(symbols))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--symbols") from None
    wanted = Options(
        message_types=list(kinds),
        begin=begin,
        end=end,
        symbols=sorted(names),
        format=file_format.value,
        kafka=settings.kafka.bootstrap_servers,
        topic=settings.kafka.topic,
    )
    times = _times(begin, end)
    with record_progress(kind) as on_progress:
        manifest, is_new = run_async(
            export_topics(settings.kafka, wanted, times, out, on_progress=on_progress)
        )
    print_json(manifest) if as_json else _print(manifest, out)
    if not is_new:
        typer.echo(
            "It was complete before: nothing was written, and all files are intact.", err=True
        )
    _check_symbols(manifest)


def _times(begin: str, end: str | None) -> "TimeRange":
    """Return the time range. Raises BadParameter if it is empty or has not ended."""
    from bridge.client.events import microseconds_of
    from bridge.client.time_range import TimeRange

    now = datetime.now(UTC)
    first, last = since(begin), since(end, "--to") if end else now
    if first == "latest":
        raise typer.BadParameter(
            "'latest' has no events yet; write a time, how long ago, or earliest",
            param_hint="--from",
        )
    if not isinstance(last, datetime):
        raise typer.BadParameter(
            f"{end!r} is no end; write a time or how long ago, or leave --to out for now",
            param_hint="--to",
        )
    if last > now:
        raise typer.BadParameter(
            f"{end} has not come yet; leave --to out to end now", param_hint="--to"
        )
    if first == "earliest":
        return TimeRange(None, microseconds_of(last))
    if first >= last:
        raise typer.BadParameter(f"{begin} is not before the end", param_hint="--from")
    return TimeRange(microseconds_of(first), microseconds_of(last))


def _print(manifest: "Manifest", out: Path) -> None:
    from bridge.client.events import datetime_of

    for topic in manifest.topics:
        symbols = {symbol for part in topic.parts for symbol in part.symbols}
        rows = sum(part.rows for part in topic.parts)
        counts = f"rows {rows:,}, symbols {len(symbols):,}, files {len(topic.parts):,}"
        typer.echo(f"{topic.message_type}: {counts}")
    begin = manifest.from_time
    since_when = "the earliest record" if begin is None else f"{datetime_of(begin).isoformat()}"
    typer.echo(
        f"{out} is complete from {since_when} to {datetime_of(manifest.to_time).isoformat()}"
    )


def _check_symbols(manifest: "Manifest") -> None:
    """Raise NoEvents if a symbol that was asked for has none."""
    from bridge.tools.export.errors import NoEvents

    found = manifest.symbols()
    if missing := [each for each in manifest.options.symbols if each not in found]:
        raise NoEvents(missing, manifest.options.message_types)
