"""Everything outside of the bridge, and the lives of the bridge in it, one after the other.

The whole service runs unchanged. Only its connections to the outside are replaced in memory: the
exchange's connections and REST, aiokafka's clients, the Redis client, the HTTP server.
"""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from contextvars import copy_context
from functools import partial
from random import Random
from typing import Any, NoReturn
from unittest import mock

import aiohttp
import structlog

from bridge.app import ingestion, service
from bridge.app.service import Service
from bridge.binance import connection, listing
from bridge.brokers import kafka_client, kafka_consumer
from bridge.core.model.events import Event
from bridge.core.model.shard import ShardId
from bridge.core.model.stream import SPOT
from bridge.core.records.latest_values import heartbeat_key, latest_key
from bridge.core.sequencing.contiguous import Contiguous
from bridge.core.sequencing.sequencers import Repairable, Sequencers
from bridge.errors import Fenced, UndeliveredRecords
from bridge.monitoring.status import Status
from bridge.pipeline.pipeline import Pipeline
from bridge.pipeline.sink import Sink
from bridge.settings import Settings
from bridge.sinks.kafka import fence as kafka_fence
from bridge.sinks.kafka import producer as kafka_producer
from bridge.sinks.kafka import producer_session
from bridge.sinks.redis import sink as redis_sink
from bridge.sinks.redis.sink import RedisSink
from tests.simulation import process
from tests.simulation.broker import Broker
from tests.simulation.exchange import Exchange
from tests.simulation.group import Coordinator, GroupConsumer
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

    def __init__(
        self, number: int, name: str | None, file: SettingsFile, observer: Observer
    ) -> None:
        super().__init__(number)
        settings = file.load(name)
        self.name = name
        self.shard_count, self.has_group = settings.cluster.shards, settings.cluster.has_group
        self.service = Service(settings, file)
        self.began_s = asyncio.get_running_loop().time()
        self.is_killed = False
        # When its last pipeline was first seen. What has arrived before has waited for Kafka.
        self.piped_s: float | None = None
        self.observers = [observer]
        # By the name of the shard: the observer of its present pipeline.
        self.present: dict[str, Observer] = {}
        context = copy_context()
        context.run(process.current.set, self)
        loop = asyncio.get_running_loop()
        self.task = loop.create_task(self.service.run(), context=context)

    def sequencers(self) -> list[Sequencers]:
        """Return the sequencers of all shards that publish."""
        shards = self.service.status.shards
        return [shard.sequencers for shard in shards if shard.sequencers]

    def runs(self, observer: Observer) -> bool:
        """Return whether the pipeline of an observer is not taken over."""
        return observer.sequencers in self.sequencers()

    def sinks(self) -> Iterator[Sink]:
        """Yield the sinks of all shards."""
        for shard in self.service.status.shards:
            yield from shard.sinks


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
        self.coordinator = Coordinator()
        # Whether each bridge of the group has a name of its own.
        self.has_names = random.random() < 0.5
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
        return max(alive, key=self._last_takeover)

    def present(self, among: Sequence[Life] | None = None) -> list[Observer]:
        """Return the observer of the present pipeline of each shard, if it is one of these
        processes.
        """
        count = self.life.shard_count
        names = [str(ShardId(number, count)) if count > 1 else "" for number in range(count)]
        found = []
        for name in names:
            if lives := [life for life in self.lives if name in life.present]:
                owner = max(lives, key=partial(self._last_takeover, shard=name))
                observer = owner.present[name]
                if among is None or (owner in among and owner.runs(observer)):
                    found.append(observer)
        return found

    def _last_takeover(self, life: Life, shard: str | None = None) -> tuple[bool, int, int]:
        """Return what orders processes: the one that has last taken over a shard is the greatest.
        The second number is that of the process.
        """
        took_over = self._last("taking_over", life, shard)
        ended = max(self._last(each, life, shard) for each in ("taken_over", "handed_over"))
        return took_over >= ended, took_over, life.number

    def _last(self, event: str, life: Life, shard: str | None) -> int:
        """Return the place of the last entry of a process in the log; -1 if there is none."""
        for place in range(len(self.journal.entries) - 1, -1, -1):
            entry = self.journal.entries[place]
            is_of_shard = shard is None or entry.get("shard", "") == shard
            if (entry["event"], entry.get("life")) == (event, life.number) and is_of_shard:
                return place
        return -1

    @property
    def has_standbys(self) -> bool:
        """Return whether the bridges of this schedule stand by for each other."""
        return bool(self.settings.cluster.standby)

    @property
    def has_group(self) -> bool:
        """Return whether bridges that start now share the shards."""
        return self.file.settings.cluster.has_group

    def standbys(self) -> list[Life]:
        """Return the processes that have not taken over last."""
        return [each for each in self.lives if each.is_alive and each is not self.life]

    def start(self) -> Life:
        taken = {life.name for life in self.lives if life.is_alive}
        names = (f"bridge-{number}" for number in itertools.count())
        name = next(name for name in names if name not in taken) if self.has_names else None
        life = Life(len(self.lives), name, self.file, Observer(self.problems))
        self.lives.append(life)
        return life

    def observe(self, *arguments: Any) -> Pipeline:
        """Return a pipeline, with an observer of the process that it runs in."""
        pipeline, observer = Pipeline(*arguments), Observer(self.problems)
        observer.sequencers = arguments[2]
        life = process.current.get()
        assert isinstance(life, Life)
        life.observers.append(observer)
        life.present[structlog.contextvars.get_contextvars().get("shard", "")] = observer
        life.piped_s = None
        pipeline.add_listener(observer.push)
        return pipeline

    def end(self, life: Life) -> None:
        """Let a process have ended."""
        life.is_alive, self._ended = False, life
        self.exchange.forget(life)

    async def replace(self) -> None:
        """Start a second process in the place of the first. If both have a group, the second one
        may wait for the first to stop. Without one, the first that Kafka hears must end.
        """
        before, after = self.life, self.start()
        both = {life.task: life for life in (before, after)}
        if any(life.has_group for life in both.values()):
            await asyncio.sleep(self.random.uniform(0.0, 5.0))
            if after.task.done():  # the first one began to publish after it
                self.end(after)
            else:
                await self.stop(before)
            return
        ended, left = await asyncio.wait(both, timeout=END_S, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            self.end(both[task])
        if not ended:
            self.problems.append("neither of two services ends")
        if not left:
            self.start()

    def kill(self) -> None:
        """Kill the process; what it has sent may still arrive."""
        self.check_accounts()
        life = self.life
        life.is_killed = True
        self.end(life)
        life.task.cancel()

    async def stop_all(self) -> None:
        """Shut all processes down cleanly, at once."""
        self.is_ending = True
        await asyncio.gather(*(self.stop(life) for life in self.lives if life.is_alive))

    async def stop(self, life: Life | None = None) -> None:
        """Shut a process down cleanly."""
        life = life or self.life
        life.service.stop()
        if not await within(END_S, asyncio.wait((life.task,))):
            self.problems.append("the service does not stop")
        self.check_accounts()
        held = sum(each.figures().held for each in life.sequencers())
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
        for life in self.lives:
            if life.is_alive:
                self._check_accounts(life.service.status)

    def _check_accounts(self, status: Status) -> None:
        for sink in status.sinks:
            received = Counter(status.counts.received) + sink.counts.restored
            accounted = Counter(sink.counts.published)
            for (kind, _), count in sink.counts.dropped.items():
                accounted[kind] += count
            if accounted + sink.pending() != received:
                self.problems.append(f"{sink.name}: {received=} {accounted=} {sink.pending()=}")

    def check_latest(self) -> None:
        """Check that Redis shows the newest trade, unless a value waits to be written."""
        alive = [life for life in self.lives if life.is_alive]
        sinks = [sink for life in alive for sink in life.sinks() if isinstance(sink, RedisSink)]
        if any(sink._latest for sink in sinks) or self.redis.calls:
            return
        resting = {value.key for sink in sinks for value in sink._resting}
        observers = self.present(among=alive)
        for symbol, newest in (pair for each in observers for pair in each.newest_trades.items()):
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
        is_working = self.life.is_alive and not status.draining
        sequencers = self.life.sequencers() if is_working else []
        if sequencers and self.life.piped_s is None:
            self.life.piped_s = time.time()
        holes = {
            (sequencer, sequencer.hole[0])
            for each in sequencers
            for sequencer in each._all()
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
        alive = [life for life in self.lives if life.is_alive]
        for status in (s for life in alive for s in life.service.status.symbols.values()):
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
    producer, admin = partial(Producer, world.broker), partial(Admin, world.broker)

    def consumer(**options: Any) -> Consumer:
        if "group_id" in options:
            return GroupConsumer(world.broker, world.coordinator, **options)
        return Consumer(world.broker, **options)

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
