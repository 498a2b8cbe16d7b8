"""The bridge is killed and stopped: every trade is in Kafka exactly once all the same.

Each bridge is a process of its own; the market goes on while none runs. Seeded: the seed stands
below.
"""

import asyncio
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from bridge.simulator import FaultPlan, Market, SimulatedExchange
from tests.brokers import Kafka, RedisAddress, read_topic
from tests.faults.reading import arrived, assert_all, assert_audit, of_symbol, played_ids
from tests.integration.bridge_process import running_bridge
from tests.integration.settings import bridge_settings

SEED = 20261123
SYMBOLS = ["BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT"]
STREAMS = ["trade", "aggTrade", "bookTicker"]
CONTIGUOUS = {"trade": "trade", "agg_trade": "aggTrade"}
# Some lives end before positions are written for the first time, some behind it.
LIVES_S = (0.5, 9.0)
ENDS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGKILL)

pytestmark = [pytest.mark.timeout(180), pytest.mark.faults]


async def test_every_trade_arrives_once_and_in_order_through_kills_and_stops(
    kafka: Kafka, redis: RedisAddress, unique: str, tmp_path: Path
) -> None:
    chance = random.Random(SEED)
    market = Market(SYMBOLS, seed=SEED, begin_ms=1_790_000_000_000, trades_per_second=200)
    async with SimulatedExchange(market, faults=FaultPlan((), seed=SEED)) as exchange:
        settings = bridge_settings(exchange, kafka.bootstrap_servers, redis.url, unique)
        settings["binance"] |= {"symbols": SYMBOLS, "streams": STREAMS}
        settings["repair"] = {"weight_share": 1.0}
        for end in ENDS:
            await _live(tmp_path, settings, chance.uniform(*LIVES_S), end)
        async with running_bridge(tmp_path, settings) as bridge:
            await bridge.logged("leg_open")
            await asyncio.sleep(1)
            wanted = played_ids(exchange, SYMBOLS)
            await arrived(kafka.bootstrap_servers, unique, wanted)
            assert await bridge.stop() == 0
            assert (await bridge.logged("start_known"))["streams"] == 12
        for kind, name in CONTIGUOUS.items():
            records = await read_topic(kafka.bootstrap_servers, f"{unique}.binance.spot.{kind}")
            for symbol in SYMBOLS:
                played = exchange.history.played(f"{symbol.lower()}@{name}")
                assert_all(of_symbol(records, symbol), played, f"{kind}_id")
    await assert_audit(kafka.bootstrap_servers, unique)
    await _assert_quotes_announced(kafka.bootstrap_servers, unique)


async def _live(folder: Path, settings: dict[str, Any], life_s: float, end: signal.Signals) -> None:
    """One bridge, ended at some moment of its flow."""
    async with running_bridge(folder, settings) as bridge:
        await bridge.logged("leg_open")
        await asyncio.sleep(life_s)
        assert await bridge.stop(end) == (0 if end == signal.SIGTERM else -end)


async def _assert_quotes_announced(bootstrap_servers: str, unique: str) -> None:
    """Where quotes may be missing is said: once a symbol and a restart."""
    gaps = await read_topic(bootstrap_servers, f"{unique}.binance.spot.gap")
    for symbol in SYMBOLS:
        restarts = [gap for gap in of_symbol(gaps, symbol) if gap["cause"] == "restart"]
        assert {gap["kind"] for gap in restarts} == {"quote"}
        assert all(gap["from_time"] <= gap["to_time"] for gap in restarts)
