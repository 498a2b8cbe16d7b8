"""Two bridges with the same topics: nothing prevents it, but a metric and the audit show it."""

from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bridge.settings import Kafka as KafkaSettings
from bridge.tools.audit.run import audit_topic
from bridge.tools.simulator import Market, SimulatedExchange
from tests.support.bridge_process import BridgeProcess, running_bridge
from tests.support.bridge_settings import bridge_settings
from tests.support.brokers import Kafka, RedisAddress, read_topic

SYMBOLS = ["BTCUSDT", "ETHUSDT"]
BEGIN_MS = 1_790_000_000_000

pytestmark = pytest.mark.timeout(120)


async def test_both_publish_all_of_it_and_say_that_another_one_does(
    kafka: Kafka, redis: RedisAddress, unique: str, tmp_path: Path
) -> None:
    market = Market(SYMBOLS, seed=5, begin_ms=BEGIN_MS, trades_per_second=100)
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    servers = kafka.bootstrap_servers
    async with SimulatedExchange(market) as exchange:
        settings = bridge_settings(
            exchange, servers, redis.url, unique, symbols=SYMBOLS, streams=["trade"]
        )
        async with running_bridge(folders[0], settings) as first:
            await read_topic(servers, f"{unique}.binance.spot.trade", expected=100)
            async with running_bridge(folders[1], settings) as second:
                in_use = await second.logged("kafka_topic_in_use", timeout_s=30)
                assert in_use["topic"] == f"{unique}.binance.spot.trade"
                for bridge in (first, second):
                    await bridge.logged("kafka_foreign_records")
                    assert await _foreign_records(bridge) > 0
                assert await second.stop() == 0
            assert await first.stop() == 0
    await _assert_only_repeated(servers, unique)


async def _foreign_records(bridge: BridgeProcess) -> float:
    """Return the metric that the alert uses."""
    port = (await bridge.logged("http_listening"))["port"]
    async with aiohttp.request("GET", f"http://127.0.0.1:{port}/metrics") as answer:
        families = text_string_to_metric_families(await answer.text())
    labels = {"sink": "kafka", "reason": "foreign_records"}
    return next(s.value for family in families for s in family.samples if s.labels == labels)


async def _assert_only_repeated(servers: str, unique: str) -> None:
    """Assert that no id is missing, and that some ids are repeated."""
    options = KafkaSettings.model_validate(
        {"bootstrap_servers": servers, "topic": unique + ".{venue}.{message_type}"}
    )
    report = await audit_topic(options, "trade")
    assert {finding.what for finding in report.findings} == {"repeated"}
    assert {stream.symbol: stream.missing.ids for stream in report.symbols} == dict.fromkeys(
        SYMBOLS, 0
    )
