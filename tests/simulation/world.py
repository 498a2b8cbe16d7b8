"""Everything outside of the bridge, and the lives of the bridge in it, one after the other.

The whole service runs unchanged. Only its connections to the outside are replaced in memory: the
exchange's connections and REST, aiokafka's clients, the Redis client, the HTTP server.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from contextvars import copy_context
from functools import partial
from random import Random
from typing import Any, NoReturn
from unittest import mock

import aiohttp

from bridge.app import ingestion, service
from bridge.app.service import Service
from bridge.binance import connection, listing
from bridge.brokers import kafka_client, kafka_consumer
from bridge.core.model.events import Event
from bridge.core.model.stream import SPOT
from bridge.core.records.latest_values import heartbeat_key, latest_key
from bridge.core.sequencing.contiguous import Contiguous
from bridge.core.sequencing.sequencers import Repairable, Sequencers
from bridge.errors import Fenced, UndeliveredRecords
from bridge.pipeline.pipeline import Pipeline
from bridge.settings import Settings
from bridge.sinks.kafka import fence as kafka_fence
from bridge.sinks.kafka import producer as kafka_producer
from bridge.sinks.kafka import producer_session
from bridge.sinks.kafka.sink import KafkaSink
from bridge.sinks.redis import sink as redis_sink
from bridge.sinks.redis.sink import RedisSink
from tests.simulation import process
from tests.simulation.broker import Broker
from tests.simulation.exchange import Exchange
from tests.simulation.kafka_clients import Admin, Consumer
from tests.simulation.kafka_producer import Producer
from tests.simulation.loop import is_clock_slow, now_us, within
from tests.simulation.market import FIRST_ID, Market
from tests.simulation.observer import Observer
from tests.simulation.redis_server import RedisServer
from tests.simulation.rest import Rest
from tests.simulation.settings_file import SYMBOLS, SettingsFile
from tests.support.journal import Journal

# Longer than any wait of the bridge in the settings of a schedule.
END_S = 300.0
# Short enough for many answers of the exchange in a schedule.
LISTING_INTERVAL_S = 3.0
# The fence is renewed then.
SESSION_AGES_S = (5.0, 12 * 3600.0)
# For a request under way when the timeout starts or ends.
PATIENCE_SLACK_S = 1.0
# The interval of head checks, two checks, the interval of statuses, and the margin of the times.
PROVEN_WITHIN_US = 16_000_000


class Life(process.Process):
    """A process, the service in it, and the observers of the records of each of its pipelines."""

    def __init__(self, number: int, file: SettingsFile, observer: Observer) -> None:
        super().__init__(number)
        self.service = Service(file.load(), file)
        self.began_s = asyncio.get_running_loop().time()
        self.is_killed = False
        # When its pipeline was first seen. What has arrived before then has waited for Kafka.
        self.piped_s: float | None = None
        self.observers = [observer]
        context = copy_context()
        context.run(process.current.set, self)
        loop = asyncio.get_running_loop()
        self.task = loop.create_task(self.service.run(), context=context)

    @property
    def observer(self) -> Observer:
        """Return the observer of the present pipeline."""
        return self.observers[-1]

    @property
    def sequencers(self) -> Sequencers | None:
        """Return the sequencers, if there is a pipeline."""
        return next((shard.sequencers for shard in self.service.status.shards), None)

    def kafka(self) -> KafkaSink:
        """Return the Kafka sink."""
        kafka, _ = self.service.status.shards[0].sinks
        assert isinstance(kafka, KafkaSink)
        return kafka


class World:
    """The world of one schedule; `random` decides everything in it."""

    def __init__(self, random: Random, settings: Settings, journal: Journal) -> None:
        self.random = random
        self.settings = settings
        self.file = SettingsFile(random, settings)
        self.journal = journal
        symbols, payloads = list(SYMBOLS), settings.binance.streams
        self.market = Market(random, symbols, payloads)
        self.exchange = Exchange(random, self.market)
        self.rest = Rest(random, self.market, symbols)
        self.broker = Broker(random)
        self.redis = RedisServer(random)
        self.lives: list[Life] = []
        self.is_ending = False
        # The process that has ended last.
        self._ended: Life
        self.problems: list[str] = []
        self._held_since_s: dict[tuple[Repairable, int], float] = {}
        self.restarting = asyncio.Lock()

    @property
    def unknown_starts(self) -> set[int]:
        """Return the processes that could not read the last positions from Kafka."""
        return {entry["life"] for entry in self.journal.named("positions_unavailable")}

    @property
    def life(self) -> Life:
        """Return the present process; with standbys the one that has taken over last."""
        alive = [life for life in self.lives if life.is_alive] or [self._ended]

        def order(life: Life) -> tuple[bool, int]:
            took_over = self._last("taking_over", life)
            return took_over >= self._last("taken_over", life), took_over

        return max(alive, key=order)

    @property
    def has_standbys(self) -> bool:
        """Return whether the bridges of this schedule stand by for each other."""
        return bool(self.settings.cluster.standby)

    def _last(self, event: str, life: Life) -> int:
        """Return the place of the last entry of a process in the log; -1 if there is none."""
        places = reversed([*enumerate(self.journal.entries)])
        named = (i for i, e in places if (e["event"], e.get("life")) == (event, life.number))
        return next(named, -1)

    def standbys(self) -> list[Life]:
        """Return the processes that stand by."""
        return [each for each in self.lives if each.is_alive and each is not self.life]

    def start(self) -> Life:
        life = Life(len(self.lives), self.file, Observer(self.problems))
        self.lives.append(life)
        return life

    def observe(self, *arguments: Any) -> Pipeline:
        """Return a pipeline, with an observer of the process that it runs in."""
        pipeline, observer = Pipeline(*arguments), Observer(self.problems)
        life = process.current.get()
        assert isinstance(life, Life)
        life.observers.append(observer)
        life.piped_s = None
        pipeline.add_listener(observer.push)
        return pipeline

    def end(self, life: Life) -> None:
        """Let a process have ended."""
        life.is_alive, self._ended = False, life
        self.exchange.forget(life)

    async def replace(self) -> None:
        """Start a second process. The one that Kafka hears first must notice it, and end."""
        both = {life.task: life for life in (self.life, self.start())}
        ended, _ = await asyncio.wait(both, timeout=END_S, return_when=asyncio.FIRST_COMPLETED)
        if not ended:
            self.problems.append("neither of two services ends")
        for task in ended:
            self.end(both[task])

    def kill(self) -> None:
        """Kill the process; what it has sent may still arrive."""
        self.check_accounts()
        life = self.life
        life.is_killed = True
        self.end(life)
        life.task.cancel()

    async def stop_all(self) -> None:
        """Shut all processes down cleanly, the owner last."""
        self.is_ending = True
        for life in self.standbys():
            await self.stop(life)
        await self.stop()

    async def stop(self, life: Life | None = None) -> None:
        """Shut a process down cleanly."""
        life = life or self.life
        life.service.stop()
        if not await within(END_S, asyncio.wait((life.task,))):
            self.problems.append("the service does not stop")
        self.check_accounts()
        sequencers = life.sequencers
        held = sequencers.figures().held if sequencers else 0
        if held and not self.has_standbys:
            self.problems.append(f"{held} events are held back and not delivered after the stop")
        self.end(life)

    async def bury(self) -> None:
        """Check that all tasks finish, those of killed processes too."""
        dead = [life.task for life in self.lives if not life.task.done()]
        if dead and not await within(END_S, asyncio.wait(dead)):
            self.problems.append("a killed service's tasks do not finish")
        for life in self.lives:
            self._see_end(life)

    def check_accounts(self) -> None:
        """Check that received + restored = published + dropped + pending."""
        status = self.life.service.status
        for sink in status.sinks:
            received = Counter(status.counts.received) + sink.counts.restored
            accounted = Counter(sink.counts.published)
            for (kind, _), count in sink.counts.dropped.items():
                accounted[kind] += count
            if accounted + sink.pending() != received:
                self.problems.append(f"{sink.name}: {received=} {accounted=} {sink.pending()=}")

    def check_latest(self) -> None:
        """Check that Redis shows the newest trade, unless a value waits to be written."""
        life = self.life
        sinks = (sink for shard in life.service.status.shards for sink in shard.sinks)
        sink = next((sink for sink in sinks if isinstance(sink, RedisSink)), None)
        if sink is None or sink._latest or self.redis.calls:
            return
        resting = {value.key for value in sink._resting}
        for symbol, newest in life.observer.newest_trades.items():
            key = latest_key(SPOT, symbol)
            # A hole of a removed stream may be filled, and sets no values.
            if symbol in self.file.left_out or key in resting:
                continue
            shown = self.redis.hashes[key].get("trade_id")
            # After a restart of the ids Redis waits for a trade that is a second younger.
            is_same_life = self.market.is_same_life(symbol, int(shown or newest), newest)
            if is_same_life and int(shown or -1) < newest:
                self.problems.append(f"Redis shows trade {shown} of {symbol} instead of {newest}")

    def check_patience(self) -> None:
        """Check that no hole holds its stream for much longer than `repair.timeout_s`, and no event
        waits longer, however many holes are before it.
        """
        now_s = asyncio.get_running_loop().time()
        status = self.life.service.status
        sequencers = self.life.sequencers if self.life.is_alive and not status.draining else None
        if sequencers and self.life.piped_s is None:
            self.life.piped_s = time.time()
        holes = {
            (sequencer, sequencer.hole[0])
            for sequencer in (sequencers._all() if sequencers else ())
            if isinstance(sequencer, Repairable) and sequencer.hole
        }
        self._held_since_s = {hole: self._held_since_s.get(hole, now_s) for hole in holes}
        limit_s = self.settings.repair.timeout_s + PATIENCE_SLACK_S
        for sequencer, _ in holes:
            for event in _waiting(sequencer):
                waited_s = time.time() - max(event.received / 1e6, self.life.piped_s or 0.0)
                if waited_s > limit_s:
                    name = f"{sequencer.message_type} {sequencer.first_of(event)}"
                    self.problems.append(f"{name} waits {waited_s:.3f} s")
        for (sequencer, first), since_s in self._held_since_s.items():
            if now_s - since_s > limit_s:
                self.problems.append(
                    f"{sequencer.message_type} {first} holds its stream at {now_s:.3f} s"
                )

    def check_statuses(self) -> None:
        """Check that all symbols are live and complete, and that Redis has a heartbeat. The times
        of the exchange's reports are not believed if our clock is slow.
        """
        is_known = self.life.number not in self.unknown_starts
        since = 0 if is_clock_slow() else now_us() - PROVEN_WITHIN_US
        for status in self.life.service.status.symbols.values():
            last_id = self.market.last_id("trade", status.symbol)
            said = FIRST_ID - 1 if status.trade_id is None else status.trade_id
            is_complete = said == last_id and (status.complete_to or 0) >= since and status.checked
            # A regular stream may be silent for long by chance.
            states = {"live", "stale"} if self.journal.named("streams_stalled") else {"live"}
            if status.feed not in states or (is_known and not is_complete):
                self.problems.append(f"the exchange is at {last_id}, but {status}")
        if not self.redis.get(heartbeat_key(SPOT)):
            self.problems.append("Redis has no heartbeat")

    async def events_held(self) -> None:
        """Wait until events are held back because ids are missing."""
        while not self.life.service.status.sequencer_stats().held:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    def _see_end(self, life: Life) -> None:
        if not life.task.done() or life.task.cancelled():
            return
        error = life.task.exception()
        is_last = life is self.life
        may_fail = isinstance(error, UndeliveredRecords | Fenced) and not is_last
        if error is not None and not may_fail:
            self.problems.append(f"the service failed with {error!r}")


def _waiting(sequencer: Repairable) -> list[Event]:
    """Return the events that wait for missing ones, except those that may have waited before: for a
    handover, or until a restart of the ids was certain.
    """
    if not isinstance(sequencer, Contiguous) or sequencer._old_last >= 0:
        return []
    return [*sequencer._held.values()]


@contextmanager
def edges(world: World) -> Iterator[None]:
    """Replace the real world by this one."""
    producer, consumer, admin = (
        partial(client, world.broker) for client in (Producer, Consumer, Admin)
    )
    with ExitStack() as stack:
        for module, name, likeness in (
            (connection, "open_websocket", world.exchange.open),
            (aiohttp, "ClientSession", world.rest.session),
            (kafka_producer, "AIOKafkaProducer", producer),
            (kafka_fence, "AIOKafkaProducer", producer),
            (listing, "INTERVAL_S", LISTING_INTERVAL_S),
            (producer_session, "MAX_AGE_S", world.random.choice(SESSION_AGES_S)),
            (kafka_producer, "AIOKafkaAdminClient", admin),
            (kafka_client, "create_conn", _no_connection),
            (kafka_consumer, "AIOKafkaConsumer", consumer),
            (kafka_consumer, "AIOKafkaAdminClient", admin),
            (redis_sink, "connect", world.redis.connect),
            (service, "serve", _served),
            (ingestion, "Pipeline", world.observe),
        ):
            stack.enter_context(mock.patch.object(module, name, likeness))
        yield


async def _no_connection(*_: Any, **__: Any) -> NoReturn:
    raise OSError("no connection")


@asynccontextmanager
async def _served(*_: Any) -> AsyncIterator[int]:
    yield 0
