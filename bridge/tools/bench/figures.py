"""All figures: title, unit, whether more or less is better, and target.

The targets apply to real frames, acks=all and an idempotent producer, and to a machine on which
everything shares two cores as fast as `machine.REFERENCE_US`.
"""

from typing import Literal, NamedTuple

Better = Literal["more", "less"]


class Meaning(NamedTuple):
    """The meaning of a figure. `target` is None if none was set.

    `ratios` compare the figure with other things that were measured in the same run. Each has the
    key of a figure, and the name of the other thing. A ratio without a target has no row of its
    own.
    """

    title: str
    unit: str
    better: Better
    target: float | None = None
    ratios: tuple[tuple[str, str], ...] = ()


_RATE = "highest sustained rate"
_CPU = "CPU time per message at that rate"
_OFFERS = "rate of the generator alone"
_REDIS = "frame received → at a Redis subscriber"
_KAFKA = "frame received → at a Kafka consumer"
_OVERLOAD = "twice the highest rate offered"
_MARKET = "1,500 symbols, a recorded minute ten times as fast"
_BARE = "the bare calls"
_PEER = "Benthos"
PERCENTILES = {"p50": "p50", "p99": "p99", "p999": "p99.9"}


def _latency(key: str, title: str, **targets: float) -> dict[str, Meaning]:
    """Return the percentiles of a latency. Those with targets are compared with the bare calls."""
    return {
        f"{key}.{share}": Meaning(
            f"{title}: {label}",
            "ms",
            "less",
            targets.get(share),
            ((f"{key}.{share}_ratio", _BARE),) if targets else (),
        )
        for share, label in PERCENTILES.items()
    }


FIGURES: dict[str, Meaning] = {
    "websockets.rate": Meaning(
        f"websockets: {_RATE}", "msg/s", "more", 110_000, (("peer.rate_ratio", _PEER),)
    ),
    "websockets.cpu": Meaning(
        f"websockets: {_CPU}",
        "µs",
        "less",
        8.5,
        (("websockets.bare_ratio", _BARE), ("peer.cpu_ratio", _PEER)),
    ),
    "websockets.offers": Meaning(f"websockets: {_OFFERS}", "msg/s", "more"),
    "peer.rate_ratio": Meaning("that rate compared with Benthos", "x", "more", 5),
    "peer.cpu_ratio": Meaning("that CPU time compared with Benthos", "x", "less", 0.125),
    "peer.rate": Meaning("Benthos: highest rate, sustained or not", "msg/s", "more"),
    "peer.cpu": Meaning(f"Benthos: {_CPU}", "µs", "less"),
    "overload.ratio": Meaning(f"{_OVERLOAD}: rate compared with the highest", "x", "more", 0.9),
    "overload.age": Meaning(
        f"{_OVERLOAD}: greatest age of a latest price in Redis",
        "ms",
        "less",
        100,
    ),
    "overload.age_p50": Meaning(
        f"{_OVERLOAD}: median age of a latest price in Redis", "ms", "less"
    ),
    "overload.dropped": Meaning(f"{_OVERLOAD}: events that a sink dropped", "events", "less", 0),
    "deflate.rate": Meaning(f"websockets, deflate: {_RATE}", "msg/s", "more", 60_000),
    "deflate.cpu": Meaning(
        f"websockets, deflate: {_CPU}", "µs", "less", 14, (("deflate.bare_ratio", _BARE),)
    ),
    "deflate.offers": Meaning(f"websockets, deflate: {_OFFERS}", "msg/s", "more"),
    "picows.rate": Meaning(f"picows: {_RATE}", "msg/s", "more", 170_000),
    "picows.cpu": Meaning(f"picows: {_CPU}", "µs", "less", 5.5, (("picows.bare_ratio", _BARE),)),
    "picows.offers": Meaning(f"picows: {_OFFERS}", "msg/s", "more"),
    # Only a compiled language comes closer to the floor.
    "record.floor_ratio": Meaning(
        "frame to record in the outbox, compared with its floor", "x", "less", 3
    ),
    **_latency("latency.redis", f"{_REDIS}, 5,000 msg/s", p50=0.4, p99=1.5),
    **_latency("latency.redis.high", f"{_REDIS}, 50,000 msg/s"),
    **_latency("latency.kafka", f"{_KAFKA}, 5,000 msg/s", p50=2.5, p99=7),
    **_latency("latency.kafka.high", f"{_KAFKA}, 50,000 msg/s"),
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
        "CPU time per message: 1,000 symbols compared with 3, 3 streams each", "x", "less", 1.12
    ),
    "growth.few": Meaning("CPU time per message: 3 symbols, 3 streams each", "µs", "less"),
    "growth.many": Meaning("CPU time per message: 1,000 symbols, 3 streams each", "µs", "less"),
    "market.lost": Meaning(f"{_MARKET}: events lost", "events", "less", 0),
    "market.memory": Meaning(f"{_MARKET}: greatest memory", "MiB", "less", 300),
    "market.rate": Meaning(f"{_MARKET}: mean rate", "msg/s", "more"),
    "market.lag": Meaning(f"{_MARKET}: longest lag", "s", "less"),
    "market.cpu": Meaning(f"{_MARKET}: CPU time per message", "µs", "less"),
    "viewers.cpu": Meaning(
        "50 viewers of the dashboard, 1,000 symbols, 5,000 msg/s: share of a core", "%", "less", 3
    ),
    "viewers.rate": Meaning("the same: frames of each viewer a second", "1/s", "more", 4),
    "pair.ratio": Meaning("sustained rate: two processes compared with one", "x", "more", 1.7),
    "pair.one": Meaning(f"one process, 12 symbols: {_RATE}", "msg/s", "more"),
    "pair.two": Meaning(f"two processes, each with a shard of 6 symbols: {_RATE}", "msg/s", "more"),
    "start.redis": Meaning("`tickbridge run` → first event at a Redis subscriber", "s", "less", 1),
    "start.kafka": Meaning("`tickbridge run` → first event at a Kafka consumer", "s", "less", 1),
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
# The sum of these is the cost of a message in the cost model.
MESSAGE_STAGES = ("websockets", "record", "kafka", "redis")
MARKET = "market_"
STAGES |= {
    MARKET + name: StageMeaning(f"{STAGES[name].title}, whole market", STAGES[name].floor)
    for name in MESSAGE_STAGES
}
for _name, _stage in STAGES.items():
    FIGURES[f"stage.{_name}"] = Meaning(f"stage: {_stage.title}", "µs", "less")
    FIGURES[f"floor.{_name}"] = Meaning(f"floor: {_stage.floor}", "µs", "less")
# The loads of the cost model. Its basis is the first one.
COSTS: dict[str, str] = {
    "1000": "3 symbols, 1,000 msg/s",
    "5000": "3 symbols, 5,000 msg/s",
    "50000": "3 symbols, 50,000 msg/s",
    "market": "the whole market, as recorded",
    "market10": "the whole market, ten times as fast",
}
for _name, _title in COSTS.items():
    FIGURES |= {
        f"cost.{_name}.rate": Meaning(f"{_title}: rate", "msg/s", "more"),
        f"cost.{_name}.cores": Meaning(f"{_title}: cores", "cores", "less"),
        f"cost.{_name}.memory_mib": Meaning(f"{_title}: memory", "MiB", "less"),
        f"cost.{_name}.kafka_bytes": Meaning(f"{_title}: a message to Kafka", "bytes", "less"),
        f"cost.{_name}.redis_bytes": Meaning(f"{_title}: a message to Redis", "bytes", "less"),
    }
for _name in ("websockets", "deflate", "picows"):
    FIGURES[f"{_name}.bare"] = Meaning(f"{_name}: the bare calls, a message", "µs", "less")
for _meaning in [*FIGURES.values()]:
    for _key, _other in _meaning.ratios:
        FIGURES.setdefault(
            _key, Meaning(f"{_meaning.title}, compared with {_other}", "x", _meaning.better)
        )
