"""`tickbridge status`."""

import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.cli.options import AsJson, Config, examples, json_of, reader_settings, run_async

if TYPE_CHECKING:
    from rich.table import Table

    from bridge.monitoring.report import Report


@dataclass(frozen=True)
class View:
    """What was found: as JSON, as lines with markup of rich, and as tables, each with a line about
    what it leaves out.
    """

    json: bytes
    lines: "list[str]"
    tables: "list[tuple[Table, str]]"
    is_wrong: bool


Look = Callable[[], Coroutine[None, None, View]]

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
            "tickbridge status --cluster                     all bridges, from Kafka",
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
    cluster: Annotated[
        bool,
        typer.Option(
            "--cluster", help="Show which bridge owns each shard, and which stands by, from Kafka."
        ),
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show the status every second, until Ctrl-C.")
    ] = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Show the status of a running bridge: sinks, connectors, symbols and gaps.

    Rates and latencies are those of the last seconds, counts those since the
    start. received = published + dropped + pending.

    Exits with 1 if the bridge is not ready, or does not answer. With --cluster
    it does so if a shard has no owner, or lacks the standby of cluster.standby.
    """
    if cluster and url:
        raise typer.BadParameter("--cluster asks Kafka, and no bridge", param_hint="--url")
    if cluster:
        look = _look_at_cluster(config)
    else:
        look = _look_at_bridge(url or _url(config), only_trouble=watch)
    if watch:
        _watch(look, as_json=as_json)
        return
    found = run_async(look())
    if as_json:
        typer.echo(found.json.decode())
    else:
        _print(found)
    if found.is_wrong:
        raise typer.Exit(1)


def _look_at_bridge(url: str, *, only_trouble: bool) -> Look:
    """Return what asks the bridge at a URL."""
    url = f"{url.rstrip('/')}/status"
    if "://" not in url:
        url = f"http://{url}"

    async def look() -> View:
        from bridge.cli.status_tables import headline, tables

        body = await _ask(url)
        found = _decode(url, body)
        shown = [*tables(found, only_trouble=only_trouble)]
        return View(body, [*headline(found)], shown, is_wrong=bool(found.unready))

    return look


def _look_at_cluster(config: Path | None) -> Look:
    """Return what reads the topics of the settings."""
    settings = reader_settings(config)

    async def look() -> View:
        from bridge.cli.status_tables import shards_table
        from bridge.monitoring.cluster import read_cluster

        found = await read_cluster(settings.kafka, settings.cluster)
        lines = [f"[red]{line}[/red]" for line in found.wrong]
        shown = [(shards_table(found.shards), "")]
        return View(json_of(found).rstrip(), lines, shown, is_wrong=bool(found.wrong))

    return look


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


def _print(found: View) -> None:
    from rich.console import Console

    from bridge.monitoring.tables import print_whole

    console = Console(highlight=False, soft_wrap=True)
    for line in found.lines:
        console.print(line)
    for number, (table, left_out) in enumerate(found.tables):
        if number or found.lines:
            console.print()
        print_whole(console, table)
        console.print(left_out, end="")


def _watch(look: Look, *, as_json: bool) -> None:
    if as_json or not sys.stdout.isatty():
        raise typer.BadParameter(
            "needs a terminal, and no --json; a script asks again itself", param_hint="--watch"
        )
    with suppress(KeyboardInterrupt):
        run_async(_show_again_and_again(look))


async def _show_again_and_again(look: Look) -> None:
    """Show the status on the whole screen. What does not answer is asked again."""
    import asyncio

    from rich.console import Group
    from rich.live import Live
    from rich.markup import escape

    from bridge.errors import BridgeUnavailable, SinkUnavailable

    with Live(screen=True, auto_refresh=False) as live:
        while True:
            try:
                found = await look()
                parts: list[str | Table] = [*found.lines]
                for table, left_out in found.tables:
                    parts += ["", table, left_out] if left_out else ["", table]
            except (BridgeUnavailable, SinkUnavailable) as error:
                parts = [f"[red]{escape(str(error))}[/red]"]
            live.update(Group(*parts), refresh=True)
            await asyncio.sleep(WATCH_INTERVAL_S)
