"""The scenarios of the target table, and the stages."""

import asyncio
from importlib.util import find_spec

from bridge.tools.bench import scenarios_capacity as capacity
from bridge.tools.bench import scenarios_time as times
from bridge.tools.bench import stages, stages_sinks, stages_socket
from bridge.tools.bench.scenario import Bench, Outcome, Scenario


async def _stages(bench: Bench) -> Outcome:
    """Measure the CPU time of each stage, and its floor."""
    profile, load = bench.profile, bench.load()
    material = await asyncio.to_thread(stages.material, load, profile.frames)
    transports = [("websockets", "none"), ("websockets", "deflate")]
    if find_spec("picows"):
        transports.append(("picows", "none"))
    figures: dict[str, float] = {}

    for transport, compression in transports:
        name = transport if compression == "none" else compression
        of_library = {"transport": transport, "compression": compression}
        figures[f"stage.{name}"] = await stages_socket.socket_to_frames(
            load, material, profile.rounds, **of_library
        )
        figures[f"floor.{name}"] = await stages_socket.socket_floor(
            load, material, profile.rounds, **of_library
        )
    of_sink = (bench.brokers, material, profile.rounds)
    return Outcome(
        figures
        | {
            "stage.record": await stages.frame_to_record(material, profile.rounds),
            "floor.record": await stages.record_floor(material, profile.rounds),
            "stage.kafka": await stages_sinks.outbox_to_kafka(*of_sink),
            "floor.kafka": await stages_sinks.kafka_floor(*of_sink),
            "stage.redis": await stages_sinks.queue_to_redis(*of_sink),
            "floor.redis": await stages_sinks.redis_floor(*of_sink),
        }
    )


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
