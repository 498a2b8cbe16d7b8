"""Records on disk outlive the process that wrote them."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bridge.tools.embedded import LOOPBACK, free_port
from bridge.tools.simulator import Market, SimulatedExchange
from tests.support.bridge_process import BridgeProcess, running_bridge
from tests.support.bridge_settings import bridge_settings
from tests.support.brokers import Kafka, KafkaBroker, RedisAddress, read_topic
from tests.support.played import arrived, assert_all, assert_audit, of_symbol, played_ids

SYMBOLS = ["BTCUSDT", "ETHUSDT"]
STREAMS = ["trade", "aggTrade", "bookTicker"]
BEGIN_MS = 1_790_000_000_000
SEED = 20261122

pytestmark = pytest.mark.timeout(180)


def _settings(
    exchange: SimulatedExchange, servers: str, redis: RedisAddress, unique: str, folder: Path
) -> dict[str, Any]:
    settings = bridge_settings(
        exchange, servers, redis.url, unique, symbols=SYMBOLS, streams=STREAMS
    )
    settings["kafka"] |= {
        "outbox_max_bytes": "4MiB",
        "request_timeout_ms": 1500,
        "delivery_timeout_s": 3,
    }
    settings["repair"] = {"weight_share": 1.0}
    return settings | {"data_dir": str(folder)}


def _exchange() -> SimulatedExchange:
    market = Market(SYMBOLS, seed=SEED, begin_ms=BEGIN_MS, trades_per_second=100)
    return SimulatedExchange(market)


async def _assert_every_trade(servers: str, unique: str, exchange: SimulatedExchange) -> None:
    """Assert that no trade is missing, by the played messages and by the independent audit."""
    for kind, name in (("trade", "trade"), ("agg_trade", "aggTrade")):
        records = await read_topic(servers, f"{unique}.binance.spot.{kind}")
        for symbol in SYMBOLS:
            played = exchange.history.played(f"{symbol.lower()}@{name}")
            assert_all(of_symbol(records, symbol), played, f"{kind}_id")
    await assert_audit(servers, unique)


async def _stop_when_all_arrived(
    bridge: BridgeProcess, servers: str, unique: str, exchange: SimulatedExchange
) -> None:
    await arrived(servers, unique, played_ids(exchange, SYMBOLS))
    assert await bridge.stop() == 0


@pytest.mark.faults
async def test_an_outage_longer_than_memory_with_a_kill_in_it_costs_no_trade(
    own_kafka: KafkaBroker, redis: RedisAddress, unique: str, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    async with _exchange() as exchange:
        servers = own_kafka.bootstrap_servers
        settings = _settings(exchange, servers, redis, unique, folder)
        async with running_bridge(tmp_path, settings) as bridge:
            await bridge.logged("kafka_connected")
            await arrived(servers, unique, played_ids(exchange, SYMBOLS))
            before = sum(line["event"] == "spill_started" for line in bridge.log)
            await asyncio.to_thread(own_kafka.kill)
            # A slow start of Kafka may have led to one before.
            await bridge.logged("spill_started", count=before + 1)
            bridge.process.kill()
        async with running_bridge(tmp_path, settings) as bridge:
            assert (await bridge.logged("spill_found"))["records"] > 0
            assert (await bridge.logged("positions_unavailable"))["streams_on_disk"] == 6
            await bridge.logged("connection_open")
            await bridge.logged("kafka_unavailable")
            await asyncio.to_thread(own_kafka.start)
            await bridge.logged("kafka_connected", timeout_s=60)
            await _stop_when_all_arrived(bridge, servers, unique, exchange)
        await _assert_every_trade(servers, unique, exchange)


@pytest.mark.parametrize("end", [pytest.param("kill", marks=pytest.mark.faults), "stop"])
async def test_a_new_process_delivers_what_the_last_one_spilled_before_anything_new(
    end: str, kafka: Kafka, redis: RedisAddress, unique: str, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    async with _exchange() as exchange:
        nowhere = f"{LOOPBACK}:{free_port()}"
        settings = _settings(exchange, nowhere, redis, unique, folder)
        async with running_bridge(tmp_path, settings | {"shutdown_timeout_s": 1}) as bridge:
            await bridge.logged("spill_started", timeout_s=60)
            if end == "kill":
                bridge.process.kill()
            else:
                assert await bridge.stop() == 0
                kept = (await bridge.logged("records_kept"))["count"]
        settings = _settings(exchange, kafka.bootstrap_servers, redis, unique, folder)
        async with running_bridge(tmp_path, settings) as bridge:
            found = (await bridge.logged("spill_found"))["records"]
            assert found > 0
            assert end == "kill" or found == kept
            await bridge.logged("connection_open")
            await _stop_when_all_arrived(bridge, kafka.bootstrap_servers, unique, exchange)
        await _assert_every_trade(kafka.bootstrap_servers, unique, exchange)
    quotes = await read_topic(kafka.bootstrap_servers, f"{unique}.binance.spot.quote")
    gaps = await read_topic(kafka.bootstrap_servers, f"{unique}.binance.spot.gap")
    for symbol in SYMBOLS:
        ids = [quote["update_id"] for quote in of_symbol(quotes, symbol)]
        assert ids == sorted(set(ids))
        assert [gap["cause"] for gap in of_symbol(gaps, symbol)] == ["restart"]


async def test_two_bridges_in_one_folder_are_refused(
    redis: RedisAddress, unique: str, tmp_path: Path
) -> None:
    async with _exchange() as exchange:
        settings = _settings(exchange, f"{LOOPBACK}:{free_port()}", redis, unique, tmp_path)
        async with running_bridge(tmp_path, settings) as first:
            await first.logged("http_listening")  # the bridge opens the folder before it listens
            async with running_bridge(tmp_path, settings) as second:
                failed = await second.logged("failed")
                assert await second.process.wait() == 2
    assert "data_dir" in failed["error"]
    assert "in use by another bridge" in failed["error"]
