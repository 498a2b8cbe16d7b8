"""All figures: title, unit, whether more or less is better, and target.

The targets come from issue 5. They apply to real frames, acks=all and an idempotent producer.
"""

from typing import Literal, NamedTuple

Better = Literal["more", "less"]


class Meaning(NamedTuple):
    """The meaning of a figure. `target` is None if none was set."""

    title: str
    unit: str
    better: Better
    target: float | None = None


_RATE = "highest sustained rate"
_CPU = "CPU time per message at that rate"
_OFFERS = "rate of the generator alone"
_REDIS = "frame received → at a Redis subscriber, 5,000 msg/s"
_KAFKA = "frame received → at a Kafka consumer, 5,000 msg/s"

FIGURES: dict[str, Meaning] = {
    "websockets.rate": Meaning(f"websockets: {_RATE}", "msg/s", "more", 100_000),
    "websockets.cpu": Meaning(f"websockets: {_CPU}", "µs", "less", 9.5),
    "websockets.offers": Meaning(f"websockets: {_OFFERS}", "msg/s", "more"),
    "deflate.rate": Meaning(f"websockets, deflate: {_RATE}", "msg/s", "more"),
    "deflate.cpu": Meaning(f"websockets, deflate: {_CPU}", "µs", "less"),
    "deflate.offers": Meaning(f"websockets, deflate: {_OFFERS}", "msg/s", "more"),
    "picows.rate": Meaning(f"picows: {_RATE}", "msg/s", "more", 150_000),
    "picows.cpu": Meaning(f"picows: {_CPU}", "µs", "less", 6.5),
    "picows.offers": Meaning(f"picows: {_OFFERS}", "msg/s", "more"),
    "stage.record": Meaning("frame to record in the outbox, in a loop", "µs", "less", 1.5),
    "latency.redis.p50": Meaning(f"{_REDIS}: p50", "ms", "less", 0.5),
    "latency.redis.p99": Meaning(f"{_REDIS}: p99", "ms", "less", 3),
    "latency.redis.p999": Meaning(f"{_REDIS}: p99.9", "ms", "less"),
    "latency.kafka.p50": Meaning(f"{_KAFKA}: p50", "ms", "less", 3),
    "latency.kafka.p99": Meaning(f"{_KAFKA}: p99", "ms", "less", 12),
    "latency.kafka.p999": Meaning(f"{_KAFKA}: p99.9", "ms", "less"),
    "latency.kafka.mean": Meaning(
        "frame received → acknowledged by Kafka, 5,000 msg/s: mean", "ms", "less"
    ),
    "burst.lost": Meaning("burst of 10 x the rate: events lost", "events", "less", 0),
    "burst.recovery": Meaning(
        "burst of 10 x the rate: time to normal latency afterwards", "s", "less", 5
    ),
    "burst.p99": Meaning("burst of 10 x the rate: p99 at Redis during the burst", "ms", "less"),
    "memory.resident": Meaning("memory at 5,000 msg/s", "MiB", "less", 120),
    "memory.growth": Meaning("memory at 50,000 msg/s: growth after warm-up", "MiB", "less", 5),
    "growth.cpu": Meaning(
        "CPU time per message: 1,000 symbols compared with 3, 3 streams each", "x", "less", 1.15
    ),
    "growth.few": Meaning("CPU time per message: 3 symbols, 3 streams each", "µs", "less"),
    "growth.many": Meaning("CPU time per message: 1,000 symbols, 3 streams each", "µs", "less"),
    "viewers.cpu": Meaning(
        "50 viewers of the dashboard, 1,000 symbols, 5,000 msg/s: share of a core", "%", "less", 3
    ),
    "viewers.rate": Meaning("the same: frames of each viewer a second", "1/s", "more", 4),
    "pair.ratio": Meaning("sustained rate: two processes compared with one", "x", "more", 1.7),
    "pair.one": Meaning(f"one process, 20 symbols: {_RATE}", "msg/s", "more"),
    "pair.two": Meaning(f"two processes, 10 symbols each: {_RATE}", "msg/s", "more"),
    "start.redis": Meaning(
        "`tickbridge run` → first event at a Redis subscriber", "s", "less", 1.5
    ),
    "start.kafka": Meaning("`tickbridge run` → first event at a Kafka consumer", "s", "less", 1.5),
}


class StageMeaning(NamedTuple):
    """One stage, and the bare library call that is the lower bound of its cost."""

    title: str
    floor: str


STAGES: dict[str, StageMeaning] = {
    "websockets": StageMeaning(
        "socket to frames, websockets", "websockets: `receive_data`, `events_received`"
    ),
    "deflate": StageMeaning(
        "socket to frames, websockets, deflate", "the same with zlib's `decompress`"
    ),
    "picows": StageMeaning("socket to frames, picows", "picows: a listener that only counts"),
    "record": StageMeaning(
        "frame to record in the outbox", "msgspec: decode the frame, encode the event"
    ),
    "kafka": StageMeaning(
        "outbox to acknowledgement", "aiokafka: `create_batch`, `append`, `send_batch`"
    ),
    "redis": StageMeaning("queue to published", "redis-py: the script call, arguments prepared"),
}
for _name, _stage in STAGES.items():
    FIGURES.setdefault(f"stage.{_name}", Meaning(f"stage: {_stage.title}", "µs", "less"))
    FIGURES[f"floor.{_name}"] = Meaning(f"floor: {_stage.floor}", "µs", "less")
