"""The CPU time of each stage, and that of the bare library calls."""

import asyncio
from importlib.util import find_spec

from bridge.tools.bench import stages, stages_sinks, stages_socket
from bridge.tools.bench.figures import MARKET
from bridge.tools.bench.scenario import Bench, Outcome
from bridge.tools.bench.stages import Material
from bridge.tools.bench.workload import WIRES, Load

# A socket has one connection, whose URL cannot name all streams of a market.
SOCKET_SYMBOLS = 50
BARE_ROUNDS = 2


async def measure_stages(bench: Bench) -> Outcome:
    """Measure the CPU time of each stage, and its floor: of a few symbols, and of the market."""
    load = bench.load()
    material = await _material(bench, load)
    figures: dict[str, float] = {}
    for name, wire in WIRES.items():
        if find_spec(wire.transport):
            figures |= await _socket(bench, load, material, name)
    figures |= await _after_socket(bench, material)
    figures["record.floor_ratio"] = figures["stage.record"] / figures["floor.record"]
    if bench.captures:
        of_market = await _market(bench)
        figures |= {key.replace(".", f".{MARKET}"): cost for key, cost in of_market.items()}
    return Outcome(figures)


async def bare_us(bench: Bench, name: str) -> float:
    """Return the cost of a message if the libraries are called in a loop, and nothing else is done.

    It is the sum of the floors of all stages, in microseconds. `name` is a key of WIRES.
    """
    load, rounds = bench.load(), min(bench.profile.rounds, BARE_ROUNDS)
    material = await _material(bench, load)
    socket = await stages_socket.socket_floor(load, material, rounds, WIRES[name])
    return socket + sum((await _floors(bench, material, rounds)).values())


async def _material(bench: Bench, load: Load) -> Material:
    return await asyncio.to_thread(stages.material, load, bench.profile.frames)


async def _market(bench: Bench) -> dict[str, float]:
    few = bench.market(1.0, symbols=SOCKET_SYMBOLS)
    socket = await _socket(bench, few, await _material(bench, few), "websockets")
    return socket | await _after_socket(bench, await _material(bench, bench.market(1.0)))


async def _socket(bench: Bench, load: Load, material: Material, name: str) -> dict[str, float]:
    of_load = (load, material, bench.profile.rounds, WIRES[name])
    return {
        f"stage.{name}": await stages_socket.socket_to_frames(*of_load),
        f"floor.{name}": await stages_socket.socket_floor(*of_load),
    }


async def _after_socket(bench: Bench, material: Material) -> dict[str, float]:
    rounds = bench.profile.rounds
    ours = {
        "stage.record": await stages.frame_to_record(material, rounds),
        "stage.kafka": await stages_sinks.outbox_to_kafka(bench.brokers, material, rounds),
        "stage.redis": await stages_sinks.queue_to_redis(bench.brokers, material, rounds),
    }
    return ours | await _floors(bench, material, rounds)


async def _floors(bench: Bench, material: Material, rounds: int) -> dict[str, float]:
    return {
        "floor.record": await stages.record_floor(material, rounds),
        "floor.kafka": await stages_sinks.kafka_floor(bench.brokers, material, rounds),
        "floor.redis": await stages_sinks.redis_floor(bench.brokers, material, rounds),
    }
