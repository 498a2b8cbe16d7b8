"""A schedule: settings and faults that one seed decides, and a check of all promises."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from functools import cache, partial
from random import Random
from typing import Any

import structlog

from bridge.core.sequencing.rules import ARRIVAL_RESTART_US, RESTART_EVENTS
from bridge.settings import Settings, load_settings
from tests.simulation import faults, loop, process
from tests.simulation.settings_file import PATTERNS, SYMBOLS
from tests.simulation.truth import find_problems
from tests.simulation.world import World, edges
from tests.support.journal import Journal, journal_kept

# Until everything works again: all back-offs and timeouts are shorter.
HEALING_S = 50.0
# Until the last events have arrived everywhere, and missing trades were noticed and fetched.
QUIET_S = 15.0

# The share of schedules in which the ids of a symbol may start again.
RESTARTS_SHARE = 0.3

# The error of the machine's clock, in seconds.
CLOCK_ERRORS_S = (0, 0, 0, -3600, -7, -1, 1, 7, 3600)

# Faults, each with its start in seconds.
Draw = Callable[[Random], list[tuple[float, faults.Fault]]]

_log = structlog.get_logger(__name__)


class BrokenPromise(AssertionError):
    """A promise was broken: `problems` says which one, `journal` has the log."""

    def __init__(self, problems: str, journal: Journal) -> None:
        super().__init__(problems)
        self.problems = problems
        self.journal = journal


def play(seed: int, draw: Draw = faults.draw) -> Journal:
    """Play one schedule. Raises BrokenPromise if a promise was broken."""
    random = Random(seed)
    with journal_kept() as journal:
        structlog.configure(processors=[structlog.contextvars.merge_contextvars, _place, journal])
        loop.run(seed, partial(_play, seed, random, journal, draw))
    return journal


def _place(_logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add the time and the number of the process to a log entry."""
    life = process.current.get(None)
    return {
        "at_s": round(asyncio.get_running_loop().time(), 3),
        "life": life and life.number,
        **entry,
    }


async def _play(
    seed: int, random: Random, journal: Journal, draw: Draw, running_in: loop.SimulationLoop
) -> None:
    world = World(random, draw_settings(random), journal)
    running_in.clock_ahead_s = random.choice(CLOCK_ERRORS_S)
    with edges(world):
        if random.random() < RESTARTS_SHARE:
            world.market.let_restart(SYMBOLS[0])
        if random.random() < 0.2:
            world.file.leave_some_out()
        world.start()
        if world.has_standbys:
            await asyncio.sleep(0.001)  # two processes of one machine never start at one moment
            world.start()
        ticking = asyncio.create_task(_tick(world))
        await asyncio.gather(*(_strike(world, *fault) for fault in draw(random)))
        world.file.name_all()
        await asyncio.sleep(HEALING_S)
        for _ in range(RESTART_EVENTS if world.market.has_restarted else 0):
            world.exchange.show_all()
            await asyncio.sleep(ARRIVAL_RESTART_US / 1e6)
        ticking.cancel()
        world.exchange.show_all()
        await asyncio.sleep(QUIET_S)
        world.check_statuses()
        await world.stop_all()
        await world.bury()
    problems = [*world.problems, *find_problems(world), *map(str, running_in.errors)]
    if problems:
        raise BrokenPromise(f"seed {seed}: " + "\n  ".join(problems[:10]), journal)


async def _tick(world: World) -> None:
    """Let the market run at a random pace, slower after the faults."""
    pace_s = world.random.choice((0.25, 0.6, 1.5))
    while True:
        is_late = asyncio.get_running_loop().time() > faults.DURATION_S + 5
        await asyncio.sleep(world.random.expovariate(1 / (5.0 if is_late else pace_s)))
        world.check_latest()
        world.check_patience()
        world.exchange.tick()


async def _strike(world: World, at_s: float, fault: Callable[[World], Awaitable[None]]) -> None:
    await asyncio.sleep(at_s)
    world.check_accounts()
    _log.info("fault_begins", fault=fault.__name__)
    await fault(world)
    _log.info("fault_ends", fault=fault.__name__)
    world.check_accounts()


def draw_settings(random: Random) -> Settings:
    """Draw settings that let everything happen within a minute."""
    streams = random.choice(
        (
            ("trade", "bookTicker"),
            ("trade", "aggTrade", "bookTicker"),
            ("trade", "kline_1s", "blockTrade"),
        )
    )
    transactional_id = random.choice((None, None, None, ""))
    shards = 1 if transactional_id == "" else random.choice((1, 1, 2))
    return _settings(
        symbols=random.choice((SYMBOLS, PATTERNS)),
        streams=streams,
        connections=random.choice((1, 2)),
        connection_max_age_s=random.choice((8, 80_000, 80_000)),
        partitions=shards * random.choice((1, 2, 3)),
        transactional_id=transactional_id,
        standby=0 if transactional_id == "" else random.choice((0, 1)),
        shards=shards,
    )


@cache
def _settings(
    *,
    symbols: tuple[str, ...],
    streams: tuple[str, ...],
    connections: int,
    connection_max_age_s: float,
    partitions: int,
    transactional_id: str | None,
    standby: int,
    shards: int,
) -> Settings:
    overrides = {
        "binance": {
            "symbols": list(symbols),
            "streams": list(streams),
            "redundancy": connections,
            "reconnect_max_delay_s": 2,
            "ping_interval_s": 4,
            "ping_timeout_s": 2,
            "connection_max_age_s": connection_max_age_s,
        },
        "repair": {"timeout_s": 4, "head_check_interval_s": 5},
        "kafka": {
            "partitions": partitions,
            "transactional_id": transactional_id,
            "request_timeout_ms": 1000,
            "delivery_timeout_s": 2,
        },
        "cluster": {"standby": standby, "shards": shards},
        "shutdown_timeout_s": 5,
    }
    return load_settings(environment={}, overrides=overrides)
