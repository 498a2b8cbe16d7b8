"""Symbols that hardly ever trade: what they trade while no bridge runs is in the topic soon."""

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from bridge.tools.simulator import Market, SimulatedExchange
from bridge.tools.simulator.source import Message
from tests.support.bridge_process import running_bridge
from tests.support.bridge_settings import bridge_settings
from tests.support.brokers import Kafka, RedisAddress, read_topic
from tests.support.played import arrived, assert_all, assert_audit, of_symbol, played_ids

# The first one trades after every kill, the second one once.
BUSY, RARE, ONCE = "BTCUSDT", "RAREUSDT", "ONCEUSDT"
SYMBOLS = [BUSY, RARE, ONCE]
BEGIN_MS = 1_790_000_000_000
KILLS = 8

pytestmark = pytest.mark.timeout(180)


class RareMarket(Market):
    """A market with symbols that have never traded and trade when they are told to."""

    def __init__(self) -> None:
        super().__init__([BUSY], seed=5, begin_ms=BEGIN_MS, trades_per_second=300)
        self.symbols = SYMBOLS
        self._ids: dict[str, int] = dict.fromkeys((RARE, ONCE), 0)
        self._waiting: list[Message] = []
        self._taken = asyncio.Event()

    def take(self, until_us: int | None, limit: int) -> Sequence[Message]:
        waiting, self._waiting = self._waiting, []
        self._taken.set()
        return [*super().take(until_us, limit), *waiting]

    async def trade(self, symbol: str) -> None:
        """Let a symbol trade once."""
        number, now = self._ids[symbol], self.now_ms
        self._ids[symbol] += 1
        head = f'"E":{now},"s":"{symbol}","p":"1.5","q":"2","T":{now},"m":true,"M":true'
        self._waiting += [
            (f"{symbol.lower()}@trade", f'{{"e":"trade",{head},"t":{number}}}'.encode()),
            (
                f"{symbol.lower()}@aggTrade",
                f'{{"e":"aggTrade",{head},"a":{number},"f":{number},"l":{number}}}'.encode(),
            ),
        ]
        self._taken.clear()
        await self._taken.wait()


@pytest.mark.faults
async def test_a_bridge_that_is_killed_all_the_time_misses_no_trade_of_a_rare_symbol(
    kafka: Kafka, redis: RedisAddress, unique: str, tmp_path: Path
) -> None:
    random = Random(unique)
    market = RareMarket()
    servers = kafka.bootstrap_servers
    async with SimulatedExchange(market) as exchange:
        settings = bridge_settings(
            exchange,
            servers,
            redis.url,
            unique,
            symbols=SYMBOLS,
            streams=["trade", "aggTrade", "bookTicker"],
        )
        for number in range(KILLS):
            async with running_bridge(tmp_path, settings) as bridge:
                await bridge.logged("connection_open")
                if number == 0:
                    await _known(servers, unique)
                await asyncio.sleep(random.uniform(0.0, 2.0))
                await bridge.stop(signal.SIGKILL)
            await market.trade(RARE)
            if number == KILLS // 2:
                await market.trade(ONCE)
        async with running_bridge(tmp_path, settings) as bridge:
            wanted = played_ids(exchange, SYMBOLS)
            await arrived(servers, unique, wanted)
            assert await bridge.stop() == 0
        for kind, name in (("trade", "trade"), ("agg_trade", "aggTrade")):
            records = await read_topic(servers, f"{unique}.binance.spot.{kind}")
            for symbol, count in ((RARE, KILLS), (ONCE, 1)):
                events = of_symbol(records, symbol)
                played = exchange.history.played(f"{symbol.lower()}@{name}")
                assert_all(events, played, f"{kind}_id")
                assert [event[f"{kind}_id"] for event in events] == list(range(count))
    await assert_audit(servers, unique)


async def _known(servers: str, unique: str) -> None:
    """Wait until the symbols have positions, before they have ever traded."""
    topic = f"{unique}.binance.spot.position"
    wanted = {f"{kind}:{symbol}" for kind in ("trade", "agg_trade") for symbol in (RARE, ONCE)}
    async with asyncio.timeout(60):
        known: set[str] = set()
        while not wanted <= known:
            known = {(record.key or b"").decode() for record in await read_topic(servers, topic)}
