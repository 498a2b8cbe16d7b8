"""What the fault tests do to brokers and bridge. What others need is whole again at the end,
whatever happens to the test.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import cycle, islice

from redis import Redis

from bridge.sinks.kafka import position_writer
from tests.faults.environment import Environment
from tests.faults.profile import Size
from tests.support.brokers import Container

Action = Callable[[], object]

SERVER_AWAY_S = (1.0, 4.0)
DISK_FULL_TIMEOUT_S = 90.0
# Lives of a bridge: some end before positions are written, some after; the first one after.
LIVES_S = (0.3, 9.0)
FIRST_LIFE_S = position_writer.INTERVAL_S + 1.0

# Too little for the batches of the full load, and of a fifth of it, not compressed; but enough for
# every record.
_TOO_LITTLE_BYTES = {True: "4000", False: "800"}


async def let_flow(stage: Environment, size: Size) -> None:
    """The exchange has its own plan."""
    await stage.rest(size.seconds)


async def pause_kafka(stage: Environment, size: Size) -> None:
    await _by_turns(stage, size, (stage.broker.pause, stage.broker.unpause))


async def fill_disk(stage: Environment, size: Size) -> None:
    """Kafka stays away for some time after neither memory nor disk can take any more."""
    for _ in range(size.times):
        async with _broken(stage, stage.broker.pause, stage.broker.unpause):
            await stage.bridge.logged("spill_full", DISK_FULL_TIMEOUT_S)
            await stage.rest(size.seconds)


async def kill_kafka(stage: Environment, size: Size) -> None:
    await _kill(stage, size, stage.broker)


async def move_leaders(stage: Environment, size: Size) -> None:
    """By stopping each broker once, and by electing the preferred leaders again."""
    cluster = stage.cluster
    assert cluster is not None
    for number in range(size.times):
        await asyncio.to_thread(cluster.stop, number % cluster.SIZE)
        stage.over()
        await _between(stage)
        await asyncio.to_thread(cluster.start, number % cluster.SIZE)
        topics = await asyncio.to_thread(cluster.topics, stage.unique)
        await asyncio.to_thread(cluster.elect_preferred, topics)
        stage.over()
        await _between(stage)


async def reset_connections(stage: Environment, size: Size) -> None:
    """In the middle of what is being sent, or of an answer: at once, or after some more bytes."""
    proxy = stage.broker.proxy
    reset = partial(proxy.poison, "reset_peer", timeout=0)
    cut = partial(proxy.poison, "limit_data", bytes=50_001)
    poisons = (
        *(partial(cut, "downstream"), partial(reset, "upstream")),
        *(partial(cut, "upstream"), partial(reset, "downstream")),
    )
    await _by_turns(stage, size, *((poison, proxy.heal) for poison in poisons))


async def delay_kafka(stage: Environment, size: Size) -> None:
    """200 ms there and back, by turns at an even pace and with jitter."""
    proxy = stage.broker.proxy

    def delay(jitter: int) -> None:
        proxy.poison("latency", "upstream", latency=100, jitter=jitter)
        proxy.poison("latency", "downstream", latency=100, jitter=jitter)

    await _by_turns(stage, size, *((partial(delay, ms), proxy.heal) for ms in (0, 50)))


async def refuse_batches(stage: Environment, size: Size) -> None:
    """By turns as too large, and for want of replicas."""
    topics = await asyncio.to_thread(stage.kafka.topics, stage.unique)
    configure = partial(stage.kafka.configure, topics)
    too_little = _TOO_LITTLE_BYTES[stage.form.full]
    refusals = (("max.message.bytes", too_little), ("min.insync.replicas", "2"))
    turns = [
        (partial(configure, name, value), partial(configure, name, None))
        for name, value in refusals
    ]
    await _by_turns(stage, size, *turns)


async def pause_redis(stage: Environment, size: Size) -> None:
    await _by_turns(stage, size, (stage.redis.pause, stage.redis.unpause))


async def kill_redis(stage: Environment, size: Size) -> None:
    await _kill(stage, size, stage.redis)


async def empty_redis(stage: Environment, size: Size) -> None:
    await _tell_redis(stage, size, Redis.flushall)


async def forget_scripts(stage: Environment, size: Size) -> None:
    await _tell_redis(stage, size, Redis.script_flush)


async def fill_redis(stage: Environment, size: Size) -> None:
    """No memory left, and nothing that may be evicted."""
    with Redis.from_url(stage.redis.url) as client:
        limit = partial(client.config_set, "maxmemory")
        await _by_turns(stage, size, (partial(limit, "1mb"), partial(limit, "0")))


async def kill_bridge(stage: Environment, size: Size) -> None:
    await _end_bridges(stage, size, signal.SIGKILL)


async def stop_bridge(stage: Environment, size: Size) -> None:
    await _end_bridges(stage, size, signal.SIGTERM)


async def _end_bridges(stage: Environment, size: Size, number: signal.Signals) -> None:
    await stage.rest(FIRST_LIFE_S)
    for _ in range(size.times):
        assert await stage.end_bridge(number) == (0 if number == signal.SIGTERM else -number)
        stage.over()
        await stage.start_bridge()
        await stage.rest(stage.chance.uniform(*LIVES_S))


async def _by_turns(stage: Environment, size: Size, *turns: tuple[Action, Action]) -> None:
    """Each turn breaks something, and mends it."""
    for breaking, mending in islice(cycle(turns), size.times):
        async with _broken(stage, breaking, mending):
            await stage.rest(size.seconds)


async def _kill(stage: Environment, size: Size, server: Container) -> None:
    for _ in range(size.times):
        async with _broken(stage, server.kill, server.start):
            await stage.rest(stage.chance.uniform(*SERVER_AWAY_S))


async def _tell_redis(stage: Environment, size: Size, command: Callable[[Redis], object]) -> None:
    """What nobody has to mend: the bridge sees to it."""
    with Redis.from_url(stage.redis.url) as client:
        for _ in range(size.times):
            command(client)
            stage.over()
            await _between(stage)


async def _between(stage: Environment) -> None:
    await stage.rest(stage.chance.uniform(*stage.form.between_s))


@asynccontextmanager
async def _broken(stage: Environment, breaking: Action, mending: Action) -> AsyncIterator[None]:
    """CorruptChunk while it is open, and some time for recovery."""
    await asyncio.to_thread(breaking)
    try:
        yield
    finally:
        await asyncio.to_thread(mending)
    stage.over()
    await _between(stage)
