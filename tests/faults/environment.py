"""The environment of a scenario: the exchange, the brokers, the bridge, and their observers.

The exchange runs in the test's process, which keeps its history. The bridge is a process of its
own, started as a user starts it.
"""

import asyncio
import random
import re
import signal
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import accumulate, filterfalse
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from bridge.tools.simulator import (
    Fault,
    FaultPlan,
    Malformed,
    Market,
    PlayedTrade,
    SimulatedExchange,
)
from tests.faults.brokers import Administered, KafkaCluster, ProxiedKafka
from tests.faults.observer import Observer
from tests.faults.profile import QUOTED, STREAMS, SYMBOLS, Form
from tests.faults.watch import Watch
from tests.support.bridge_process import BridgeProcess, running_bridge
from tests.support.bridge_settings import bridge_settings
from tests.support.brokers import RedisServer
from tests.support.played import CONTIGUOUS, Ids, played_ids

MALFORMED = Malformed(share=0.01)
# Ten times Binance's limit; the exchange announces it, and the bridge follows it. Faults are much
# more frequent here than in production, and each one costs requests.
WEIGHT_PER_MINUTE = 60_000
# The smallest value that is allowed. Without a small disk, this limit is reached instead.
SPILL_MAX_BYTES = "64MiB"
# Timeout for a server to come back, or for a bridge to connect.
PATIENCE_S = 60.0
# A record younger than this is current.
FRESH_S = 1.0

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass(frozen=True, slots=True)
class Ground:
    """The parts that all scenarios share."""

    form: Form
    kafka: ProxiedKafka
    redis: RedisServer


class Environment:
    """The environment of one scenario. `ends_s` has the ends of its faults, by our clock."""

    def __init__(
        self,
        ground: Ground,
        unique: str,
        folder: Path,
        cluster: KafkaCluster | None,
        data_dir: Path | None,
    ) -> None:
        self.form = ground.form
        self.chance = random.Random(ground.form.seed)
        self.broker = ground.kafka
        self.redis = ground.redis
        self.cluster = cluster
        self.kafka: Administered = cluster or ground.kafka
        self.unique = unique
        self.ends_s: list[float] = []
        self.lives: list[BridgeProcess] = []
        self.peak_kib = 0
        # The trades before a restart of the ids, by kind and symbol.
        self._earlier: dict[tuple[str, str], list[PlayedTrade]] = {}
        self._folder = folder
        self._data_dir = data_dir
        self._stack = AsyncExitStack()

    @asynccontextmanager
    async def open(
        self,
        faults: Iterable[Fault],
        settings: Mapping[str, Any],
        bootstrap_servers: str,
        *,
        clock_behind_s: int = 0,
    ) -> AsyncIterator[None]:
        """Run the exchange, the bridge and the watch until the context is left."""
        rate = self.form.trades_per_second / len(SYMBOLS)
        begin_ms = time.time_ns() // 1_000_000 + clock_behind_s * 1000
        # A little more than required, because the average over a minute is random too.
        market = Market(
            SYMBOLS, seed=self.form.seed, begin_ms=begin_ms, trades_per_second=rate * 1.1
        )
        self.observer = Observer(market, QUOTED)
        plan = FaultPlan((MALFORMED, *faults), seed=self.form.seed)
        self.exchange = SimulatedExchange(
            self.observer, faults=plan, weight_per_minute=WEIGHT_PER_MINUTE
        )
        async with self.exchange, self._stack:
            self._settings = self._told(settings, bootstrap_servers)
            await self.start_bridge()
            self._clock_s = await self._ticking()
            self.watch = Watch(self.number)
            watching = asyncio.create_task(self.watch.run(self.redis.url, SYMBOLS))
            try:
                yield
            finally:
                watching.cancel()
                await asyncio.wait([watching])
            if not watching.cancelled():
                watching.result()

    @property
    def bridge(self) -> BridgeProcess:
        """Return the bridge that runs, or ran last."""
        return self.lives[-1]

    def over(self) -> None:
        """Note that a fault is over now: recovery is measured from here."""
        self.ends_s.append(time.time())

    def wall_s(self, market_s: float) -> float:
        """Return the time by our clock at which the market was `market_s` seconds old."""
        return self._clock_s + self.observer.begin_ms / 1000 + market_s

    def market_ms(self, wall_s: float) -> float:
        """Return the market's time, in milliseconds, at a moment by our clock."""
        return (wall_s - self._clock_s) * 1000

    def is_fresh(self, written_ms: int, made_us: int) -> bool:
        """Return whether a record was written soon after its event, by the market's clock."""
        return self.market_ms(written_ms / 1000) - made_us / 1000 < FRESH_S * 1000

    def is_ahead(self, made_ms: float) -> bool:
        """Return whether the time of an event is wrong because it has yet to come."""
        return made_ms > self.observer.now_ms + FRESH_S * 1000

    def restart_ids(self, symbol: str) -> None:
        """Let the ids of a symbol start again, once. REST then knows the trades since only."""
        for kind, name in CONTIGUOUS.items():
            stream = f"{symbol.lower()}@{name}"
            self._earlier[kind, symbol] = self.exchange.history.played(stream)
            self.exchange.history.forget(stream)
        self.observer.restart_ids(symbol)

    @property
    def restarted(self) -> set[tuple[str, str]]:
        """Return the kind and the symbol of the streams whose ids have started again."""
        return set(self._earlier)

    def number(self, kind: str, symbol: str, identity: int) -> int:
        """Return an id as a number that goes on over a restart of the ids.

        The ids since are lower than all before: a market begins with higher ids than a run reaches.
        """
        earlier = self._earlier.get((kind, symbol))
        return earlier[-1].id + identity if earlier and identity < earlier[0].id else identity

    def played_ids(self) -> Ids:
        """Return the numbers of the first and the last id so far; after a restart, those since."""
        return {
            (kind, symbol): (self.number(kind, symbol, first), self.number(kind, symbol, last))
            for (kind, symbol), (first, last) in played_ids(self.exchange, SYMBOLS).items()
        }

    def played(self, kind: str) -> dict[str, list[PlayedTrade]]:
        """Return all trades of a kind by symbol, in order, with their `number` as id."""
        found = {}
        for symbol in SYMBOLS:
            since = self.exchange.history.played(f"{symbol.lower()}@{CONTIGUOUS[kind]}")
            found[symbol] = [
                *self._earlier.get((kind, symbol), ()),
                *(one._replace(id=self.number(kind, symbol, one.id)) for one in since),
            ]
        return found

    def made_ms(self) -> dict[str, list[int]]:
        """Return the times of the trades of each symbol, by the market's clock, rising.

        A time that is too early counts as the one before it, one that is ahead is left out.
        """
        return {
            symbol: list(accumulate(filterfalse(self.is_ahead, (t.time_ms for t in trades)), max))
            for symbol, trades in self.played("trade").items()
        }

    def trades_per_second(self) -> float:
        """Return the rate that the exchange has really played."""
        played = sum(self.exchange.history.counts[f"{s.lower()}@trade"] for s in SYMBOLS)
        return played * 1000 / (self.observer.now_ms - self.observer.begin_ms)

    async def rest(self, seconds: float) -> None:
        """Let events flow."""
        await asyncio.sleep(seconds)

    async def start_bridge(self) -> None:
        """Start a bridge, and return when it has a connection to the exchange."""
        bridge = await self._stack.enter_async_context(running_bridge(self._folder, self._settings))
        self.lives.append(bridge)
        await bridge.logged("connection_open", PATIENCE_S)

    async def end_bridge(self, number: signal.Signals) -> int:
        """Send the bridge a signal; return its exit code."""
        self.note_memory()
        return await self.bridge.stop(number)

    def note_memory(self) -> None:
        """Note the peak memory of the bridge."""
        status = Path(f"/proc/{self.bridge.process.pid}/status").read_text()
        if found := re.search(r"VmHWM:\s+(\d+) kB", status):
            self.peak_kib = max(self.peak_kib, int(found[1]))

    async def samples(self) -> Samples:
        """Return the bridge's metrics now, by name and labels."""
        port = (await self.bridge.logged("http_listening"))["port"]
        async with aiohttp.request("GET", f"http://127.0.0.1:{port}/metrics") as answer:
            families = text_string_to_metric_families(await answer.text())
        found = (sample for family in families for sample in family.samples)
        return {(s.name, frozenset(s.labels.items())): s.value for s in found}

    def _told(self, settings: Mapping[str, Any], bootstrap_servers: str) -> dict[str, Any]:
        """Return the bridge's settings: those that any user must set, and those of the scenario."""
        told = bridge_settings(self.exchange, bootstrap_servers, self.redis.url, self.unique)
        told["binance"] |= {
            "symbols": SYMBOLS,
            "streams": STREAMS,
            "extra_streams": [
                f"{symbol.lower()}@{payload}"
                for symbol in QUOTED
                for payload in ("bookTicker", "kline_1s")
            ],
            "compression": "none",
        }
        told["repair"] = {"weight_share": 1.0}
        for section, keys in settings.items():
            told[section] = told.get(section, {}) | dict(keys)
        if self._data_dir:
            told["data_dir"] = str(self._data_dir)
            told["spill_max_bytes"] = SPILL_MAX_BYTES
        return told

    async def _ticking(self) -> float:
        """Return by how many seconds our clock is ahead of the market's: the minimum observed."""
        seen = []
        for _ in range(50):
            await asyncio.sleep(0.02)
            seen.append(time.time() - self.observer.now_ms / 1000)
        return min(seen)
