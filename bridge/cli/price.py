"""`tickbridge price`."""

import difflib
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.cli.options import Config, examples, reader_settings, run_async
from bridge.monitoring.words import duration, name_cell

if TYPE_CHECKING:
    from bridge.client import LatestPrice, LatestPrices
    from bridge.settings import Settings

Found = dict[str, "LatestPrice"]


def add_to(app: typer.Typer) -> None:
    app.command(
        "price",
        epilog=examples(
            "tickbridge price                        all prices",
            "tickbridge price btcusdt ethusdt",
            "tickbridge price BTCUSDT --json | jq -r '.[0].price'",
        ),
    )(price)


def price(
    symbols: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SYMBOL",
            show_default=False,
            help="Symbols in upper or lower case; by default all.",
        ),
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list of objects.")] = False,
    redis: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            show_default=False,
            help="Redis to use instead of the one in the settings.",
        ),
    ] = None,
    config: Config = None,
) -> None:
    """Print the latest prices from Redis, with their age and the state of their feed.

    Exits with 1 if a symbol has no price, or if no bridge writes to this Redis.
    """
    settings = reader_settings(config, redis=redis)
    found, complaints = run_async(_look_up(settings, symbols or []))
    (_print_json if as_json else _print_table)(found, time.time_ns() // 1000)
    for complaint in complaints:
        typer.echo(f"tickbridge: {complaint}", err=True)
    if complaints:
        raise typer.Exit(1)


async def _look_up(settings: "Settings", wanted: list[str]) -> tuple[Found, list[str]]:
    """Return the prices found, and a complaint for each symbol without a price."""
    from bridge.client import LatestPrices
    from bridge.core.model.stream import upper_symbol

    where = settings.redis.url
    async with LatestPrices(settings.redis) as prices:
        names = list(map(upper_symbol, wanted)) or await prices.symbols()
        found, complaints = await _readable(prices, names)
        missing = [name for name in names if name not in found] if wanted else []
        complaints += await _complaints(prices, missing) if missing else []
        if found and await prices.owner() is None:
            complaints.append(f"no bridge publishes to {where} now: these prices are old")
    if not found and not complaints:
        complaints.append(f"no prices at {where}; check that a bridge publishes there")
    return found, complaints


async def _readable(prices: "LatestPrices", names: list[str]) -> tuple[Found, list[str]]:
    """Return the prices that can be read, and a complaint for each other one. Such a symbol leaves
    `names`.
    """
    from bridge.client import UnreadablePrice

    complaints: list[str] = []
    while True:
        try:
            return await prices.get_many(names), complaints
        except UnreadablePrice as error:
            complaints.append(str(error))
            names.remove(error.symbol)


async def _complaints(prices: "LatestPrices", missing: list[str]) -> list[str]:
    known = await prices.symbols()
    near = [difflib.get_close_matches(name, known, n=3) for name in missing]
    return [
        f"no price for {name}; "
        + (f"did you mean {' or '.join(close)}?" if close else f"{len(known)} symbols have one")
        for name, close in zip(missing, near, strict=True)
    ]


def _print_json(found: Found, now: int) -> None:
    import msgspec

    rows = [
        {key: _plain(value) for key, value in msgspec.structs.asdict(latest).items()}
        | {"age_s": latest.age_s(now)}
        for latest in found.values()
    ]
    typer.echo(msgspec.json.format(msgspec.json.encode(rows)).decode())


def _print_table(found: Found, now: int) -> None:
    from rich.console import Console
    from rich.table import Table

    from bridge.monitoring.tables import print_whole

    if not found:
        return
    table = Table("symbol", box=None, header_style="bold", pad_edge=False)
    for name in ("price", "age", "bid", "ask", "change %"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("feed", no_wrap=True)
    for latest in found.values():
        texts = (latest.symbol, *_cells(latest, now))
        table.add_row(*map(name_cell, texts))
    print_whole(Console(), table)


def _cells(latest: "LatestPrice", now: int) -> list[str]:
    figures = (latest.bid_price, latest.ask_price, latest.change_percent)
    texts = ["-" if figure is None else _plain(figure) for figure in figures]
    age = f"{duration(latest.age_s(now))} ago"
    return [_plain(latest.price), age, *texts, latest.feed or "-"]


def _plain(value: Any) -> Any:
    """Return a Decimal as text with the exchange's own digits, never 0E-8."""
    return format(value, "f") if isinstance(value, Decimal) else value
