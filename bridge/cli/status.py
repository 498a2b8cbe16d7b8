"""`tickbridge status`."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.cli.options import AsJson, Config, examples, reader_settings, run_async
from bridge.monitoring.words import duration, name_cell, printable

if TYPE_CHECKING:
    from rich.table import Table

    from bridge.monitoring.report import PositionReport, Report

TIMEOUT_S = 10.0
# All streams would push the other tables off the screen. The longest silence comes first, and the
# symbols that are not live.
MAX_STREAMS = MAX_SYMBOLS = 20
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - told from, not listened on


def add_to(app: typer.Typer) -> None:
    app.command(
        "status",
        epilog=examples(
            "tickbridge status                               the bridge in the settings",
            "tickbridge status --url http://10.0.0.5:8080    any other bridge",
            "tickbridge status --json | jq '.sinks[].accounts.trade'",
        ),
    )(status)


def status(
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            show_default=False,
            help="Address of the bridge, instead of http in the settings.",
        ),
    ] = None,
    *,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Show the status of a running bridge: connectors, sinks, symbols, streams and gaps.

    For each sink, it shows the received, published, dropped and pending events.

    Exits with 1 if the bridge is not ready, or does not answer.
    """
    url = f"{(url or _url(config)).rstrip('/')}/status"
    body = run_async(_ask(url))
    found = _decode(url, body)
    if as_json:
        typer.echo(body.decode())
    else:
        _print(found)
    if found.unready:
        raise typer.Exit(1)


def _url(config: Path | None) -> str:
    http = reader_settings(config).http
    host = _WILDCARDS.get(http.host, http.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{http.port}"


async def _ask(url: str) -> bytes:
    import aiohttp

    from bridge.errors import BridgeUnavailable

    try:
        timeout = aiohttp.ClientTimeout(TIMEOUT_S)
        async with aiohttp.request("GET", url, timeout=timeout, raise_for_status=True) as answer:
            return await answer.read()
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise BridgeUnavailable(
            f"no bridge answers at {url}: {str(error) or type(error).__name__}",
            "start a bridge (tickbridge run), or set its address with --url",
        ) from error


def _decode(url: str, body: bytes) -> "Report":
    import msgspec

    from bridge.core.model.unreadable import UNREADABLE
    from bridge.errors import BridgeUnavailable
    from bridge.monitoring.report import Report

    try:
        return msgspec.json.decode(body, type=Report)
    except UNREADABLE as error:
        raise BridgeUnavailable(
            f"no bridge of this version answers at {url}: {error}", "set its address with --url"
        ) from error


def _print(found: "Report") -> None:
    from rich.console import Console

    from bridge.monitoring.tables import print_whole

    console = Console(highlight=False)
    state = "[red]not ready[/red]" if found.unready else "[green]ready[/green]"
    console.print(f"Tickbridge {found.version}, up {duration(found.uptime_s)}, {state}")
    for reason in (*found.unready, *found.refused, *found.waiting):
        console.print(f"  {printable(reason)}", markup=False)
    if found.needs_restart:
        console.print(f"  changed, takes effect after a restart: {', '.join(found.needs_restart)}")
    for table, more in (
        (_connectors(found), ""),
        (_accounts(found), ""),
        (_symbols(found), _more(len(found.symbols) - MAX_SYMBOLS, "symbols")),
        (_streams(found), _more(len(found.streams) - MAX_STREAMS, "streams")),
        (_gaps(found), ""),
    ):
        if table.row_count:
            console.print()
            print_whole(console, table)
            console.print(more, end="")


def _more(count: int, noun: str) -> str:
    return f"{count} more {noun}; use --json to list all\n" if count > 0 else ""


def _connectors(found: "Report") -> "Table":
    table = _table(
        "connector", "state", right=("age", "streams", "without data", "events", "duplicates")
    )
    for connector in found.connectors:
        counts = (connector.streams, connector.without_data, connector.events, connector.duplicates)
        table.add_row(
            connector.name, connector.state, duration(connector.age_s), *(f"{n:,}" for n in counts)
        )
    return table


def _accounts(found: "Report") -> "Table":
    table = _table(
        "sink", "message type", right=("received", "published", "dropped", "pending", "oldest")
    )
    for sink in found.sinks:
        name = sink.name if sink.ready else f"[red]{sink.name}: not ready[/red]"
        for kind, account in sink.accounts.items():
            oldest = duration(sink.oldest_pending_s) if account.pending else ""
            table.add_row(name, kind, *(f"{n:,}" for n in account), oldest)
            name = ""
    return table


def _symbols(found: "Report") -> "Table":
    """Return the table of the symbols: those that are not live, then the least complete ones."""
    now = time.time_ns() // 1000
    table = _table("symbol", "feed", right=("since", "trades complete to", "checked"))
    by_need = sorted(found.symbols, key=lambda s: (s.feed == "live", s.complete_to or 0))
    for status in by_need[:MAX_SYMBOLS]:
        feed = status.feed if status.feed == "live" else f"[red]{status.feed}[/red]"
        times = (status.since, status.complete_to, status.checked)
        table.add_row(name_cell(status.symbol), feed, *(_ago(time, now) for time in times))
    return table


def _ago(time_us: int | None, now_us: int) -> str:
    return "-" if time_us is None else f"{duration(max(0, now_us - time_us) / 1e6)} ago"


def _streams(found: "Report") -> "Table":
    table = _table("stream", right=("last event",))
    never = float("inf")
    silent = sorted(found.streams, key=lambda s: -(never if s.silence_s is None else s.silence_s))
    for stream in silent[:MAX_STREAMS]:
        heard = "never" if stream.silence_s is None else f"{duration(stream.silence_s)} ago"
        table.add_row(name_cell(stream.name), f"[red]{heard}[/red]" if stream.is_stalled else heard)
    return table


def _gaps(found: "Report") -> "Table":
    """Return the table of the holes that hold streams back, and of the open gaps."""
    table = _table("gap", "symbol", right=("held", "first id", "last id", "cause"))
    for position in found.positions:
        for held, first, last, cause in _gaps_of(position):
            table.add_row(
                position.message_type, name_cell(position.symbol), held, first, last, cause
            )
    return table


def _gaps_of(position: "PositionReport") -> Iterator[tuple[str, str, str, str]]:
    if position.held and position.last_id is not None:
        yield f"{position.held:,}", str(position.last_id + 1), "", "being fetched"
    for gap in position.open_gaps:
        yield "", str(gap.first_id), str(gap.last_id), gap.cause


def _table(*left: str, right: tuple[str, ...]) -> "Table":
    from rich.table import Table

    table = Table(*left, box=None, header_style="bold", pad_edge=False)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table
