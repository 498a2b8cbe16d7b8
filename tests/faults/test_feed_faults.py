"""The exchange misbehaves: every trade is in Kafka exactly once and in order all the same.

The bridge is a process of its own; the simulated exchange keeps the truth to compare with. Seeded:
the seed stands in the plan.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiokafka import ConsumerRecord

from bridge.audit.run import audit_topic
from bridge.settings import Kafka as KafkaSettings
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
TIMEOUT_S = 60

pytestmark = [pytest.mark.timeout(180), pytest.mark.integration]


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
            wanted = {stream: exchange.history.id_range(stream) for stream in _contiguous()}
            await _arrived(kafka.bootstrap_servers, unique, wanted)
            assert await bridge.stop() == 0
        assert {type(incident.fault) for incident in exchange.happened} == {
            type(fault) for fault in PLAN.faults
        }
        for kind, name in (("trade", "trade"), ("agg_trade", "aggTrade")):
            records = await read_topic(kafka.bootstrap_servers, f"{unique}.binance.spot.{kind}")
            for symbol in SYMBOLS:
                played = exchange.history.played(f"{symbol.lower()}@{name}")
                _assert_all(_of(records, symbol), played, f"{kind}_id")
    await _assert_audit(kafka.bootstrap_servers, unique)


def _contiguous() -> list[str]:
    return [f"{symbol.lower()}@{name}" for symbol in SYMBOLS for name in ("trade", "aggTrade")]


async def _arrived(
    bootstrap_servers: str, unique: str, wanted: dict[str, tuple[int, int] | None]
) -> None:
    """Wait until each stream's last id is in its topic."""
    missing = dict(wanted)
    async with asyncio.timeout(TIMEOUT_S):
        while missing:
            for kind, name in (("trade", "trade"), ("agg_trade", "aggTrade")):
                records = await read_topic(bootstrap_servers, f"{unique}.binance.spot.{kind}")
                for symbol in SYMBOLS:
                    stream = f"{symbol.lower()}@{name}"
                    found = _of(records, symbol)
                    last = missing.get(stream)
                    if last and found and found[-1][f"{kind}_id"] >= last[1]:
                        del missing[stream]


def _of(records: "list[ConsumerRecord[bytes, bytes]]", symbol: str) -> list[dict[str, Any]]:
    return [json.loads(r.value or b"") for r in records if r.key == symbol.encode()]


def _assert_all(events: list[dict[str, Any]], played: list[Any], id_field: str) -> None:
    """Contiguous from the first id on, and each as it was played."""
    ids = [event[id_field] for event in events]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    truth = {trade.id: trade for trade in played}
    for event in events:
        trade = truth[event[id_field]]
        assert (event["price"], event["volume"]) == (trade.price, trade.quantity)
        assert event["timestamp"] == trade.time_ms * 1000
        assert event["side"] == ("sell" if trade.buyer_is_maker else "buy")


async def _assert_audit(bootstrap_servers: str, unique: str) -> None:
    """The audit, which knows nothing of all this, finds nothing that was not announced."""
    options = KafkaSettings.model_validate(
        {"bootstrap_servers": bootstrap_servers, "topic": unique + ".{venue}.{message_type}"}
    )
    for kind in ("trade", "agg_trade", "quote"):
        report = await audit_topic(options, kind)
        assert report.findings == []
