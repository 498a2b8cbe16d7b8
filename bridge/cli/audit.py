"""`tickbridge audit`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.cli.options import (
    AsJson,
    Brokers,
    Config,
    OnlySymbols,
    check_folder,
    examples,
    json_of,
    print_json,
    reader_settings,
    record_progress,
    run_async,
    write_file,
)

if TYPE_CHECKING:
    from bridge.brokers.kafka_reader import OnProgress
    from bridge.settings import Settings
    from bridge.tools.audit.certificate import Certificate


def add_to(app: typer.Typer) -> None:
    app.command(
        "audit",
        epilog=examples(
            "tickbridge audit",
            "tickbridge audit --kind agg_trade --symbol BTCUSDT",
            "tickbridge audit --archive BTCUSDT-trades-2026-11-28.zip",
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


def audit(  # noqa: PLR0913 - each is an option of its own
    *,
    kind: Annotated[
        str,
        typer.Option(
            parser=_kind, metavar="KIND", help="Message type: trade, agg_trade, book_delta…"
        ),
    ] = "trade",
    symbol: OnlySymbols = [],  # noqa: B006 - typer's own way, and never changed
    as_json: AsJson = False,
    archive: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|URL",
            show_default=False,
            help="Compare the topic with this daily archive of the exchange "
            "(data.binance.vision), id by id and field by field. Its name says the symbol, the "
            "day, and whether it has trades or aggTrades.",
        ),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            dir_okay=False,
            show_default=False,
            help="With --archive: also write the result to this file, as JSON.",
        ),
    ] = None,
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

    if certificate and not archive:
        raise typer.BadParameter("needs --archive", param_hint="--certificate")
    check_folder(certificate, "--certificate")
    settings = reader_settings(config, kafka=kafka)
    logs.configure(settings.log)
    if archive:
        _audit_against(settings, archive, certificate, as_json=as_json)
        return
    with record_progress(kind) as on_progress:
        report = run_async(
            audit_topic(
                settings.kafka, kind, symbols=upper_symbols(symbol), on_progress=on_progress
            )
        )
    (print_json if as_json else print_report)(report)
    if report.findings:
        raise typer.Exit(1)


def _audit_against(
    settings: "Settings", source: str, certificate: Path | None, *, as_json: bool
) -> None:
    """Compare a topic with an archive, and print and write the certificate."""
    from bridge.tools.audit.certificate_text import print_certificate

    with record_progress("archive") as on_progress:
        found = run_async(_compared(settings, source, on_progress))
    (print_json if as_json else print_certificate)(found)
    if certificate:
        write_file(certificate, json_of(found), "--certificate")
    if found.verdict != "equal":
        raise typer.Exit(1)


async def _compared(settings: "Settings", source: str, on_progress: "OnProgress") -> "Certificate":
    from tempfile import TemporaryDirectory

    from bridge.tools.audit.against_archive import audit_against
    from bridge.tools.audit.archive import Archive
    from bridge.tools.audit.download import download

    with TemporaryDirectory() as folder:
        is_url = source.startswith(("https://", "http://"))
        path = await download(source, Path(folder)) if is_url else Path(source)
        return await audit_against(settings.kafka, Archive(path), on_progress=on_progress)
