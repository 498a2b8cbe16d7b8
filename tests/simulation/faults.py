"""The faults of a schedule. Each lasts for a while, and the seed decides which ones overlap."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from random import Random

import msgspec

from bridge.brokers.kafka_group import SESSION_MS
from bridge.core.policy.silence import CONNECTION_FLOOR_S
from tests.simulation.broker import NODES, Stored
from tests.simulation.exchange import SHUTDOWN, Connection
from tests.simulation.loop import within
from tests.simulation.settings_file import SYMBOLS
from tests.simulation.world import World

Fault = Callable[[World], Awaitable[None]]

DURATION_S = 15.0
MAX_FAULTS = 8
MAX_STANDBYS = 2
# Between two takeovers the former owner has come back, and has received every stream.
TAKEOVER_S = 20.0
# Until a standby has noticed that the owner is cut off from the exchange.
LOST_S = 10.0
# Changes of the settings: each one removes streams, and adds them again.
MAX_CHANGES = 2
# Longer than a hole holds its stream: other holes appear while the ids are still requested.
LACKING_S = 25.0


def draw(random: Random) -> list[tuple[float, Fault]]:
    """Draw some faults, each with its start in seconds."""
    count = random.randint(0, MAX_FAULTS)
    return [(random.uniform(0, DURATION_S), random.choice(FAULTS)) for _ in range(count)]


def draw_changes(random: Random) -> list[tuple[float, Fault]]:
    """Draw no faults, but a few changes of the settings, perhaps close together."""
    return [(random.uniform(0, DURATION_S), leave_some_streams_out) for _ in range(MAX_CHANGES)]


def draw_takeovers(random: Random) -> list[tuple[float, Fault]]:
    """Draw only faults that leave one bridge able to publish, far enough apart."""
    return [(TAKEOVER_S * number, random.choice(TAKEOVERS)) for number in (1, 2, 3)]


async def cut(world: World) -> None:
    for connection in _some(world):
        connection.cut()


async def stall(world: World) -> None:
    """Hold frames back; they are lost only if the connection is lost too."""
    connections = _some(world)
    for connection in connections:
        connection.stall()
    await _a_while(world)
    for connection in connections:
        connection.flow()


async def stall_until_the_pings_fail(world: World) -> None:
    connections = _some(world)
    for connection in connections:
        connection.stall()
    options = world.settings.binance
    await asyncio.sleep(options.ping_interval_s + options.ping_timeout_s)
    for connection in connections:
        connection.cut(has_missed_pong=True)


async def mute_a_stream(world: World) -> None:
    connections = _some(world)
    for connection in connections:
        connection.mute.add(world.random.choice(sorted(connection.streams)))
    await _a_while(world)
    for connection in connections:
        connection.mute.clear()


async def mute_connections(world: World) -> None:
    """Keep connections open and silent until the silence shows, or nearly so long."""
    connections = _some(world)
    for connection in connections:
        connection.mute |= connection.streams
    await asyncio.sleep(world.random.uniform(CONNECTION_FLOOR_S / 2, 2 * CONNECTION_FLOOR_S))
    for connection in connections:
        connection.mute.clear()


async def announce_the_end(world: World) -> None:
    connections = _some(world)
    for connection in connections:
        connection.send([SHUTDOWN])
    await _a_while(world)
    for connection in connections:
        connection.cut()


async def start_ids_again(world: World) -> None:
    """As when a symbol is listed again. No connection holds old events back for so long."""
    for connection in list(world.exchange.connections):
        if connection.stalled is not None or world.random.random() < 0.3:
            connection.cut()
    world.market.restart_ids()


async def spoil_frames(world: World) -> None:
    draw = world.random.random
    exchange = world.exchange
    exchange.repeat, exchange.reorder, exchange.skip = draw() / 2, draw() / 2, draw() / 2
    await _a_while(world)
    exchange.repeat = exchange.reorder = exchange.skip = 0.0


async def misdate_some_events(world: World) -> None:
    world.market.misdates = world.random.random() / 4
    await _a_while(world)
    world.market.misdates = 0.0


async def refuse_connections(world: World) -> None:
    world.exchange.refuses = world.random.random()
    await _a_while(world)
    world.exchange.refuses = 0.0


async def fail_over_rest(world: World) -> None:
    world.rest.fails = world.random.random()
    await _a_while(world)
    world.rest.fails = 0.0


async def cut_often_without_rest(world: World) -> None:
    """Make one hole after the other; the waits for them must not add up."""
    world.rest.fails = 1.0
    for _ in range(world.random.randint(3, 8)):
        await cut(world)
        await _a_while(world, 3.0)
    world.rest.fails = 0.0


async def keep_rest_behind(world: World) -> None:
    world.rest.ids_behind = world.random.randint(1, 50)
    await _a_while(world)
    world.rest.ids_behind = 0


async def lack_ids(world: World) -> None:
    world.rest.lacks = world.random.random() / 2
    await _a_while(world, LACKING_S)
    world.rest.lacks = 0.0


async def have_no_history(world: World) -> None:
    world.rest.has_history = False
    await _a_while(world)
    world.rest.has_history = True


async def lose_requests_to_kafka(world: World) -> None:
    world.broker.loses = world.random.random() / 2
    await _a_while(world)
    world.broker.loses = 0.0


async def lose_answers_of_kafka(world: World) -> None:
    world.broker.mutes = world.random.random() / 2
    await _a_while(world)
    world.broker.mutes = 0.0


async def refuse_batches(world: World) -> None:
    world.broker.refuses = world.random.random() / 4
    await _a_while(world)
    world.broker.refuses = 0.0


async def refuse_some_trades(world: World) -> None:
    """Let a rule of the brokers refuse some trades for good, or most of them until it is mended."""
    share = world.random.choice((0.05, 0.95))

    def is_invalid(record: Stored) -> bool:
        """Say the same of all copies of a trade."""
        event = msgspec.json.decode(record.value)
        is_trade = event.get("message_type") == "trade" and "price" in event
        is_trade = is_trade and event["symbol"] != world.market.rare
        return is_trade and Random(f"{event['symbol']} {event['trade_id']}").random() < share

    world.broker.is_invalid = is_invalid
    await _a_while(world)
    world.broker.is_invalid = None


async def accept_small_batches_only(world: World) -> None:
    world.broker.max_batch_bytes = 2 ** world.random.uniform(8, 10)
    await _a_while(world)
    world.broker.max_batch_bytes = math.inf


async def freeze_a_broker(world: World) -> None:
    node = world.random.randrange(NODES)
    world.broker.freeze(node)
    await _a_while(world)
    world.broker.thaw(node)


async def kill_a_broker(world: World) -> None:
    node = world.random.randrange(NODES)
    world.broker.kill(node)
    await _a_while(world)
    world.broker.start(node)


async def lose_some_leaders(world: World) -> None:
    """Leave partitions without a leader for longer than a batch waits for one."""
    places = sorted(world.broker.logs)
    gone = {place for place in places if world.random.random() < 0.3}
    world.broker.leaderless |= gone
    await _a_while(world, 3 * world.settings.kafka.request_timeout_ms / 1000)
    world.broker.leaderless -= gone


async def restart_a_cluster_that_forgets(world: World) -> None:
    """Keep the cluster down until the bridge takes another producer, then forget all producers.

    A producer that retries by itself, as aiokafka's does, would meet brokers that do not know it.
    """
    for node in range(NODES):
        world.broker.kill(node)
    options = world.settings.kafka
    await asyncio.sleep(options.delivery_timeout_s + options.request_timeout_ms / 1000)
    await _a_while(world)
    world.broker.forget()
    for node in range(NODES):
        world.broker.start(node)


async def lose_calls_of_redis(world: World) -> None:
    world.redis.loses = world.random.random()
    await _a_while(world)
    world.redis.loses = 0.0


async def take_redis_away(world: World) -> None:
    world.redis.is_away = True
    await _a_while(world)
    world.redis.is_away = False


async def fill_redis(world: World) -> None:
    world.redis.is_full = True
    await _a_while(world)
    world.redis.is_full = False


async def put_other_types_into_redis(world: World) -> None:
    """Let keys of some symbols have another type: only their own values may wait."""
    keys = sorted(world.redis.hashes)
    gone = {key for key in keys if world.random.random() < 0.5}
    world.redis.mistyped |= gone
    await _a_while(world)
    world.redis.mistyped -= gone


async def leave_some_streams_out(world: World) -> None:
    """Remove streams and add them again; the missed events are then fetched or announced."""
    world.file.leave_some_out()
    await _a_while(world)
    world.file.name_all()


async def close_some_symbols(world: World) -> None:
    """Let the exchange list some symbols as closed, and read the settings again meanwhile."""
    closed = [symbol for symbol in SYMBOLS if world.random.random() < 0.7]
    status = world.random.choice(("BREAK", "HALT"))
    world.rest.statuses |= dict.fromkeys(closed, status)
    await _a_while(world)
    world.file.notify()
    await _a_while(world)
    for symbol in closed:
        world.rest.statuses.pop(symbol, None)


async def kill_the_bridge(world: World) -> None:
    async with world.restarting:
        world.kill()
        await asyncio.sleep(world.random.uniform(0.5, 3))
        world.start()


async def kill_the_bridge_behind_a_gap(world: World) -> None:
    """Kill the bridge just after a gap event; some of the related records may be written then."""
    gaps = len(world.journal.named("gap"))
    if await within(20, world.journal.until("gap", gaps + 1)):
        await asyncio.sleep(world.random.uniform(0, 0.2))
        await kill_the_bridge(world)


async def kill_the_bridge_when_a_gap_is_filled(world: World) -> None:
    """Kill the bridge at a `filled` event: the fetched events must be in Kafka before it."""
    if await within(40, world.broker.written(b'"state":"filled"')):
        await kill_the_bridge(world)


async def break_something_when_a_record_is_written(world: World) -> None:
    """Start a fault when a record is written but no client knows it, a moment rarely hit."""
    words, fault = world.random.choice(MOMENTS), world.random.choice(AT_A_MOMENT)
    if await within(20, world.broker.written(words)):
        await fault(world)


async def restart_the_bridge(world: World) -> None:
    async with world.restarting:
        await world.stop()
        await asyncio.sleep(world.random.uniform(0.5, 3))
        world.start()


async def change_the_number_of_shards(world: World) -> None:
    """Restart one bridge after the other with another number of shards."""
    async with world.restarting:
        if _set_other_shards(world):
            for life in [each for each in world.lives if each.is_alive]:
                if life.is_alive:
                    await world.stop(life)
                    await asyncio.sleep(world.random.uniform(0.0, 2.0))
                    world.start()


async def start_a_second_bridge_with_other_shards(world: World) -> None:
    """Let it take over from owners of another number of shards, who may be cut off."""
    async with world.restarting:
        await asyncio.sleep(0.001)  # two processes of one machine never start at one moment
        if len(world.standbys()) < MAX_STANDBYS and _set_other_shards(world):
            if world.has_group:
                world.start()
            else:
                await world.replace()
    await cut_off_from_kafka(world)


def _set_other_shards(world: World) -> bool:
    """Change the number of shards for bridges that start from now on, if another one fits."""
    kafka, count = world.settings.kafka, world.file.settings.cluster.shards
    others = [n for n in (1, 2, 3) if n != count and kafka.partitions % n == 0]
    if others and kafka.transactional_id is None:
        world.file.set_shards(world.random.choice(others))
        return True
    return False


async def restart_the_bridge_while_events_are_held(world: World) -> None:
    world.rest.fails = 1.0
    await cut(world)
    if await within(10, world.events_held()):
        await restart_the_bridge(world)
    world.rest.fails = 0.0


async def start_a_second_bridge(world: World) -> None:
    """Without a fence both would publish."""
    if world.settings.kafka.transactional_id == "":
        return
    if world.has_group:
        if len(world.standbys()) < MAX_STANDBYS:
            world.start()
        return
    async with world.restarting:
        await asyncio.sleep(0.001)  # two processes of one machine never start at one moment
        await world.replace()


async def cut_off_from_kafka(world: World) -> None:
    """Let a standby take over, if there is one, from an owner that comes back."""
    if world.settings.kafka.transactional_id == "":
        return  # without a fence such an owner may publish something twice
    life = world.life
    life.has_no_kafka = True
    await _a_while(world)
    life.has_no_kafka = False


async def cut_off_from_the_exchange(world: World) -> None:
    """The open connections end at once, or bring nothing any more."""
    await _cut_off_from_the_exchange(world, world.random.uniform(0.1, 8.0))


async def lose_the_exchange(world: World) -> None:
    """Do the same until a standby has taken over."""
    await _cut_off_from_the_exchange(world, LOST_S)


async def _cut_off_from_the_exchange(world: World, seconds: float) -> None:
    life = world.life
    life.has_no_exchange = True
    connections = [each for each in world.exchange.connections if each.process is life]
    is_dead = world.random.random() < 0.5
    for connection in connections:
        connection.stall() if is_dead else connection.cut()
    await asyncio.sleep(seconds)
    for connection in connections:
        connection.cut()
    life.has_no_exchange = False


async def stop_a_bridge(world: World) -> None:
    """Let the others of the group have its shards, if there are others."""
    async with world.restarting:
        alive = [life for life in world.lives if life.is_alive]
        if len(alive) > 1:
            await world.stop(world.random.choice(alive))


async def lose_the_coordinator_of_the_group(world: World) -> None:
    world.coordinator.is_away = True
    await _a_while(world, 2 * SESSION_MS / 1000)
    world.coordinator.is_away = False


async def expire_a_transaction(world: World) -> None:
    await world.broker.expire()


def _some(world: World) -> list[Connection]:
    return [connection for connection in world.exchange.connections if world.random.random() < 0.7]


async def _a_while(world: World, most_s: float = 8.0) -> None:
    await asyncio.sleep(world.random.uniform(0.1, most_s))


# Records on which later steps depend: gap events, fetched events, positions.
MOMENTS = (
    b'"state":"open"',
    b'"state":"filled"',
    b'"state":"lost"',
    b'"source":"rest"',
    b'"last_id":1',
)
AT_A_MOMENT: tuple[Fault, ...] = (
    cut,
    lose_answers_of_kafka,
    refuse_batches,
    freeze_a_broker,
    kill_a_broker,
    leave_some_streams_out,
    kill_the_bridge,
    kill_the_bridge,
    restart_the_bridge,
    start_a_second_bridge,
)
FAULTS: tuple[Fault, ...] = (
    cut,
    stall,
    stall_until_the_pings_fail,
    mute_a_stream,
    mute_connections,
    announce_the_end,
    spoil_frames,
    misdate_some_events,
    start_ids_again,
    refuse_connections,
    fail_over_rest,
    cut_often_without_rest,
    keep_rest_behind,
    lack_ids,
    have_no_history,
    lose_requests_to_kafka,
    lose_answers_of_kafka,
    refuse_batches,
    refuse_some_trades,
    accept_small_batches_only,
    freeze_a_broker,
    kill_a_broker,
    *(lose_some_leaders,) * 2,
    restart_a_cluster_that_forgets,
    expire_a_transaction,
    *(change_the_number_of_shards,) * 2,
    *(start_a_second_bridge_with_other_shards,) * 3,
    lose_calls_of_redis,
    take_redis_away,
    fill_redis,
    put_other_types_into_redis,
    *(leave_some_streams_out,) * 3,
    *(close_some_symbols,) * 2,
    *(kill_the_bridge,) * 3,
    kill_the_bridge_behind_a_gap,
    kill_the_bridge_when_a_gap_is_filled,
    *(break_something_when_a_record_is_written,) * 3,
    restart_the_bridge,
    restart_the_bridge_while_events_are_held,
    *(start_a_second_bridge,) * 2,
    *(stop_a_bridge,) * 2,
    lose_the_coordinator_of_the_group,
    *(cut_off_from_kafka,) * 2,
    *(cut_off_from_the_exchange,) * 2,
)
TAKEOVERS: tuple[Fault, ...] = (
    kill_the_bridge,
    restart_the_bridge,
    cut_off_from_kafka,
    lose_the_exchange,
    start_a_second_bridge,
    lose_the_coordinator_of_the_group,
)
