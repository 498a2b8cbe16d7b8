"""The report of `/status`; its accounts add up."""

import json
from unittest.mock import Mock

import msgspec
import pytest
from jsonschema import Draft202012Validator

from bridge.binance.connector import State
from bridge.monitoring.recent import latency
from bridge.monitoring.report import ConnectorReport
from bridge.monitoring.reporter import report
from bridge.settings import Cluster
from bridge.sinks.kafka.owner import this_bridge
from bridge.telemetry import Account, now_us
from bridge.tools import schemas
from tests.support.exchange import trade
from tests.support.running_server import Running


def feed(running: Running, *ids: int) -> None:
    running.connection.on_frames([trade(identity).encode() for identity in ids], now_us())


async def test_a_bridge_that_has_just_begun_says_what_it_waits_for() -> None:
    found = report(Running().status)
    assert found.unready
    assert (found.connectors, found.streams, found.positions) == ([], [], [])
    assert [sink.accounts for sink in found.sinks] == [{}, {}]


@pytest.mark.parametrize(
    ("is_owner", "is_watching", "expected"),
    [
        (False, False, ("starting", None, None)),
        (True, False, ("owner", "us", "other")),
        (False, True, ("standby", "owner", "us")),
    ],
)
async def test_each_shard_says_who_owns_it_and_who_stands_by(
    is_owner: bool,  # noqa: FBT001
    is_watching: bool,  # noqa: FBT001
    expected: tuple[str, str | None, str | None],
) -> None:
    running = Running()
    running.status.cluster = Cluster(instance_id="us")
    shard = running.shard
    shard.role.other = "other"
    if is_owner:
        shard.publishes.set()
    if is_watching:
        shard.owner_watch = Mock(owner=this_bridge(Cluster(instance_id="owner")))
    found = report(running.status)
    (told,) = found.shards
    assert found.bridge == "us"
    assert (told.name, told.role, told.owner, told.standby) == ("1-of-1", *expected)


async def test_each_connector_and_stream_is_told() -> None:
    running = Running()
    running.flow()
    feed(running, 1)
    found = report(running.status)
    assert found.unready == []
    (connector,) = found.connectors
    assert connector == ConnectorReport(
        "connector-1", State.OPEN.value, connector.age_s, 2, 1, events=2, duplicates=1
    )
    heard, unheard = found.streams
    assert (heard.name, unheard.name) == ("btcusdt@trade", "ethusdt@trade")
    assert heard.silence_s is not None
    assert unheard.silence_s is None


async def test_a_stream_behind_a_hole_says_how_far_it_is_and_what_waits() -> None:
    running = Running()
    running.flow()
    feed(running, 2, 5, 6)
    (position,) = report(running.status).positions
    assert (position.message_type, position.symbol) == ("trade", "BTCUSDT")
    assert (position.last_id, position.held, position.open_gaps) == (2, 2, [])


async def test_what_was_given_up_and_may_yet_be_filled_is_told() -> None:
    running = Running()
    running.flow()
    feed(running, 3)
    (_, sequencer), *_ = running.sequencers.named()
    running.pipeline.publish(sequencer.give_up("patience"))  # type: ignore[attr-defined]
    found = report(running.status)
    (gap,) = found.positions[0].open_gaps
    assert (gap.first_id, gap.last_id, gap.state) == (2, 2, "open")
    assert found.gaps == {"open": 1}


async def test_the_accounts_of_each_sink_add_up() -> None:
    running = Running()
    running.flow()
    feed(running, *range(2, 10))
    (queue,) = running.kafka.outbox.idle()
    running.kafka.outbox.drop(queue, 2, "outbox_full")
    queue.in_flight = 3
    running.kafka.outbox.acknowledge(queue)
    kafka, redis = report(running.status).sinks
    assert kafka.accounts == {"trade": Account(received=9, published=3, dropped=2, pending=4)}
    assert redis.accounts == {"trade": Account(received=9, published=0, dropped=0, pending=9)}
    assert kafka.dropped["outbox_full"] == 2
    assert (kafka.buffer_share, redis.buffer_share) == (
        running.kafka.pending_bytes() / running.kafka.outbox.max_bytes,
        9 / 50_000,
    )


async def test_rates_and_latencies_are_those_of_the_last_seconds() -> None:
    running = Running()
    running.flow()
    running.status.recent.keep(1.0)
    assert report(running.status).events_per_s == {"trade": 1.0}
    feed(running, 2, 3, 4, 5)
    (queue,) = running.kafka.outbox.idle()
    queue.in_flight = 4
    running.kafka.outbox.acknowledge(queue)
    running.kafka.counts.latency.observe(0.02)
    running.status.recent.keep(2.0)
    found = report(running.status)
    assert found.events_per_s == {"trade": 2.5}
    assert found.exchange_latency.p50_s is not None
    kafka, redis = found.sinks
    assert (kafka.published_per_s, redis.published_per_s) == (2.0, 0.0)
    assert 0.01 < (kafka.latency.p99_s or 0.0) <= 0.025
    assert redis.latency.p99_s is None
    for second in range(3, 8):
        running.status.recent.keep(float(second))
    found = report(running.status)
    assert found.events_per_s == {"trade": 0.0}
    assert (found.exchange_latency.p50_s, found.sinks[0].latency.p50_s) == (None, None)


async def test_a_report_is_valid_by_its_schema() -> None:
    running = Running()
    running.flow()
    feed(running, 2, 5)
    validator = Draft202012Validator(schemas.status_schema())
    for found in (report(Running().status), report(running.status)):
        validator.validate(json.loads(msgspec.json.encode(found)))
    assert not validator.is_valid({"version": "1"})


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([0, 0, 0], (None, None, None)),
        ([100, 0, 0], (0.005, 0.009, 0.0099)),
        ([50, 50, 0], (0.01, 0.018, 0.0198)),
        ([0, 0, 7], (0.02, 0.02, 0.02)),
    ],
)
def test_a_percentile_lies_between_the_bounds_of_its_bucket(
    counts: list[int], expected: tuple[float | None, ...]
) -> None:
    found = latency((0.01, 0.02), counts)
    assert (found.p50_s, found.p90_s, found.p99_s) == pytest.approx(expected)
