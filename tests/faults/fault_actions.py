"""The actions of the fault tests on brokers and bridge.

Shared servers work again at the end, whatever happens to the test.
"""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import cycle, islice

from redis import Redis

from bridge.sinks.kafka import position_writer
from bridge.tools.simulator import AnnounceShutdown, Cut, StallConnection
from tests.faults.bridges import PATIENCE_S
from tests.faults.environment import Environment
from tests.faults.profile import SYMBOLS, Size
from tests.support.brokers import Container
from tests.support.played import CONTIGUOUS

# The exit code of a bridge that has been fenced off.
FENCED = 4

Action = Callable[[], object]

SERVER_AWAY_S = (1.0, 4.0)
# From the opening of a connection until both lines bring every stream.
LINE_SETTLES_S = 1.0
DISK_FULL_TIMEOUT_S = 90.0
# Lifetimes of a bridge: some end before positions are written, some after. The first ends after.
LIVES_S = (0.3, 9.0)
FIRST_LIFE_S = position_writer.INTERVAL_S + 1.0

# Wrong times: an hour ahead, and before the trades that precede it.
WRONG_BY_MS = (3_600_000, -5_000)
# Time to write what has come with the old ids, because REST no longer knows it.
OLD_IDS_WRITTEN_S = (1.0, 3.0)

# Too small for the uncompressed batches of GATHERING_S, but large enough for the load.
SMALL_BATCH_BYTES = "4000"
GATHERING_S = 1.0


async def let_flow(environment: Environment, size: Size) -> None:
    """Wait while the exchange follows its own fault plan."""
    await environment.rest(size.seconds)


async def break_one_of_two_lines(environment: Environment, size: Size) -> None:
    """Break each of two lines in turn, while the other one is open.

    The connections are numbered as they open: 0 and 2 are of one line, 1 and 3 of the other.
    """
    faults = (
        Cut(connection=0),
        AnnounceShutdown(connection=1, lead_s=0.5),
        Cut(connection=2),
        StallConnection(connection=3, for_s=size.seconds),
    )
    for opened, fault in enumerate(faults, 2):
        await environment.bridge.logged("connection_open", PATIENCE_S, count=opened)
        await environment.rest(LINE_SETTLES_S)
        environment.exchange.inject(fault)
    await environment.rest(size.seconds)


async def pause_kafka(environment: Environment, size: Size) -> None:
    await _by_turns(environment, size, (environment.broker.pause, environment.broker.unpause))


async def fill_disk(environment: Environment, size: Size) -> None:
    """Keep Kafka away for some time after memory and disk are full."""
    for _ in range(size.times):
        async with _broken(environment, environment.broker.pause, environment.broker.unpause):
            await environment.bridge.logged("spill_full", DISK_FULL_TIMEOUT_S)
            await environment.rest(size.seconds)


async def kill_kafka(environment: Environment, size: Size) -> None:
    await _kill(environment, size, environment.broker)


async def move_leaders(environment: Environment, size: Size) -> None:
    """Stop each broker in turn, and elect the preferred leaders again."""
    cluster = environment.cluster
    assert cluster is not None
    for number in range(size.times):
        await asyncio.to_thread(cluster.stop, number % cluster.SIZE)
        environment.over()
        await environment.rest_between()
        await asyncio.to_thread(cluster.start, number % cluster.SIZE)
        topics = await asyncio.to_thread(cluster.topics, environment.unique)
        await asyncio.to_thread(cluster.elect_preferred, topics)
        environment.over()
        await environment.rest_between()


async def take_leaders_away(environment: Environment, size: Size) -> None:
    """Stop each broker in turn, and with it the only replica of some partitions of the trades.
    Records must arrive in the other ones meanwhile.
    """
    cluster = environment.cluster
    assert cluster is not None
    topic = f"{environment.unique}.binance.spot.trade"
    for number in range(size.times):
        broken = number % cluster.SIZE
        await asyncio.to_thread(cluster.stop, broken)
        await environment.bridge.logged("kafka_partition_unavailable", PATIENCE_S)
        before = await asyncio.to_thread(cluster.ends, topic)
        await environment.rest(size.seconds)
        after = await asyncio.to_thread(cluster.ends, topic)
        assert before
        assert [part for part, end in before.items() if after[part] <= end] == []
        await asyncio.to_thread(cluster.start, broken)
        environment.over()
        await environment.rest_between()


async def reset_connections(environment: Environment, size: Size) -> None:
    """Reset in the middle of a batch or of an answer: at once, or after some more bytes."""
    proxy = environment.broker.proxy
    reset = partial(proxy.poison, "reset_peer", timeout=0)
    cut = partial(proxy.poison, "limit_data", bytes=50_001)
    poisons = (
        *(partial(cut, "downstream"), partial(reset, "upstream")),
        *(partial(cut, "upstream"), partial(reset, "downstream")),
    )
    await _by_turns(environment, size, *((poison, proxy.heal) for poison in poisons))


async def delay_kafka(environment: Environment, size: Size) -> None:
    """Add 200 ms to each round trip, in turn constant and with jitter."""
    proxy = environment.broker.proxy

    def delay(jitter: int) -> None:
        proxy.poison("latency", "upstream", latency=100, jitter=jitter)
        proxy.poison("latency", "downstream", latency=100, jitter=jitter)

    await _by_turns(environment, size, *((partial(delay, ms), proxy.heal) for ms in (0, 50)))


async def refuse_batches(environment: Environment, size: Size) -> None:
    """Let the broker refuse batches, in turn as too large and because replicas are missing."""
    topics = await asyncio.to_thread(environment.kafka.topics, environment.unique)
    configure = partial(environment.kafka.configure, topics)

    def allow_small_batches() -> None:
        configure("max.message.bytes", SMALL_BATCH_BYTES)
        environment.broker.pause()  # a large batch gathers
        time.sleep(GATHERING_S)
        environment.broker.unpause()

    await _by_turns(
        environment,
        size,
        (allow_small_batches, partial(configure, "max.message.bytes", None)),
        (
            partial(configure, "min.insync.replicas", "2"),
            partial(configure, "min.insync.replicas", None),
        ),
    )


async def pause_redis(environment: Environment, size: Size) -> None:
    await _by_turns(environment, size, (environment.redis.pause, environment.redis.unpause))


async def kill_redis(environment: Environment, size: Size) -> None:
    await _kill(environment, size, environment.redis)


async def empty_redis(environment: Environment, size: Size) -> None:
    await _tell_redis(environment, size, Redis.flushall)


async def forget_scripts(environment: Environment, size: Size) -> None:
    await _tell_redis(environment, size, Redis.script_flush)


async def fill_redis(environment: Environment, size: Size) -> None:
    """Leave Redis no memory, and nothing that it may evict."""
    with Redis.from_url(environment.redis.url) as client:
        limit = partial(client.config_set, "maxmemory")
        await _by_turns(environment, size, (partial(limit, "1mb"), partial(limit, "0")))


async def kill_bridge(environment: Environment, size: Size) -> None:
    await _end_bridges(environment, size, signal.SIGKILL)


async def stop_bridge(environment: Environment, size: Size) -> None:
    await _end_bridges(environment, size, signal.SIGTERM)


async def start_second_bridge(environment: Environment, size: Size) -> None:
    """Start a bridge although one runs, in turn running and frozen: the first one must end."""
    await environment.rest(FIRST_LIFE_S)
    for frozen in islice(cycle((False, True)), size.times):
        first = environment.bridge
        environment.bridges.note_memory()
        if frozen:
            first.process.send_signal(signal.SIGSTOP)
            await environment.rest(size.seconds)
        await environment.bridges.start()
        if frozen:
            await environment.rest(environment.chance.uniform(0.0, size.seconds))
            first.process.send_signal(signal.SIGCONT)
        assert await first.ended() == FENCED
        environment.over()
        await environment.rest_between()


async def restart_ids(environment: Environment, size: Size) -> None:
    """Let the ids of one symbol after the other start again, and break something soon after."""
    await _in_each_symbol(environment, size, environment.restart_ids)


async def misdate_trades(environment: Environment, size: Size) -> None:
    """Give single trades a wrong time, in one symbol after the other, and break something soon
    after.
    """
    wrong_by_ms = cycle(WRONG_BY_MS)

    def misdate(symbol: str) -> None:
        by_ms = next(wrong_by_ms)
        for name in CONTIGUOUS.values():
            environment.observer.misdate(f"{symbol.lower()}@{name}", by_ms)

    await _in_each_symbol(environment, size, misdate)


async def _in_each_symbol(
    environment: Environment, size: Size, confuse: Callable[[str], None]
) -> None:
    """Do something to a symbol, then cut the connection, kill the bridge or stop it, in turn."""
    await environment.rest(FIRST_LIFE_S)
    for symbol, number in zip(
        SYMBOLS[: size.times], cycle((None, signal.SIGKILL, signal.SIGTERM)), strict=False
    ):
        confuse(symbol)
        environment.over()
        await environment.rest(environment.chance.uniform(*OLD_IDS_WRITTEN_S))
        if number is None:
            environment.exchange.inject(Cut())
        else:
            await _replace_bridge(environment, number)
        await environment.rest_between()


async def _end_bridges(environment: Environment, size: Size, number: signal.Signals) -> None:
    await environment.rest(FIRST_LIFE_S)
    for _ in range(size.times):
        await _replace_bridge(environment, number)
        await environment.rest(environment.chance.uniform(*LIVES_S))


async def _replace_bridge(environment: Environment, number: signal.Signals) -> None:
    await environment.bridges.end(number)
    environment.over()
    await environment.bridges.start()


async def _by_turns(environment: Environment, size: Size, *turns: tuple[Action, Action]) -> None:
    """Break and mend something `size.times` times, with each pair of actions in turn."""
    for breaking, mending in islice(cycle(turns), size.times):
        async with _broken(environment, breaking, mending):
            await environment.rest(size.seconds)


async def _kill(environment: Environment, size: Size, server: Container) -> None:
    for _ in range(size.times):
        async with _broken(environment, server.kill, server.start):
            await environment.rest(environment.chance.uniform(*SERVER_AWAY_S))


async def _tell_redis(
    environment: Environment, size: Size, command: Callable[[Redis], object]
) -> None:
    """Send a command whose effect the bridge repairs by itself."""
    with Redis.from_url(environment.redis.url) as client:
        for _ in range(size.times):
            command(client)
            environment.over()
            await environment.rest_between()


@asynccontextmanager
async def _broken(
    environment: Environment, breaking: Action, mending: Action
) -> AsyncIterator[None]:
    """Keep something broken while the context is open, then leave time for recovery."""
    await asyncio.to_thread(breaking)
    try:
        yield
    finally:
        await asyncio.to_thread(mending)
    environment.over()
    await environment.rest_between()
