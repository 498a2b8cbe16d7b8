"""Symbols and streams change in the running bridge: in a mounted ConfigMap, and on SIGHUP."""

import json
import signal
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from bridge.tools.simulator import Market, SimulatedExchange
from tests.support.bridge_process import BridgeProcess, running_bridge
from tests.support.bridge_settings import bridge_settings
from tests.support.brokers import Kafka, RedisAddress, read_topic
from tests.support.config_map import mount, put
from tests.support.played import arrived, assert_audit, of_symbol, played_ids

BTC, ETH, BNB = SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT")
MARKET_BEGIN_MS = 1_760_000_000_000

pytestmark = pytest.mark.timeout(180)


class Mounted:
    """A bridge that reads its settings from a ConfigMap."""

    def __init__(self, folder: Path, settings: dict[str, Any], bridge: BridgeProcess) -> None:
        self._folder = folder
        self._settings = settings
        self._bridge = bridge
        self._versions = count(2)
        self._changes: Counter[str] = Counter()

    async def change(self, event: str = "settings_read", **binance: Any) -> dict[str, Any]:
        """Change the ConfigMap, and return the log line with the outcome."""
        self._settings["binance"] |= binance
        put(self._folder, f"..{next(self._versions)}", json.dumps(self._settings))
        return await self.said(event)

    async def said(self, event: str) -> dict[str, Any]:
        self._changes[event] += 1
        return await self._bridge.logged(event, count=self._changes[event])


async def test_symbols_come_and_go_and_the_others_never_notice(
    kafka: Kafka, redis: RedisAddress, unique: str, tmp_path: Path
) -> None:
    # At the end there are about 1,200 events a second. With many more, a busy machine lags by more
    # than two seconds. The bridge then announces gaps at the handover to a new connection.
    market = Market(SYMBOLS, seed=7, begin_ms=MARKET_BEGIN_MS, trades_per_second=20)
    topics = {kind: f"{unique}.binance.spot.{kind}" for kind in ("trade", "agg_trade", "gap")}
    async with SimulatedExchange(market, speed=5) as exchange:
        servers = (kafka.bootstrap_servers, redis.url)
        settings = bridge_settings(exchange, *servers, unique, symbols=[BTC, ETH])
        settings["binance"]["streams"] = ["trade", "bookTicker"]
        mount(tmp_path)
        async with running_bridge(tmp_path, settings) as bridge:
            mounted = Mounted(tmp_path, settings, bridge)
            await read_topic(kafka.bootstrap_servers, topics["trade"], expected=300)

            change = await mounted.change(symbols=[BTC, BNB])
            assert change["removed"] == ["ethusdt@trade", "ethusdt@bookTicker"]
            await arrived_now(exchange, kafka, unique, ("trade", BTC), ("trade", BNB))

            await mounted.change("settings_invalid", symbols=["BTC/USDT"])
            await mounted.change(symbols=SYMBOLS, streams=["trade", "bookTicker", "aggTrade"])
            every = [(kind, symbol) for kind in ("trade", "agg_trade") for symbol in SYMBOLS]
            await arrived_now(exchange, kafka, unique, *every)

            bridge.process.send_signal(signal.SIGHUP)
            assert (await mounted.said("settings_read"))["streams_added"] == 0
            await arrived_now(exchange, kafka, unique, *every)
            assert await bridge.stop() == 0
        for kind in ("trade", "agg_trade"):
            records = await read_topic(kafka.bootstrap_servers, topics[kind])
            for symbol in SYMBOLS:
                ids = [event[f"{kind}_id"] for event in of_symbol(records, symbol)]
                assert ids == list(range(ids[0], ids[0] + len(ids)))
        gaps = await read_topic(kafka.bootstrap_servers, topics["gap"])
        assert [(gap["kind"], gap["cause"]) for gap in of_symbol(gaps, ETH)] == [
            ("quote", "unsubscribed")
        ]
        assert len(gaps) == 1
        await assert_audit(kafka.bootstrap_servers, unique)


async def arrived_now(
    exchange: SimulatedExchange, kafka: Kafka, unique: str, *streams: tuple[str, str]
) -> None:
    """Wait until all events that these streams have played so far are in the topics."""
    played = played_ids(exchange, {symbol for _, symbol in streams})
    played = {stream: ids for stream, ids in played.items() if stream in streams}
    await arrived(kafka.bootstrap_servers, unique, played)
