"""`tickbridge verify`."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.cli.options import (
    Config,
    Streams,
    Symbols,
    examples,
    print_json,
    run_async,
    stopped_by_signal,
    subscription,
)

if TYPE_CHECKING:
    from bridge.settings import Settings
    from bridge.tools.verify.report import Report


def add_to(app: typer.Typer) -> None:
    app.command(
        "verify",
        epilog=examples(
            "tickbridge verify --symbols BTCUSDT,ETHUSDT,BNBUSDT",
            "tickbridge verify -c tickbridge.yaml --seconds 600",
            "tickbridge verify --json | jq '.checks[] | select(.passed | not)'",
        ),
    )(verify)


def verify(
    *,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="How long to look at the feed; Ctrl-C ends it before.")
    ] = 60.0,
    symbols: Symbols = None,
    streams: Streams = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="The whole report, as one object.")
    ] = False,
    config: Config = None,
) -> None:
    """Verify the connection to the exchange: connect, measure, and print a report.

    It is the bridge's own feed, without Kafka and Redis: whether every stream comes, whole and in
    order, how fast and how regularly. Before that, five things that may go wrong with a connection
    are provoked on loopback.

    Exits with 1 if anything is not as it should be.
    """
    from bridge.monitoring import logs
    from bridge.settings import load_settings
    from bridge.tools.verify.text import print_report

    settings = load_settings(config, overrides={"binance": subscription(symbols, streams)})
    if sys.stderr.isatty():
        url = settings.binance.websocket_url
        typer.echo(f"First five errors on loopback, then {url} for {seconds:g} s…", err=True)
    # What is provoked is told by the report, not by the log.
    logs.configure(settings.log.model_copy(update={"level": "critical"}))
    report = run_async(_verify(settings, seconds))
    (print_json if as_json else print_report)(report)
    if report.verdict != "ok":
        raise typer.Exit(1)


async def _verify(settings: "Settings", seconds: float) -> "Report":
    from importlib import metadata

    from bridge.monitoring import logs
    from bridge.tools.verify.checks import checks
    from bridge.tools.verify.error_cases import try_error_cases
    from bridge.tools.verify.live import observe
    from bridge.tools.verify.report import Report

    error_cases = await try_error_cases(settings.binance)
    logs.configure(settings.log)
    seen = await observe(settings, seconds, stopped_by_signal())
    made = [*checks(seen), *error_cases]
    return Report(
        version=metadata.version("tickbridge"),
        verdict="ok" if all(check.passed for check in made) else "failed",
        checks=made,
        observation=seen,
    )
