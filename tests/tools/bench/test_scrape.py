"""Samples, read from the metrics that a bridge exposes."""

from bridge.monitoring.metrics import exposition
from bridge.monitoring.status import Status
from bridge.tools.bench.scrape import Sample, read_metrics, together


async def test_what_the_bridge_exposes_is_what_a_sample_holds() -> None:
    status = Status(["quote"])
    kafka, redis = status.sinks
    kafka.counts.published["quote"], redis.counts.published["quote"] = 3, 2
    status.counts.received["quote"] = 3
    status.counts.reconnects["closed"] = 1
    redis.counts.dropped["quote", "queue_full"] = 1
    kafka.counts.latency.observe(0.25, 4)
    kafka.counts.sent_bytes, redis.counts.sent_bytes = 100, 300

    sample = read_metrics((await exposition(status)).decode(), 7)

    assert (sample.at_us, sample.received, sample.published) == (7, 3, 2)
    assert (sample.kafka_published, sample.redis_published, sample.dropped) == (3, 2, 1)
    assert (sample.reconnects, sample.acknowledged, sample.acknowledged_s) == (1, 4, 1.0)
    assert (sample.kafka_sent_bytes, sample.redis_sent_bytes) == (100, 300)
    assert sample.cpu_s > 0
    assert sample.resident_bytes > 2**20


def test_several_bridges_add_up() -> None:
    found = together([Sample(5, received=1.0, cpu_s=2.0), Sample(6, received=10.0, cpu_s=20.0)])
    assert (found.at_us, found.received, found.cpu_s) == (5, 11, 22)


def test_the_metrics_of_the_peer_make_a_sample_too() -> None:
    text = """\
# TYPE input_received counter
input_received{label="",path="root.input"} 9
# TYPE output_sent counter
output_sent{label="",path="root.output.broker.outputs.0"} 7
output_sent{label="",path="root.output.broker.outputs.1"} 8
output_sent{label="",path="root.output.broker.outputs.2"} 6
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 0.5
"""
    sample = read_metrics(text, 1)
    assert (sample.received, sample.published, sample.cpu_s) == (9, 7, 0.5)
