"""`tickbridge status`."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.cli.options import AsJson, Config, examples, reader_settings, run_async

if TYPE_CHECKING:
    from rich.console import Group

    from bridge.monitoring.report import Report

TIMEOUT_S = 10.0
WATCH_INTERVAL_S = 1.0
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - told from, not listened on


def add_to(app: typer.Typer) -> None:
    app.command(
        "status",
        epilog=examples(
            "tickbridge status                               the bridge in the settings",
            "tickbridge status --watch                       every second, until Ctrl-C",
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
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show the status every second, until Ctrl-C.")
    ] = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Show the status of a running bridge: sinks, connectors, symbols and gaps.

    Rates and latencies are those of the last seconds, counts those since the
    start. received = published + dropped + pending.

    Exits with 1 if the bridge is not ready, or does not answer.
    """
    url = f"{(url or _url(config)).rstrip('/')}/status"
    if "://" not in url:
        url = f"http://{url}"
    if watch:
        _watch(url, as_json=as_json)
        return
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

    from bridge.cli.status_tables import headline, tables
    from bridge.monitoring.tables import print_whole

    console = Console(highlight=False, soft_wrap=True)
    for line in headline(found):
        console.print(line)
    for table, left_out in tables(found):
        console.print()
        print_whole(console, table)
        console.print(left_out, end="")


def _watch(url: str, *, as_json: bool) -> None:
    if as_json or not sys.stdout.isatty():
        raise typer.BadParameter(
            "needs a terminal, and no --json; a script asks again itself", param_hint="--watch"
        )
    with suppress(KeyboardInterrupt):
        run_async(_show_again_and_again(url))


async def _show_again_and_again(url: str) -> None:
    """Show the status on the whole screen. A bridge that does not answer is asked again."""
    import asyncio

    from rich.live import Live

    with Live(screen=True, auto_refresh=False) as live:
        while True:
            live.update(await _screen(url), refresh=True)
            await asyncio.sleep(WATCH_INTERVAL_S)


async def _screen(url: str) -> "Group":
    from rich.console import Group
    from rich.markup import escape

    from bridge.cli.status_tables import headline, tables
    from bridge.errors import BridgeUnavailable

    try:
        found = _decode(url, await _ask(url))
    except BridgeUnavailable as error:
        return Group(f"[red]{escape(str(error))}[/red]")
    parts: list[object] = [*headline(found)]
    for table, left_out in tables(found, only_trouble=True):
        parts += ["", table, left_out] if left_out else ["", table]
    return Group(*parts)  # type: ignore[arg-type]  # texts and tables are renderable
