"""`tickbridge tail`."""

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.cli.options import Brokers, Config, OnlySymbols, examples, reader_settings, run_async

if TYPE_CHECKING:
    from bridge.client import KafkaFeed


def add_to(app: typer.Typer) -> None:
    app.command(
        "tail",
        epilog=examples(
            "tickbridge tail trade",
            "tickbridge tail trade --symbol BTCUSDT --from-start | jq .price",
            "tickbridge tail gap --from-start --count 1",
        ),
    )(tail)


def _message_types(incomplete: str) -> list[str]:
    from bridge.core.model.events import EVENT_TYPES

    return [kind for kind in EVENT_TYPES if kind.startswith(incomplete)]


def tail(  # noqa: PLR0913 - each is an option of its own
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            autocompletion=_message_types,
            help="Message type: trade, agg_trade, quote, ticker, candle, book, gap…",
        ),
    ],
    *,
    symbol: OnlySymbols = [],  # noqa: B006 - typer's own way, and never changed
    from_start: Annotated[
        bool, typer.Option("--from-start", help="Start with the oldest event in the topic.")
    ] = False,
    count: Annotated[
        int | None, typer.Option(min=1, show_default=False, help="Stop after this many events.")
    ] = None,
    kafka: Brokers = None,
    config: Config = None,
) -> None:
    """Print the events of a Kafka topic as they arrive, one JSON object per line, unchanged.

    A terminal gets escapes for characters that it would execute.

    Joins no consumer group and commits nothing. Ctrl-C stops it.
    """
    from bridge.client import KafkaFeed
    from bridge.monitoring import logs

    settings = reader_settings(config, kafka=kafka)
    logs.configure(settings.log)
    try:
        feed = KafkaFeed(
            settings.kafka,
            kind,
            symbols=symbol,
            start="earliest" if from_start else "latest",
            check="off",
        )
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="KIND") from None
    with suppress(KeyboardInterrupt):
        run_async(_print(feed, count))


async def _print(feed: "KafkaFeed", count: int | None) -> None:
    """Print the batches. Each one is flushed, so that it does not wait in a buffer. A terminal gets
    escapes for what it would execute.
    """
    from bridge.monitoring.words import printable

    left = float("inf") if count is None else count
    async with feed:
        async for values in feed.batches():
            lines = values if len(values) <= left else values[: int(left)]
            if sys.stdout.isatty():
                lines = [
                    printable(line.decode(errors="backslashreplace")).encode() for line in lines
                ]
            sys.stdout.buffer.write(b"".join(line + b"\n" for line in lines))
            sys.stdout.buffer.flush()
            left -= len(lines)
            if not left:
                return
