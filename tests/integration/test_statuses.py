"""The statuses of symbols and the heartbeat, as consumers see them on real brokers."""

import asyncio
import json
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from bridge.client import LatestPrices
from bridge.core.model.stream import SPOT
from bridge.core.records.latest_values import heartbeat_key
from bridge.settings import load_settings
from bridge.tools.audit.run import audit_topic
from bridge.tools.simulator import Market, SimulatedExchange
from tests.support.audit_publishing import publish
from tests.support.bridge_process import running_bridge
from tests.support.bridge_settings import bridge_settings
from tests.support.brokers import Kafka, RedisAddress, read_topic

SYMBOLS = ["BTCUSDT", "ETHUSDT"]
INTERVAL_S = 1
# The heartbeat belongs to a Redis database, not to topics.
OWN_DATABASE = "/14"

pytestmark = pytest.mark.timeout(90)


async def test_consumers_see_how_far_each_symbol_is_complete_and_when_the_bridge_is_gone(
    kafka: Kafka, redis: RedisAddress, unique: str, tmp_path: Path
) -> None:
    servers, topic = kafka.bootstrap_servers, f"{unique}.{SPOT}.status"
    redis_url = redis.url.removesuffix("/0") + OWN_DATABASE
    market = Market(SYMBOLS, seed=3, begin_ms=time.time_ns() // 10**6, trades_per_second=50)
    async with (
        SimulatedExchange(market) as exchange,
        Redis.from_url(redis_url) as client,
        LatestPrices(redis_url) as prices,
    ):
        settings = bridge_settings(
            exchange, servers, redis_url, unique, symbols=SYMBOLS, streams=["trade", "aggTrade"]
        ) | {"status": {"interval_s": INTERVAL_S}}
        async with running_bridge(tmp_path, settings) as bridge:
            status = await _status(servers, topic, lambda s: s["feed"] == "live" and s["checked"])
            assert status["trade_id"] >= 0
            assert status["agg_trade_id"] >= 0
            assert status["owner"] == f"{socket.gethostname()}/{bridge.process.pid}"
            assert status["standby"] is None
            latest = await prices.get("BTCUSDT")
            assert latest is not None
            assert (latest.feed, latest.owner) == ("live", status["owner"])
            assert (latest.complete_to or 0) > 0
            assert await prices.owner() == status["owner"]
            assert 0 < await client.pttl(heartbeat_key(SPOT)) <= 3 * INTERVAL_S * 1000
            assert await bridge.stop() == 0
        assert (await _status(servers, topic, lambda s: s["feed"] == "down"))["owner"]
        async with running_bridge(tmp_path, settings) as bridge:
            await _status(servers, topic, lambda s: s["feed"] == "live" and s["checked"])
            await bridge.stop(signal.SIGKILL)
        async with asyncio.timeout(30):
            while await prices.owner():  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    options = load_settings(environment={}, overrides=settings).kafka
    for kind in ("trade", "agg_trade"):
        report = await audit_topic(options, kind)
        assert report.findings == []
        assert report.statuses
    last_id = status["trade_id"] + 10**6
    await publish(options, "status", [json.dumps(status | {"trade_id": last_id}).encode()])
    (finding,) = (await audit_topic(options, "trade")).findings
    assert (finding.what, finding.symbol) == ("wrong_status", status["symbol"])


async def _status(servers: str, topic: str, is_wanted: Any) -> dict[str, Any]:
    """Return the last status of BTCUSDT in the topic as soon as it is as wanted."""
    async with asyncio.timeout(30):
        while True:
            statuses = [json.loads(record.value) for record in await read_topic(servers, topic)]
            of_symbol = [status for status in statuses if status["symbol"] == SYMBOLS[0]]
            if of_symbol and is_wanted(of_symbol[-1]):
                wanted: dict[str, Any] = of_symbol[-1]
                return wanted
            await asyncio.sleep(0.2)
