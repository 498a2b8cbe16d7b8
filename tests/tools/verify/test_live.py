"""The observation of a feed: a healthy market, and markets with faults."""

import asyncio

import pytest

from bridge.settings import Settings, load_settings
from bridge.tools.simulator import (
    CloseWith,
    Fault,
    FaultPlan,
    Market,
    RestLacks,
    SimulatedExchange,
    Skip,
    StallStream,
)
from bridge.tools.verify.checks import checks
from bridge.tools.verify.live import observe
from bridge.tools.verify.report import Observation
from tests.support.exchange import TRANSPORTS

pytestmark = pytest.mark.timeout(60)

BEGIN_MS = 1_760_000_000_000
SECONDS = 2.0
# Once, and early enough for the repair to finish.
THREE_TRADES_SKIPPED = Skip(at_s=0.2, count=3, streams="*@trade")


def exchange(*faults: Fault) -> SimulatedExchange:
    market = Market(["BTCUSDT"], begin_ms=BEGIN_MS, trades_per_second=200)
    return SimulatedExchange(market, faults=FaultPlan(faults))


def settings(running: SimulatedExchange, **binance: object) -> Settings:
    urls = {"websocket_url": running.websocket_url, "rest_url": running.rest_url}
    chosen = {"symbols": ["BTCUSDT"], "streams": ["trade", "bookTicker"], **urls, **binance}
    overrides = {"binance": chosen, "repair": {"timeout_s": 0.5}}
    return load_settings(environment={}, overrides=overrides)


async def look(running: SimulatedExchange, **binance: object) -> Observation:
    return await observe(settings(running, **binance), SECONDS, asyncio.Event())


def failed(seen: Observation) -> dict[str, str]:
    return {check.name: check.text for check in checks(seen) if not check.passed}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_market_that_behaves_passes(transport: str) -> None:
    async with exchange() as running:
        seen = await look(running, **TRANSPORTS[transport])
    assert failed(seen) == {}
    assert seen.connection.transport == transport
    assert seen.messages.frames == seen.messages.events == sum(s.events for s in seen.streams)
    assert {(s.message_type, s.symbol) for s in seen.streams} == {
        ("trade", "BTCUSDT"),
        ("quote", "BTCUSDT"),
    }
    assert seen.proven["trade"] > 50
    assert seen.clock is not None
    # The clock of the market is years behind ours.
    assert seen.clock.offset_ms < -1e9


async def test_holes_that_rest_fills_are_counted_and_proven_away() -> None:
    async with exchange(THREE_TRADES_SKIPPED) as running:
        seen = await look(running)
    assert seen.messages.fetched == 3
    assert seen.findings == []
    assert "fetched over REST" in "".join(c.text for c in checks(seen) if c.name == "order")


async def test_trades_that_nobody_has_any_more_fail_the_order() -> None:
    async with exchange(THREE_TRADES_SKIPPED, RestLacks(share=1.0)) as running:
        seen = await look(running)
    assert list(failed(seen)) == ["order"]


async def test_a_connection_that_is_closed_under_way_fails() -> None:
    async with exchange(CloseWith(connection=0, at_s=0.3)) as running:
        seen = await look(running)
    assert "1 closed" in failed(seen)["connection"]


async def test_streams_that_say_nothing_are_named() -> None:
    async with exchange(StallStream(streams="*@bookTicker", for_s=3600)) as running:
        seen = await look(running)
    assert "1 of 2 heard; no data from: btcusdt@bookTicker" in failed(seen)["streams"]


async def test_what_is_asked_for_when_it_is_stopped_is_all_there_is() -> None:
    stopped = asyncio.Event()
    stopped.set()
    async with exchange() as running:
        seen = await observe(settings(running), 60, stopped)
    names = ["symbols", "handshake", "connection", "messages", "streams", "order"]
    assert list(failed(seen)) == names
