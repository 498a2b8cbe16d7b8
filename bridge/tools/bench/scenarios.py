"""The scenarios, one for each row of the target table, and the stages."""

import asyncio
from importlib.util import find_spec

from bridge.tools.bench import scenarios_capacity as capacity
from bridge.tools.bench import scenarios_time as times
from bridge.tools.bench import stages, stages_sinks, stages_socket
from bridge.tools.bench.scenario import Bench, Outcome, Scenario


async def _stages(bench: Bench) -> Outcome:
    """What each stage costs, and its floor."""
    profile, load = bench.profile, bench.load()
    material = await asyncio.to_thread(stages.material, load, profile.frames)
    transports = [("websockets", "none"), ("websockets", "deflate")]
    if find_spec("picows"):
        transports.append(("picows", "none"))
    figures: dict[str, float] = {}

    def found(name: str, costs: tuple[float, float]) -> None:
        figures[f"stage.{name}"], figures[f"floor.{name}"] = costs

    for transport, compression in transports:
        name = transport if compression == "none" else compression
        costs = await stages_socket.socket_to_frames(
            load, material, profile.rounds, transport=transport, compression=compression
        )
        found(name, costs)
    found("record", await stages.frame_to_record(material, profile.rounds))
    found("kafka", await stages_sinks.outbox_to_kafka(bench.brokers, material, profile.rounds))
    found("redis", await stages_sinks.queue_to_redis(bench.brokers, material, profile.rounds))
    return Outcome(figures)


SCENARIOS: dict[str, Scenario] = {
    "stages": Scenario("what each stage costs, and the bare library call", _stages),
    "websockets": Scenario("highest sustained rate over websockets", capacity.websockets),
    "deflate": Scenario("the same with deflate", capacity.deflate),
    "picows": Scenario("the same over picows", capacity.picows, needs="picows"),
    "latency": Scenario("frame received to Redis subscriber and Kafka consumer", times.latency),
    "burst": Scenario("ten times the rate in the middle", times.burst),
    "memory": Scenario("memory at rest and over time", capacity.memory),
    "growth": Scenario("a thousand symbols beside three", capacity.growth),
    "pair": Scenario("two processes beside one", capacity.pair),
    "start": Scenario("from the command to the first tick", times.start),
}
