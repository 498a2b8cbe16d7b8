"""`tickbridge tail`."""

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.cli.options import (
    Brokers,
    Config,
    Kinds,
    OnlySymbols,
    comma_separated,
    examples,
    reader_settings,
    run_async,
    since,
)

if TYPE_CHECKING:
    from bridge.client import KafkaFeed

# Turns the values of records into lines.
Lines = Callable[[list[bytes]], list[bytes]]


def add_to(app: typer.Typer) -> None:
    app.command(
        "tail",
        epilog=examples(
            "tickbridge tail trade",
            "tickbridge tail trade,gap --symbol BTCUSDT --from 15m --table",
            "tickbridge tail trade --from 2026-11-28T09:30 | jq .price",
            "tickbridge tail gap --from earliest --count 1",
        ),
    )(tail)


def tail(  # noqa: PLR0913 - each is an option of its own
    kind: Kinds,
    *,
    symbol: OnlySymbols = [],  # noqa: B006 - typer's own way, and never changed
    begin: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="TIME",
            help="Where to start: latest, earliest, a time in UTC (2026-11-28T09:30), or how long "
            "ago (90s, 15m, 2h, 1d).",
        ),
    ] = "latest",
    count: Annotated[
        int | None, typer.Option(min=1, show_default=False, help="Stop after this many events.")
    ] = None,
    as_table: Annotated[
        bool, typer.Option("--table", help="Print columns for people instead of JSON.")
    ] = False,
    kafka: Brokers = None,
    config: Config = None,
) -> None:
    """Print the events of Kafka topics as they arrive, one JSON object per line, unchanged.

    A terminal gets escapes for characters that it would execute.

    Joins no consumer group and commits nothing. Ctrl-C stops it.
    """
    from bridge.client import KafkaFeed
    from bridge.monitoring import logs

    settings = reader_settings(config, kafka=kafka)
    logs.configure(settings.log)
    kinds, start = comma_separated(kind), since(begin)
    try:
        feed = KafkaFeed(settings.kafka, kinds, symbols=symbol, start=start, check="off")
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="KIND") from None
    with suppress(KeyboardInterrupt):
        run_async(_print(feed, count, _table_lines(kinds) if as_table else _json_lines))


async def _print(feed: "KafkaFeed", count: int | None, lines_of: Lines) -> None:
    """Print the events. Each batch is flushed, so that it does not wait in a buffer."""
    left = float("inf") if count is None else count
    async with feed:
        async for fetched in feed.batches():
            values = fetched if len(fetched) <= left else fetched[: int(left)]
            sys.stdout.buffer.write(b"".join(line + b"\n" for line in lines_of(values)))
            sys.stdout.buffer.flush()
            left -= len(values)
            if not left:
                return


def _json_lines(values: list[bytes]) -> list[bytes]:
    """Return the values unchanged; a terminal gets escapes for what it would execute."""
    from bridge.monitoring.words import printable

    if not sys.stdout.isatty():
        return values
    return [printable(value.decode(errors="backslashreplace")).encode() for value in values]


def _table_lines(kinds: list[str]) -> Lines:
    from bridge.cli.event_table import EventTable
    from bridge.client import UnreadableEvent, decode_event
    from bridge.monitoring.words import printable

    table = EventTable(kinds)

    def lines_of(values: list[bytes]) -> list[bytes]:
        lines: list[str] = []
        for value in values:
            try:
                lines += table.lines(decode_event(value))
            except UnreadableEvent as error:
                lines.append(printable(f"not shown: {error}"))
        return [line.encode() for line in lines]

    return lines_of
