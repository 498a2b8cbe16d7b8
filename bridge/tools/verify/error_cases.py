"""Five connection errors, provoked on loopback with the transport of the settings.

A wrong URL, a wrong symbol, a handshake without an answer, a ping without a pong, broken JSON.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from bridge import settings
from bridge.binance.feed import Feed
from bridge.binance.listing import find_streams
from bridge.binance.rest import Rest
from bridge.core.binance.stream_names import parse_stream
from bridge.core.model.events import Event
from bridge.core.model.stream import SPOT
from bridge.core.records.record import Record, Route, Router
from bridge.core.sequencing.sequencers import Sequencers
from bridge.errors import SettingsError, TickbridgeError
from bridge.pipeline.pipeline import Pipeline
from bridge.settings.urls import SecretUrl
from bridge.sinks.memory import MemorySink
from bridge.telemetry import FeedCounts
from bridge.tools.simulator import (
    Fault,
    FaultPlan,
    Malformed,
    Market,
    SimulatedExchange,
    StallConnection,
)
from bridge.tools.verify.report import Check

CASE_TIMEOUT_S = 20.0
SYMBOL, UNKNOWN = "BTCUSDT", "NOSUCHCOIN"
STREAM = f"{SYMBOL.lower()}@trade"
WRONG_URL = "stream.binance.com:9443/ws"
TRADES_PER_SECOND = 50.0
# Replaces these values of the settings.
_ONE_STREAM = {
    "symbols": [SYMBOL],
    "streams": ["trade"],
    "extra_streams": [],
    "redundancy": 1,
    "proxy": SecretUrl("none"),
    "reconnect_max_delay_s": 1.0,
}
# With the timeouts of the settings it would take half a minute to find a dead connection.
_HASTE = {"connect_timeout_s": 0.5, "ping_interval_s": 0.3, "ping_timeout_s": 0.3}
# A case waits for this many broken frames and this many trades.
_BROKEN, _TRADES = 5, 50


class _NotHandled(Exception):
    """The bridge did not react to an error as it should."""


async def try_error_cases(options: settings.Binance) -> list[Check]:
    """Run all cases at the same time. Each has CASE_TIMEOUT_S."""
    options = options.model_copy(update=_ONE_STREAM)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_try(name, case, options)) for name, case in _CASES.items()]
    return [task.result() for task in tasks]


async def _try(
    name: str, case: Callable[[settings.Binance], Awaitable[str]], options: settings.Binance
) -> Check:
    check = Check(name, passed=False, text="", is_provoked=True)
    try:
        async with asyncio.timeout(CASE_TIMEOUT_S):
            check.text = await case(options)
            check.passed = True
    except TimeoutError:
        check.text = f"no result within {CASE_TIMEOUT_S:g} s"
    except (_NotHandled, TickbridgeError) as error:
        check.text = str(error)
    return check


async def _wrong_url(_: settings.Binance) -> str:
    """Require that a URL without a scheme is refused, and that the error says what to write."""
    wrong = {"symbols": [SYMBOL], "websocket_url": WRONG_URL}
    try:
        settings.load_settings(environment={}, overrides={"binance": wrong})
    except SettingsError as error:
        for problem in error.problems:
            if problem.key == "binance.websocket_url":
                return f"refused: {problem}"
    raise _NotHandled(f"{WRONG_URL} is accepted as a URL")


async def _wrong_symbol(options: settings.Binance) -> str:
    """Require that an unknown symbol is named, and that the other symbol is subscribed to."""
    async with _exchange() as exchange:
        options = _at(exchange, options, symbols=[SYMBOL, UNKNOWN])
        async with Rest(options) as rest:
            found = await find_streams(options, rest)
    if [stream.name for stream in found.streams] != [STREAM] or UNKNOWN not in str(found.refused):
        raise _NotHandled(f"{UNKNOWN} is subscribed to, or {SYMBOL} is not")
    return f"left out, {SYMBOL} is subscribed to: {' '.join(found.refused)}"


async def _no_answer(options: settings.Binance) -> str:
    """Require that the connection attempt times out, and that another attempt follows."""
    attempts_s: list[float] = []
    tried_again = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        attempts_s.append(time.monotonic())
        if len(attempts_s) > 1:
            tried_again.set()
        await reader.read(-1)
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        options = options.model_copy(update={**_HASTE, "websocket_url": f"ws://127.0.0.1:{port}"})
        async with _feed(options, _Arrivals()) as counts:
            await tried_again.wait()
    if not counts.reconnects["connect"]:
        raise _NotHandled("a second connection was opened before the first one timed out")
    waited_s = attempts_s[1] - attempts_s[0]
    return f"timeout after {options.connect_timeout_s:g} s, next attempt after {waited_s:.1f} s"


async def _no_pong(options: settings.Binance) -> str:
    """Require that a connection without pongs is replaced, and that the next one brings data."""
    began_s, arrivals = time.monotonic(), _Arrivals()
    deaf = StallConnection(connection=0, for_s=10 * CASE_TIMEOUT_S, deaf=True)
    async with (
        _exchange(deaf) as exchange,
        _feed(_at(exchange, options, **_HASTE), arrivals) as counts,
    ):
        await arrivals.until(_TRADES)
    if counts.reconnects["ping_timeout"] != 1:
        raise _NotHandled(f"expected one ping_timeout reconnect: {dict(counts.reconnects)}")
    return f"connection replaced, data again within {time.monotonic() - began_s:.1f} s"


async def _broken_json(options: settings.Binance) -> str:
    """Require that each broken frame becomes an `invalid` event, and that no trade is lost."""
    arrivals = _Arrivals()
    async with (
        _exchange(Malformed(share=0.2)) as exchange,
        _feed(_at(exchange, options), arrivals) as counts,
    ):
        await arrivals.until(_TRADES, broken=_BROKEN)
    broken = arrivals.counts.published["invalid"]
    ids = [record.identity for record in arrivals.records if record.route.message_type == "trade"]
    if ids != list(range(ids[0], ids[0] + len(ids))) or broken != counts.invalid.total():
        raise _NotHandled(
            f"{broken} broken frames: trades are lost, or some of the frames are not published"
        )
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts.invalid.items())
    return f"{broken} invalid events ({reasons}), {len(ids)} trades around them, none lost"


_CASES = {
    "wrong_url": _wrong_url,
    "wrong_symbol": _wrong_symbol,
    "no_answer": _no_answer,
    "no_pong": _no_pong,
    "broken_json": _broken_json,
}


class _Arrivals(MemorySink):
    """A memory sink that a test case can wait on."""

    def __init__(self) -> None:
        super().__init__()
        self._came = asyncio.Event()

    def push(self, records: Sequence[Record], latest: Mapping[Route, Event]) -> None:
        super().push(records, latest)
        self._came.set()

    async def until(self, trades: int, broken: int = 0) -> None:
        """Wait until this many trades and broken frames have come."""
        published = self.counts.published
        while published["trade"] < trades or published["invalid"] < broken:
            self._came.clear()
            await self._came.wait()


@asynccontextmanager
async def _exchange(*faults: Fault) -> AsyncIterator[SimulatedExchange]:
    market = Market([SYMBOL], trades_per_second=TRADES_PER_SECOND)
    async with SimulatedExchange(market, faults=FaultPlan(faults)) as exchange:
        yield exchange


@asynccontextmanager
async def _feed(options: settings.Binance, sink: MemorySink) -> AsyncIterator[FeedCounts]:
    """Run the feed of the bridge for one trade stream, and yield its counts."""
    streams = [parse_stream(STREAM)]
    router = Router(streams, "{venue}.{message_type}")
    pipeline = Pipeline(SPOT, router, Sequencers(streams), (sink,))
    feed = Feed(options)
    feed.add(pipeline, streams)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(feed.run(), name="feed")
        yield pipeline.counts
        running.cancel()


def _at(exchange: SimulatedExchange, options: settings.Binance, **more: object) -> settings.Binance:
    urls = {"websocket_url": exchange.websocket_url, "rest_url": exchange.rest_url}
    return options.model_copy(update={**urls, **more})
