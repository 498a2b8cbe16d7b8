"""Shared parts of the sinks' tests: events, and a running sink whose accounts are checked."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from bridge.core.binance.stream_names import stream_of
from bridge.core.model.events import AggTrade, Event, Gap, Ticker, Trade
from bridge.core.model.stream import Stream
from bridge.core.records.record import Router
from bridge.pipeline.sink import Sink
from bridge.telemetry import accounts

TIME_US = 1_790_000_000_000_000


SYMBOLS = ("BTCUSDT", "ETHUSDT", "牛来USDT")


def trade(venue: str, trade_id: int, symbol: str = "BTCUSDT", price: str = "") -> Trade:
    time = TIME_US + trade_id
    price = price or f"{trade_id}.5"
    return Trade(venue, symbol, time, time + 500, "websocket", trade_id, price, "0.1", "buy")


def trades(venue: str, ids: Iterable[int], symbol: str = "BTCUSDT") -> list[Event]:
    return [trade(venue, number, symbol) for number in ids]


def gap(venue: str, first_id: int, last_id: int, state: str = "open") -> Gap:
    return Gap(
        venue=venue,
        symbol="BTCUSDT",
        timestamp=None,
        received=TIME_US,
        source="websocket",
        kind="trade",
        first_id=first_id,
        last_id=last_id,
        from_time=TIME_US + first_id - 1,
        to_time=TIME_US + last_id + 1,
        cause="repair_timeout",
        state=state,  # type: ignore[arg-type]  # one of them
    )


def agg_trade(venue: str, last_id: int) -> AggTrade:
    time = TIME_US + last_id
    price, middle = f"{last_id}.5", (last_id // 2, last_id, last_id)
    return AggTrade(venue, "BTCUSDT", time, time, "websocket", *middle, price, "0.1", "sell")


def ticker(venue: str, moment: int, symbol: str = "BTCUSDT") -> Ticker:
    names = "price volume open high low quote_volume change change_percent weighted_average_price"
    figures = dict.fromkeys(names.split(), "1.0") | {"price": f"{moment}.5"}
    return Ticker(
        venue=venue,
        symbol=symbol,
        timestamp=moment,
        received=TIME_US,
        source="websocket",
        window="24h",
        trade_count=1,
        open_time=0,
        close_time=moment,
        bid_price="1",
        bid_volume="1",
        ask_price="2",
        ask_volume="2",
        **figures,
    )


def streams(*kinds: str, symbols: Iterable[str] = SYMBOLS) -> list[Stream]:
    return [stream_of(symbol, kind) for symbol in symbols for kind in kinds or ("trade",)]


class Feeder:
    """Pushes events into a sink as the pipeline does, and keeps the accounts."""

    def __init__(self, sink: Sink, *kinds: str, symbols: Iterable[str] = SYMBOLS) -> None:
        self._sink = sink
        self._router = Router(streams(*kinds, symbols=symbols), "{venue}.{message_type}")
        self.received: Counter[str] = Counter()

    def push(self, *events: Event) -> None:
        for event in events:
            record = self._router.record(event)
            self.received[record.route.message_type] += 1
            self._sink.push((record,), {record.route: event})
            self.check()

    def check(self) -> None:
        """Check that received + restored = published + dropped + pending."""
        for account in accounts(self.received, self._sink.counts, self._sink.pending()).values():
            assert account.received == account.published + account.dropped + account.pending


@asynccontextmanager
async def running(sink: Sink) -> AsyncIterator["asyncio.Task[None]"]:
    """Run the sink, which may fail, while the context is open."""
    task = asyncio.create_task(sink.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait((task,))


@asynccontextmanager
async def at_work(sink: Sink) -> AsyncIterator["asyncio.Task[None]"]:
    """Run the sink while the context is open; raise its error at the end."""
    async with running(sink) as task:
        yield task
    if not task.cancelled() and (error := task.exception()):
        raise error


async def until(condition: Callable[[], bool], changed: asyncio.Event) -> None:
    while not condition():
        changed.clear()
        await changed.wait()
