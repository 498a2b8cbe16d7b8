"""Candles and block trades that a bridge has missed are in the topic, in their place."""

import asyncio
import json
import signal
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bridge.core.model.stream import SPOT
from bridge.settings import load_settings
from bridge.tools.audit.run import audit_topic
from bridge.tools.simulator import FaultPlan, Market, SimulatedExchange, instrument
from bridge.tools.simulator.faults import Cut
from tests.support.bridge_process import running_bridge
from tests.support.bridge_settings import bridge_settings
from tests.support.brokers import Kafka, RedisAddress, read_topic

SYMBOLS = ["BTCUSDT", "ETHUSDT", "BNBUSDT"]
INTERVALS = ("1s", "1m")
BLOCK_TRADES_EVERY_MS = 700
STREAMS = ["trade", "kline_1s", "kline_1m", "blockTrade"]
AWAY_S = 4

pytestmark = pytest.mark.timeout(180)


async def test_candles_and_block_trades_of_a_cut_and_of_a_kill_are_in_their_place(
    kafka: Kafka,
    redis: RedisAddress,
    unique: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(instrument, "MINUTE_MS", BLOCK_TRADES_EVERY_MS)
    servers = kafka.bootstrap_servers
    market = Market(SYMBOLS, seed=3, begin_ms=time.time_ns() // 10**6, trades_per_second=20)
    async with SimulatedExchange(market, faults=FaultPlan()) as exchange:
        settings = bridge_settings(
            exchange, servers, redis.url, unique, symbols=SYMBOLS, streams=STREAMS
        )
        async with running_bridge(tmp_path, settings) as bridge:
            await bridge.logged("connection_open")
            await _all_since(servers, unique, market.now_ms)
            exchange.inject(Cut())
            await bridge.logged("connection_open", count=2)
            await _all_since(servers, unique, market.now_ms)
            await bridge.stop(signal.SIGKILL)
        await asyncio.sleep(AWAY_S)
        async with running_bridge(tmp_path, settings) as bridge:
            await bridge.logged("connection_open")
            await _all_since(servers, unique, market.now_ms)
            assert await bridge.stop() == 0
    candles = await _events(servers, unique, "candle")
    blocks = await _events(servers, unique, "block_trade")
    for symbol in SYMBOLS:
        for interval in INTERVALS:
            closed = [event for event in candles if _is_closed(event, symbol, interval)]
            _check_candles(market, symbol, closed)
        played = [trade.id for trade in exchange.history.played(f"{symbol.lower()}@blockTrade")]
        ids = [event["trade_id"] for event in blocks if event["symbol"] == symbol]
        assert ids == [identity for identity in played if ids[0] <= identity <= ids[-1]]
    for events in (blocks, [event for event in candles if event["closed"]]):
        assert {event["source"] for event in events} == {"websocket", "rest"}
    gaps = await _events(servers, unique, "gap")
    states = {(gap["kind"], gap["cause"], gap["state"]) for gap in gaps}
    assert ("candle", "restart", "filled") in states
    assert not {state for kind, _, state in states if kind != "trade"} - {"filled"}
    options = load_settings(environment={}, overrides=settings).kafka
    for kind in ("candle", "block_trade"):
        assert (await audit_topic(options, kind)).findings == []


def _check_candles(market: Market, symbol: str, closed: list[dict[str, Any]]) -> None:
    """Check that the closed candles follow each other, and that their figures are the market's."""
    assert all(a["close_time"] + 1000 == b["open_time"] for a, b in pairwise(closed))
    spans = [(event["open_time"] // 1000, event["close_time"] // 1000) for event in closed]
    bars = market.candles(symbol, spans)
    assert [event["trade_count"] for event in closed] == [bar.trades for bar in bars]


def _is_closed(event: dict[str, Any], symbol: str, interval: str) -> bool:
    return bool(event["symbol"] == symbol and event["interval"] == interval and event["closed"])


async def _all_since(servers: str, unique: str, at_ms: int) -> None:
    """Wait until each symbol has a block trade and a closed candle after a time."""

    def are_there(events: list[dict[str, Any]]) -> bool:
        new = [event for event in events if event["timestamp"] > at_ms * 1000]
        return {event["symbol"] for event in new if event.get("closed", True)} == set(SYMBOLS)

    for kind in ("candle", "block_trade"):
        await _seen(servers, unique, kind, are_there)


async def _seen(
    servers: str, unique: str, kind: str, is_there: Callable[[list[dict[str, Any]]], bool]
) -> None:
    async with asyncio.timeout(60):
        while not is_there(await _events(servers, unique, kind)):  # noqa: ASYNC110
            await asyncio.sleep(0.2)


async def _events(servers: str, unique: str, kind: str) -> list[dict[str, Any]]:
    records = await read_topic(servers, f"{unique}.{SPOT}.{kind}")
    return [json.loads(record.value) for record in records]
