"""`tickbridge demo`."""

from typing import Annotated

import typer

from bridge.cli.options import Captures, Config, comma_separated, examples, run_async


def add_to(app: typer.Typer) -> None:
    app.command(
        "demo",
        epilog=examples(
            "tickbridge demo",
            "tickbridge demo --seconds 20 --symbols BTCUSDT,SOLUSDT",
            "tickbridge demo --capture btcusdt.gz --plain",
        ),
    )(demo)


def demo(
    *,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0.1, show_default=False, help="Stop after this time, and print a summary."
        ),
    ] = None,
    capture: Captures = [],  # noqa: B006 - typer's own way, and never changed
    symbols: Annotated[
        str | None, typer.Option(metavar="A,B", show_default=False, help="Symbols to show.")
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Print one line per second instead of the live table.")
    ] = False,
    config: Config = None,
) -> None:
    """Show the whole bridge at work, with embedded brokers.

    Uses live Binance if it can be reached, otherwise the simulator. With
    --capture, plays recordings.
    """
    from bridge.tools.demo import DemoOptions, run_demo

    run_async(run_demo(DemoOptions(seconds, capture, comma_separated(symbols), plain, config)))
