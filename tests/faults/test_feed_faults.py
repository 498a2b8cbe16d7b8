"""The exchange misbehaves: every trade is in Kafka exactly once and in order all the same.

The bridge is a process of its own; the simulated exchange keeps the truth to compare with. Seeded:
the seed stands in the plan.
"""

import asyncio
from pathlib import Path

import pytest

from bridge.simulator import (
    AnnounceShutdown,
    CloseWith,
    Cut,
    FaultPlan,
    Malformed,
    Market,
    RefuseRequest,
    Reorder,
    Repeat,
    RestBehind,
    SimulatedExchange,
    Skip,
    StallLeg,
)
from tests.brokers import Kafka, RedisAddress, read_topic
from tests.faults.reading import arrived, assert_all, assert_audit, of_symbol, played_ids
from tests.integration.bridge_process import running_bridge
from tests.integration.settings import bridge_settings

SEED = 20261122
SYMBOLS = ["BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT"]
STREAMS = ["trade", "aggTrade", "bookTicker"]
PLAN = FaultPlan(
    (
        Cut(every_s=4.0),
        CloseWith(at_s=6.0, code=1008),
        AnnounceShutdown(at_s=9.0, lead_s=0.5),
        StallLeg(at_s=11.0, for_s=1.0),
        Repeat(share=0.01),
        Reorder(share=0.01),
        Skip(share=0.001),
        Malformed(share=0.01),
        RestBehind(by_ms=300),
        RefuseRequest(status=503, share=0.1),
    ),
    seed=SEED,
)
FAULTY_S = 15

pytestmark = [pytest.mark.timeout(180), pytest.mark.faults]


async def test_every_trade_arrives_once_and_in_order_whatever_the_exchange_does(
    kafka: Kafka, redis: RedisAddress, unique: str, tmp_path: Path
) -> None:
    market = Market(SYMBOLS, seed=SEED, begin_ms=1_790_000_000_000, trades_per_second=100)
    async with SimulatedExchange(market, faults=PLAN) as exchange:
        settings = bridge_settings(exchange, kafka.bootstrap_servers, redis.url, unique)
        settings["binance"] |= {"symbols": SYMBOLS, "streams": STREAMS}
        settings["repair"] = {"weight_share": 1.0}
        async with running_bridge(tmp_path, settings) as bridge:
            await bridge.logged("leg_open")
            await asyncio.sleep(FAULTY_S)
            # What has been played by now has to arrive, and then the bridge may stop.
            wanted = played_ids(exchange, SYMBOLS)
            await arrived(kafka.bootstrap_servers, unique, wanted)
            assert await bridge.stop() == 0
        assert {type(incident.fault) for incident in exchange.happened} == {
            type(fault) for fault in PLAN.faults
        }
        for kind, name in (("trade", "trade"), ("agg_trade", "aggTrade")):
            records = await read_topic(kafka.bootstrap_servers, f"{unique}.binance.spot.{kind}")
            for symbol in SYMBOLS:
                played = exchange.history.played(f"{symbol.lower()}@{name}")
                assert_all(of_symbol(records, symbol), played, f"{kind}_id")
    await assert_audit(kafka.bootstrap_servers, unique)
