"""The scenarios of the target table, and the stages."""

import asyncio
from importlib.util import find_spec

from bridge.tools.bench import scenarios_capacity as capacity
from bridge.tools.bench import scenarios_time as times
from bridge.tools.bench import stages, stages_sinks, stages_socket
from bridge.tools.bench.figures import MARKET
from bridge.tools.bench.scenario import Bench, Outcome, Scenario
from bridge.tools.bench.stages import Material
from bridge.tools.bench.workload import Load

# A socket has one connection, whose URL cannot name all streams of a market.
SOCKET_SYMBOLS = 50
_SOCKET = {"stage": stages_socket.socket_to_frames, "floor": stages_socket.socket_floor}


async def _stages(bench: Bench) -> Outcome:
    """Measure the CPU time of each stage, and its floor: of a few symbols, and of the market."""
    load = bench.load()
    material = await asyncio.to_thread(stages.material, load, bench.profile.frames)
    figures: dict[str, float] = {}
    for name in ("websockets", "deflate", *(["picows"] if find_spec("picows") else [])):
        figures |= await _socket(bench, load, material, name)
    figures |= await _after_socket(bench, material)
    if bench.captures:
        of_market = await _market_stages(bench)
        figures |= {key.replace(".", f".{MARKET}"): cost for key, cost in of_market.items()}
    return Outcome(figures)


async def _market_stages(bench: Bench) -> dict[str, float]:
    frames = bench.profile.frames
    material = await asyncio.to_thread(stages.material, bench.market(1.0), frames)
    few = bench.market(1.0, symbols=SOCKET_SYMBOLS)
    of_few = await asyncio.to_thread(stages.material, few, frames)
    socket = await _socket(bench, few, of_few, "websockets")
    return socket | await _after_socket(bench, material)


async def _socket(bench: Bench, load: Load, material: Material, name: str) -> dict[str, float]:
    costs = {}
    for key, measure in _SOCKET.items():
        costs[f"{key}.{name}"] = await measure(
            load,
            material,
            bench.profile.rounds,
            transport="picows" if name == "picows" else "websockets",
            compression="deflate" if name == "deflate" else "none",
        )
    return costs


async def _after_socket(bench: Bench, material: Material) -> dict[str, float]:
    rounds = bench.profile.rounds
    of_sink = (bench.brokers, material, rounds)
    return {
        "stage.record": await stages.frame_to_record(material, rounds),
        "floor.record": await stages.record_floor(material, rounds),
        "stage.kafka": await stages_sinks.outbox_to_kafka(*of_sink),
        "floor.kafka": await stages_sinks.kafka_floor(*of_sink),
        "stage.redis": await stages_sinks.queue_to_redis(*of_sink),
        "floor.redis": await stages_sinks.redis_floor(*of_sink),
    }


SCENARIOS: dict[str, Scenario] = {
    "stages": Scenario("CPU time of each stage and of the bare library call", _stages),
    "websockets": Scenario(
        "highest sustained rate over websockets, twice this rate, and the peer", capacity.websockets
    ),
    "deflate": Scenario("highest sustained rate over websockets, deflate", capacity.deflate),
    "picows": Scenario("highest sustained rate over picows", capacity.picows, needs="picows"),
    "latency": Scenario("frame received to Redis subscriber and Kafka consumer", times.latency),
    "burst": Scenario("a burst of ten times the rate", times.burst),
    "memory": Scenario("memory at 5,000 msg/s, and its growth at 50,000 msg/s", capacity.memory),
    "growth": Scenario("1,000 symbols compared with 3", capacity.growth),
    "market": Scenario("the whole spot market, ten times as fast", capacity.market),
    "viewers": Scenario("50 viewers of the dashboard, 1,000 symbols", capacity.viewers),
    "pair": Scenario("two processes compared with one", capacity.pair),
    "start": Scenario("from the command to the first event", times.start),
}
