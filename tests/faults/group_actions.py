"""The actions of the fault tests on several bridges, one of which stands by for each shard."""

import asyncio
import signal
from collections.abc import Callable
from itertools import cycle, islice

from bridge.brokers.kafka_group import STATIC_SESSION_MS
from tests.faults.bridges import PATIENCE_S
from tests.faults.environment import Environment
from tests.faults.profile import Size

# From a kill to the next start: some bridges are back before the standby takes over, some after.
AWAY_S = (0.0, 5.0)
# The group has then removed a frozen bridge.
PAST_SESSION_S = STATIC_SESSION_MS / 1000 + 3.0
# The standby then has the last events of the owner.
STANDING_S = 3.0


async def kill_owner(environment: Environment, size: Size) -> None:
    """Kill the owner, and start it again. The group then gives it its role again."""
    for _ in range(size.times):
        owner = await _owner(environment)
        await environment.bridges.end(signal.SIGKILL, owner)
        environment.over()
        await environment.rest(environment.chance.uniform(*AWAY_S))
        await _start_again(environment, owner)


async def kill_both(environment: Environment, size: Size) -> None:
    for _ in range(size.times):
        await _owner(environment)
        for number in (0, 1):
            await environment.bridges.end(signal.SIGKILL, number)
        environment.over()
        await asyncio.gather(*(environment.bridges.start(number) for number in (0, 1)))
        await environment.rest_between()


async def freeze_owner(environment: Environment, size: Size) -> None:
    """Freeze the owner, in turn for some seconds and until the group has removed it."""
    for frozen_s in islice(cycle((size.seconds, PAST_SESSION_S)), size.times):
        bridge = environment.bridges.last[await _owner(environment)]
        bridge.process.send_signal(signal.SIGSTOP)
        environment.over()
        await environment.rest(frozen_s)
        bridge.process.send_signal(signal.SIGCONT)
        await environment.rest_between()


async def cut_owner_from_kafka(environment: Environment, size: Size) -> None:
    await _cut_owner(environment, size, environment.broker.proxy.block)


async def cut_owner_from_exchange(environment: Environment, size: Size) -> None:
    await _cut_owner(environment, size, environment.line.block)


async def cut_owner_off(environment: Environment, size: Size) -> None:
    def block() -> None:
        environment.line.block()
        environment.broker.proxy.block()

    await _cut_owner(environment, size, block)


async def restart_in_turn(environment: Environment, size: Size) -> None:
    """Restart one bridge after the other, each when the one before has its roles again."""
    for _ in range(size.times):
        for number in range(environment.scenario.bridges):
            await environment.bridges.shards()
            await environment.bridges.end(signal.SIGTERM, number)
            environment.over()
            await _start_again(environment, number)


async def add_and_remove_bridge(environment: Environment, size: Size) -> None:
    """Add a bridge, which takes shards from the others, and stop it again."""
    number = environment.scenario.bridges
    for _ in range(size.times):
        await environment.bridges.shards()
        await _start_again(environment, number)
        environment.over()
        await environment.rest_between()
        await environment.bridges.end(signal.SIGTERM, number)
        environment.over()
        await environment.rest_between()


async def stop_coordinator(environment: Environment, size: Size) -> None:
    """Kill the broker that coordinates the group, and then the owner while the group moves."""
    cluster = environment.cluster
    assert cluster is not None
    for _ in range(size.times):
        owner = await _owner(environment)
        broken = await asyncio.to_thread(cluster.coordinator, environment.unique)
        await asyncio.to_thread(cluster.kill, broken)
        environment.over()
        await environment.rest(environment.chance.uniform(*AWAY_S))
        await environment.bridges.end(signal.SIGKILL, owner)
        environment.over()
        await _start_again(environment, owner)
        await asyncio.to_thread(cluster.start, broken)


async def _cut_owner(environment: Environment, size: Size, block: Callable[[], None]) -> None:
    """Cut off the first bridge, which has the role of the owner whenever it is back."""
    for _ in range(size.times):
        async with asyncio.timeout(PATIENCE_S):
            while await _owner(environment) != 0:
                pass
        await asyncio.to_thread(block)
        environment.over()
        await environment.rest(size.seconds)
        environment.broker.proxy.heal()
        environment.line.heal()
        await environment.rest_between()


async def _start_again(environment: Environment, number: int) -> None:
    """Start a bridge, and wait until it owns the shard that the group gives it."""
    bridge = await environment.bridges.start(number)
    await bridge.logged("positions_read", PATIENCE_S)
    await environment.rest_between()


async def _owner(environment: Environment) -> int:
    """Wait until the one shard has its bridges, and return the number of the owner."""
    (shard,) = await environment.bridges.shards()
    await environment.rest(STANDING_S)
    assert shard.owner is not None
    return int(shard.owner.name.removeprefix("bridge-"))
