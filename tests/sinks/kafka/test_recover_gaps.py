"""Gaps that a process has left open, read from real topics and repaired."""

import asyncio

import pytest

from bridge.core.sequencing.position import Position, StreamKey
from bridge.pipeline.gap_repair import Repairer
from bridge.settings import Repair
from bridge.sinks.kafka import recover_gaps
from bridge.sinks.kafka.recover_gaps import read_open_gaps
from bridge.sinks.kafka.recover_positions import read_start
from tests.sinks.kafka.test_loss_events import History, events
from tests.sinks.kafka.test_sink import options_for, sink_for
from tests.support.brokers import Kafka
from tests.support.sinks import Feeder, at_work, gap, trades

pytestmark = [pytest.mark.asyncio(loop_factories=["real"]), pytest.mark.timeout(60)]


async def leave_open(kafka: Kafka, venue: str) -> None:
    """Publish an open gap from 10 to 19 with some of its trades, like a process that was killed."""
    sink = sink_for(kafka.bootstrap_servers, venue, "trade", "gap")
    feeder = Feeder(sink)
    async with at_work(sink):
        feeder.push(*trades(venue, range(10)), gap(venue, 10, 19), *trades(venue, range(20, 40)))
        feeder.push(gap(venue, 30, 35, "lost"), *trades(venue, range(10, 14)))
        await sink.drained()


@pytest.mark.usefixtures("real_kafka")
async def test_the_next_process_brings_what_is_left_and_closes_the_gap(
    kafka: Kafka, unique: str
) -> None:
    await leave_open(kafka, unique)
    options = options_for(kafka.bootstrap_servers)
    positions = await read_start(options, unique, ["trade"])
    gaps = await read_open_gaps(options, unique, positions)
    assert len(gaps) == 1

    sink = sink_for(kafka.bootstrap_servers, unique, "trade", "gap")
    sink.resume(positions.values())
    repairer = Repairer(
        Repair(), History(unique), sink.publish, given_up=sink.given_up, has_room=sink.has_room
    )
    sink.reopen(gaps)
    sink.watch_losses(repairer.notice)
    async with at_work(sink), asyncio.timeout(30):
        repairing = asyncio.create_task(repairer.run())
        told = await events(kafka, f"{unique}.gap", 4)
        repairing.cancel()
    assert [(row["first_id"], row["last_id"], row["state"]) for row in told[2:]] == [
        (10, 13, "filled"),
        (14, 19, "filled"),
    ]
    found = await events(kafka, f"{unique}.trade", 40)
    assert [row["trade_id"] for row in found] == [
        *range(10),
        *range(20, 40),
        *range(10, 14),
        *range(14, 20),
    ]


@pytest.mark.usefixtures("real_kafka")
async def test_what_would_take_too_long_to_look_for_stays_open(
    kafka: Kafka, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await leave_open(kafka, unique)
    monkeypatch.setattr(recover_gaps, "MAX_RECORDS", 20)
    positions = {StreamKey("trade", "BTCUSDT"): Position("trade", "BTCUSDT", 39, 0, 0, 0)}
    gaps = await read_open_gaps(options_for(kafka.bootstrap_servers), unique, positions)
    assert (gaps.filled(), gaps.left()) == ([], [])


async def test_without_a_gap_topic_nothing_is_open(kafka: Kafka, unique: str) -> None:
    gaps = await read_open_gaps(options_for(kafka.bootstrap_servers), unique, {})
    assert not gaps
