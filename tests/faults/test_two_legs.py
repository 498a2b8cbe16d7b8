"""Two legs with the same streams, and an exchange that misbehaves on both: what one misses, the
other brings, and nobody is told of an interruption that was none.
"""

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bridge.simulator import (
    AnnounceShutdown,
    Cut,
    FaultPlan,
    Market,
    SimulatedExchange,
    StallLeg,
)
from tests.brokers import Kafka, RedisAddress, read_topic
from tests.faults.reading import arrived, assert_all, assert_audit, of_symbol, played_ids
from tests.faults.test_feed_faults import STREAMS, SYMBOLS
from tests.integration.bridge_process import BridgeProcess, running_bridge
from tests.integration.settings import bridge_settings

SEED = 20261123
# Connections 0 and 1 are the legs' first; each fault befalls one leg, while the other is open.
PLAN = FaultPlan(
    (
        Cut(at_s=8.0, connection=0),
        AnnounceShutdown(at_s=10.0, lead_s=0.5, connection=1),
        Cut(at_s=12.0, connection=2),
        StallLeg(at_s=13.0, for_s=4.0, connection=3),
    ),
    seed=SEED,
)
FAULTY_S = 18

pytestmark = [pytest.mark.timeout(180), pytest.mark.faults]


async def test_with_two_legs_no_fault_of_one_costs_a_trade_or_interrupts_a_quote(
    kafka: Kafka, redis: RedisAddress, unique: str, tmp_path: Path
) -> None:
    market = Market(SYMBOLS, seed=SEED, begin_ms=1_790_000_000_000, trades_per_second=100)
    async with SimulatedExchange(market, faults=PLAN) as exchange:
        settings = bridge_settings(exchange, kafka.bootstrap_servers, redis.url, unique)
        settings["binance"] |= {"symbols": SYMBOLS, "streams": STREAMS, "legs": 2}
        async with running_bridge(tmp_path, settings) as bridge:
            port = (await bridge.logged("http_open"))["port"]
            await bridge.logged("leg_open")
            await asyncio.sleep(FAULTY_S)
            figures = await _figures(port)
            wanted = played_ids(exchange, SYMBOLS)
            await arrived(kafka.bootstrap_servers, unique, wanted)
            assert await bridge.stop() == 0
        assert {incident.fault for incident in exchange.happened} == set(PLAN.faults)
        for kind, name in (("trade", "trade"), ("agg_trade", "aggTrade")):
            records = await read_topic(kafka.bootstrap_servers, f"{unique}.binance.spot.{kind}")
            for symbol in SYMBOLS:
                played = exchange.history.played(f"{symbol.lower()}@{name}")
                assert_all(of_symbol(records, symbol), played, f"{kind}_id")
    await assert_audit(kafka.bootstrap_servers, unique)
    gaps = await read_topic(kafka.bootstrap_servers, f"{unique}.binance.spot.gap")
    assert [json.loads(record.value or b"") for record in gaps] == []
    _assert_replaced(bridge)
    assert min(figures["tickbridge_leg_events_total", leg] for leg in "ab") > 0
    assert sum(figures["tickbridge_leg_lead_seconds_count", leg] for leg in "ab") > 0


def _assert_replaced(bridge: BridgeProcess) -> None:
    """The announced end is a replacement; what was cut came back."""
    events = [line["event"] for line in bridge.log]
    assert events.count("leg_down") == 2
    assert [line["cause"] for line in bridge.log if line["event"] == "leg_replacing"] == [
        "server_shutdown"
    ]


async def _figures(port: int) -> dict[tuple[str, str], float]:
    """The metrics of the legs, by name and label."""
    async with aiohttp.request("GET", f"http://127.0.0.1:{port}/metrics") as answer:
        families = text_string_to_metric_families(await answer.text())
    samples = (sample for family in families for sample in family.samples)
    return {(s.name, s.labels["leg"]): s.value for s in samples if "leg" in s.labels}
