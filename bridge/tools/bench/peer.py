"""Benthos does a part of the same work, to compare with: it reads the same streams, renames the
fields, and writes to the same Kafka and the same Redis.

It is a general tool for streams, written in Go: the nearest one that can be configured to do this.
It has no order, no repair, and no guard of the latest values. Its batches are like ours; everything
else is its default.
"""

from collections.abc import Mapping
from shutil import which

PROGRAM = "benthos"
READY_PATH = "/ready"
KIND = '${! meta("kind") }'

_EVENT = """\
let d = this.data
meta symbol = $d.s
meta kind = if this.stream.has_suffix("@trade") { "trade" } else { "quote" }
let common = {
  "message_type": meta("kind"), "venue": "binance.spot", "symbol": $d.s, "source": "websocket",
  "received": timestamp_unix_micro(), "timestamp": $d.T | null
}
root = if meta("kind") == "trade" {
  $common.assign({"trade_id": $d.t, "price": $d.p, "volume": $d.q,
    "side": if $d.m { "sell" } else { "buy" }})
} else {
  $common.assign({"update_id": $d.u, "bid_price": $d.b, "bid_volume": $d.B,
    "ask_price": $d.a, "ask_volume": $d.A})
}
"""
# The fields of a sample by the paths of its outputs. It counts a message of `redis_pubsub`, not its
# latest value.
PUBLISHED = {
    "root.output.broker.outputs.0": "kafka_published",
    "root.output.broker.outputs.1": "redis_published",
}
_BATCHING = {"count": 500, "period": "5ms"}


def is_there() -> bool:
    """Return whether the program is on PATH."""
    return which(PROGRAM) is not None


def settings(url: str, kafka: str, redis: str, topic: str, port: int) -> Mapping[str, object]:
    """Return its settings. `topic` has KIND in the place of the message type."""
    outputs = [
        {
            "kafka_franz": {
                "seed_brokers": [kafka],
                "topic": topic,
                "key": '${! meta("symbol") }',
                "compression": "zstd",
                "batching": _BATCHING,
            }
        },
        {
            "redis_pubsub": {
                "url": redis,
                "channel": f'binance.spot.{KIND}:${{! meta("symbol") }}',
                "batching": _BATCHING,
            }
        },
        {
            "redis_hash": {
                "url": redis,
                "key": 'binance.spot.latest:${! meta("symbol") }',
                "fields": {
                    "price": '${! json("price").or(json("bid_price")) }',
                    "time": '${! json("received") }',
                },
            }
        },
    ]
    return {
        "http": {"address": f"127.0.0.1:{port}"},
        "logger": {"level": "ERROR"},
        "metrics": {"prometheus": {"add_process_metrics": True}},
        "input": {"websocket": {"url": url}},
        "pipeline": {"threads": 1, "processors": [{"mapping": _EVENT}]},
        "output": {"broker": {"pattern": "fan_out", "outputs": outputs}},
    }
