"""The scenarios of the target table, and the stages."""

from bridge.tools.bench import scenarios_capacity as capacity
from bridge.tools.bench import scenarios_time as times
from bridge.tools.bench.scenario import Scenario
from bridge.tools.bench.scenarios_stages import measure_stages

SCENARIOS: dict[str, Scenario] = {
    "stages": Scenario("CPU time of each stage and of the bare library call", measure_stages),
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
