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
        float, typer.Option(min=0.1, help="Time to observe the feed; Ctrl-C stops earlier.")
    ] = 60.0,
    symbols: Symbols = None,
    streams: Streams = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the whole report as one JSON object.")
    ] = False,
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

    settings = load_settings(config, overrides={"binance": subscription(symbols, streams)})
    if sys.stderr.isatty():
        url = settings.binance.websocket_url
        typer.echo(
            f"Provoking five errors on loopback, then observing {url} for {seconds:g} s…", err=True
        )
    # The report shows the provoked errors; the log must not.
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
