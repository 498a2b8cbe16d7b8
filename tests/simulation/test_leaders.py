"""Partitions without a leader hold up no other partition, whatever else goes wrong meanwhile."""

import asyncio
from collections.abc import Callable, Coroutine

import pytest
from aiokafka import TopicPartition

from bridge.sinks.kafka.resting import MAX_REST_S
from bridge.sinks.kafka.sink import KafkaSink
from tests.simulation import world as worlds
from tests.simulation.faults import DURATION_S
from tests.simulation.schedule import play
from tests.simulation.world import World

SEEDS = 40
TOPICS = ("binance.spot.trade", "binance.spot.agg_trade")
LOOK_S = 3.0

Scenario = Callable[[World, TopicPartition], Coroutine[None, None, set[TopicPartition]]]


async def leaders_go_in_turn(world: World, busiest: TopicPartition) -> set[TopicPartition]:
    """Take one leader away, and when it is back those of all other partitions with trades."""
    leaderless = world.broker.leaderless
    leaderless |= {busiest}
    await asyncio.sleep(patience_s(world))
    others = {place for place in world.broker.logs if place.topic in TOPICS} - {busiest}
    leaderless |= others
    leaderless -= {busiest}
    return others


async def a_leader_goes_in_an_outage(world: World, busiest: TopicPartition) -> set[TopicPartition]:
    """Lose all answers until the producer has failed, and one leader for longer."""
    options = world.settings.kafka
    world.broker.mutes = 1.0
    await asyncio.sleep(1)
    world.broker.leaderless |= {busiest}
    await asyncio.sleep(options.delivery_timeout_s + options.request_timeout_ms / 1000)
    world.broker.mutes = 0.0
    return {busiest}


def patience_s(world: World) -> float:
    """Return how long a batch waits for a leader, and its partition for the next attempt."""
    return 3 * world.settings.kafka.request_timeout_ms / 1000 + MAX_REST_S


@pytest.mark.parametrize("scenario", [leaders_go_in_turn, a_leader_goes_in_an_outage])
def test_records_wait_only_for_the_partitions_without_a_leader(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A new fence needs all partitions. Its renewal, twice a day, is not what is tested here.
    monkeypatch.setattr(worlds, "SESSION_AGES_S", (12 * 3600.0,))
    played: list[set[TopicPartition]] = []

    async def fault(world: World) -> None:
        logs = world.broker.logs
        if places := sorted(place for place in logs if place.topic in TOPICS):
            busiest = max(places, key=lambda place: len(logs[place]))
            gone = await scenario(world, busiest)
            await asyncio.sleep(patience_s(world))
            await check(world, gone)
            world.broker.leaderless -= gone
            played.append(gone)

    for seed in range(SEEDS):
        play(seed, lambda _random: [(DURATION_S / 2, fault)])
    assert len(played) > SEEDS / 2


async def check(world: World, gone: set[TopicPartition]) -> None:
    """Note a problem if records wait for other partitions for longer than a few looks."""
    waiting: set[TopicPartition] = set()
    for _ in range(3):
        await asyncio.sleep(LOOK_S)
        sinks = [sink for sink in world.life.sinks() if isinstance(sink, KafkaSink)]
        queues = [queue for sink in sinks for queue in sink.outbox._queues.values()]
        waiting = {TopicPartition(q.topic, q.partition) for q in queues if q.records} - gone
        if not waiting:
            return
    world.problems.append(f"records wait for {waiting}, which have a leader")
