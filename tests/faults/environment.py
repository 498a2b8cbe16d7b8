"""The environment of a scenario: the exchange, the brokers, the bridges, and their observers.

The exchange runs in the test's process, which keeps its history.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import accumulate, filterfalse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.settings import Kafka as KafkaSettings
from bridge.tools.embedded import LOOPBACK
from bridge.tools.simulator import (
    FaultPlan,
    Malformed,
    Market,
    PlayedTrade,
    SimulatedExchange,
)
from tests.faults.bridges import Bridges
from tests.faults.brokers import Administered, KafkaCluster, ProxiedKafka
from tests.faults.observer import Observer
from tests.faults.profile import QUOTED, STREAMS, SYMBOLS, Form, Size
from tests.faults.toxiproxy import Toxiproxy
from tests.faults.watch import Watch
from tests.support.bridge_process import BridgeProcess
from tests.support.bridge_settings import bridge_settings
from tests.support.brokers import RedisServer
from tests.support.played import CONTIGUOUS, Ids, played_ids

MALFORMED = Malformed(share=0.01)
# Ten times Binance's limit; the exchange announces it, and the bridge follows it. Faults are much
# more frequent here than in production, and each one costs requests.
WEIGHT_PER_MINUTE = 60_000
# The smallest value that is allowed. Without a small disk, this limit is reached instead.
SPILL_MAX_BYTES = "64MiB"
# A record younger than this is current.
FRESH_S = 1.0

if TYPE_CHECKING:
    from tests.faults.scenario import Scenario


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
        scenario: "Scenario",
        unique: str,
        *,
        folder: Path,
        cluster: KafkaCluster | None,
        data_dir: Path | None,
    ) -> None:
        self.form = ground.form
        self.scenario = scenario
        self.chance = random.Random(ground.form.seed)
        self.broker = ground.kafka
        self.redis = ground.redis
        self.cluster = cluster
        self.kafka: Administered = cluster or ground.kafka
        self.unique = unique
        self.ends_s: list[float] = []
        # The trades before a restart of the ids, by kind and symbol.
        self._earlier: dict[tuple[str, str], list[PlayedTrade]] = {}
        self._data_dir = data_dir
        self.bridges = Bridges(folder, self._settings, self.options, scenario.clock_ahead_s)

    @asynccontextmanager
    async def open(self, size: Size) -> AsyncIterator[None]:
        """Run the exchange, the bridges and the watch until the context is left."""
        rate = self.form.trades_per_second / len(SYMBOLS)
        begin_ms = time.time_ns() // 1_000_000 + self.scenario.clock_behind_s * 1000
        # A little more than required, because the average over a minute is random too.
        market = Market(
            SYMBOLS, seed=self.form.seed, begin_ms=begin_ms, trades_per_second=rate * 1.1
        )
        self.observer = Observer(market, QUOTED)
        faults = self.scenario.plan(size, self.form.calm_s)
        plan = FaultPlan((MALFORMED, *faults), seed=self.form.seed)
        self.exchange = SimulatedExchange(
            self.observer, faults=plan, weight_per_minute=WEIGHT_PER_MINUTE
        )
        async with self.exchange, self.bridges:
            with self._line_to_exchange():
                for number in range(self.scenario.bridges):
                    await self.bridges.start(number)
                self._clock_s = await self._ticking()
                self.watch = Watch(self.number, self.scenario.clock_ahead_s)
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
        """Return the bridge that was started last."""
        return self.bridges.lives[-1]

    @property
    def options(self) -> KafkaSettings:
        """Return how to read the topics."""
        return KafkaSettings.model_validate(
            {
                "bootstrap_servers": self.kafka.bootstrap_servers,
                "topic": self.unique + ".{venue}.{message_type}",
            }
        )

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

    async def rest_between(self) -> None:
        """Let events flow for the random time between two faults."""
        await self.rest(self.chance.uniform(*self.form.between_s))

    @contextmanager
    def _line_to_exchange(self) -> Iterator[None]:
        """Open the proxy between the exchange and the first bridge, if it is cut off."""
        if not self.scenario.is_cut_off:
            yield
            return
        address = f"{self.exchange.host}:{self.exchange.port}"
        with Toxiproxy(self.broker.proxy.program, address) as self.line:
            yield

    def _settings(self, number: int) -> dict[str, Any]:
        """Return the settings of a bridge: those that any user must set, and those of the
        scenario.
        """
        scenario = self.scenario
        is_first, servers = number == 0, self.kafka.bootstrap_servers
        if scenario.way == "proxy" and is_first:
            servers = self.broker.proxied_servers
        told = bridge_settings(self.exchange, servers, self.redis.url, self.unique)
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
        if scenario.bridges > 1:
            told["cluster"] = {
                "standby": 1,
                "shards": scenario.shards,
                "group": self.unique,
            }
            if number < scenario.bridges:
                told["cluster"]["instance_id"] = f"bridge-{number}"
        if scenario.is_cut_off and is_first:
            address = f"{LOOPBACK}:{self.line.port}"
            told["binance"] |= {"websocket_url": f"ws://{address}", "rest_url": f"http://{address}"}
        for section, keys in scenario.bridge_settings.items():
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
