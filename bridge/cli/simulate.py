"""`tickbridge simulate`."""

import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.cli.options import (
    Captures,
    comma_separated,
    examples,
    run_async,
    stopped_by_signal,
)

if TYPE_CHECKING:
    from bridge.tools.simulator import SimulatedExchange, Source

SYMBOLS = "BTCUSDT,ETHUSDT,BNBUSDT"
STREAMS = ("trade", "bookTicker", "ticker")
FLAT_OUT = "flat-out"


def add_to(app: typer.Typer) -> None:
    app.command(
        "simulate",
        epilog=examples(
            "tickbridge simulate                      an invented market",
            "tickbridge simulate > simulated.yaml     then, in another terminal:",
            "tickbridge run -c simulated.yaml",
            "tickbridge simulate --capture btc.gz --speed flat-out --no-loop",
        ),
    )(simulate)


def _speed(text: str) -> float:
    if text == FLAT_OUT:
        return float("inf")
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not speed > 0:
        raise typer.BadParameter(f"{text!r} is not a speed; use a number above 0, or {FLAT_OUT}")
    return speed


def simulate(  # noqa: PLR0913 - each is a setting of its own
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free port.")
    ] = 9999,
    capture: Captures = [],  # noqa: B006 - typer's own way, and never changed
    speed: Annotated[
        float,
        typer.Option(
            parser=_speed, metavar="X|flat-out", help="Multiple of real time, or flat-out."
        ),
    ] = 1.0,
    loop: Annotated[bool, typer.Option("--loop/--no-loop", help="Repeat the recordings.")] = True,
    symbols: Annotated[
        str, typer.Option(metavar="A,B", help="Symbols of the invented market.")
    ] = SYMBOLS,
    rate: Annotated[
        float, typer.Option(min=0.001, help="Trades per second and symbol of the invented market.")
    ] = 5.0,
    seed: Annotated[
        int, typer.Option(help="Seed of the invented market; the same seed gives the same market.")
    ] = 0,
    wait_streams: Annotated[
        int,
        typer.Option(min=0, help="Start when this many streams are subscribed; 0: start at once."),
    ] = 1,
) -> None:
    """Simulate the exchange: Binance's WebSocket and REST on one port, until Ctrl-C.

    Plays recordings, or invents a market. Prints the settings of a bridge that uses it.
    """
    from bridge.tools.simulator import SimulatedExchange

    if capture:
        source, streams = _replay(capture, loop=loop)
    else:
        source, streams = _market(symbols, rate, seed), list(STREAMS)
    exchange = SimulatedExchange(
        source, host=host, port=port, speed=speed, start_after_streams=wait_streams
    )
    run_async(_serve(exchange, streams))


def _replay(paths: list[Path], *, loop: bool) -> "tuple[Source, list[str]]":
    """Return the recordings as a market, and the stream suffixes in them."""
    from bridge.tools.simulator import Capture, Replay

    captures = [Capture.read(path) for path in paths]
    names = {frame.stream for capture in captures for frame in capture.frames}
    streams = sorted({name.partition("@")[2] for name in names if not name.startswith("!")})
    return Replay(captures, loop=loop), streams


def _market(symbols: str, rate: float, seed: int) -> "Source":
    from bridge.core.model.stream import upper_symbol
    from bridge.tools.simulator import Market

    names = comma_separated(upper_symbol(symbols))
    return Market(names, seed=seed, trades_per_second=rate)


async def _serve(exchange: "SimulatedExchange", streams: list[str]) -> None:
    stopped = stopped_by_signal()
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(exchange)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else error
            what = f"cannot listen on {exchange.host}:{exchange.port}: {reason}"
            raise typer.BadParameter(f"{what}; use another --port; 0 takes any free port") from None
        sys.stdout.write(_settings(exchange, streams))
        sys.stdout.flush()
        await stopped.wait()


def _settings(exchange: "SimulatedExchange", streams: list[str]) -> str:
    """Return the smallest settings that use the exchange, as the text of a settings file."""
    return (
        f"# WebSocket {exchange.websocket_url}   REST {exchange.rest_url}\n"
        "binance:\n"
        f"  websocket_url: {exchange.websocket_url}\n"
        f"  rest_url: {exchange.rest_url}\n"
        f"  symbols: [{', '.join(exchange.source.symbols)}]\n"
        f"  streams: [{', '.join(streams)}]\n"
    )
