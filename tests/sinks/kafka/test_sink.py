"""The Kafka sink against a real broker."""

import asyncio
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from aiokafka import ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from msgspec.structs import replace

from bridge import settings
from bridge.settings import Cluster, load_settings
from bridge.sinks.kafka import batch_sender
from bridge.sinks.kafka import sink as kafka_sink
from bridge.sinks.kafka.owner import this_bridge
from bridge.sinks.kafka.sink import KafkaSink
from bridge.sinks.outbox.chunk_store import ChunkStore
from bridge.sinks.outbox.spilling_outbox import SpillingOutbox
from bridge.telemetry import now_us
from bridge.tools.embedded import LOOPBACK, free_port
from tests.support.brokers import Choice, Kafka, KafkaBroker, administration, read_topic
from tests.support.journal import Journal
from tests.support.receiving import STREAMS, Receiving
from tests.support.sinks import Feeder, at_work, trade, trades
from tests.support.spilling import SMALLEST_BYTES

pytestmark = [pytest.mark.asyncio(loop_factories=["real"]), pytest.mark.timeout(90)]

NOW_US = 1_700_000_000_000_000
SHORT = {"request_timeout_ms": 1500, "delivery_timeout_s": 2}


def options_for(bootstrap_servers: str, **options: Any) -> settings.Kafka:
    kafka = {"bootstrap_servers": bootstrap_servers} | options
    overrides = {"binance": {"symbols": ["BTCUSDT"]}, "kafka": kafka}
    return load_settings(environment={}, overrides=overrides).kafka


def sink_for(
    bootstrap_servers: str,
    venue: str,
    *kinds: str,
    **options: Any,
) -> KafkaSink:
    """Return a sink with topics for these kinds (default: trades) and for gap and invalid events.
    The options may include `store` and `cluster`.
    """
    store, cluster = options.pop("store", None), options.pop("cluster", Cluster())
    topics = [f"{venue}.{kind}" for kind in {*(kinds or ("trade",)), "gap", "invalid"}]
    kafka = options_for(bootstrap_servers, **options)
    return KafkaSink(kafka, topics, venue, store, cluster)


def ids(records: Iterable[ConsumerRecord], symbol: str = "BTCUSDT") -> list[int]:
    """Return the trade ids of one symbol in the order of the topic."""
    key = symbol.encode()
    return [json.loads(record.value)["trade_id"] for record in records if record.key == key]


async def configured(admin: AIOKafkaAdminClient, name: str) -> tuple[int, str, str]:
    """Return the number of partitions, the retention and the cleanup policy of a topic."""
    (topic,) = await admin.describe_topics([name])
    configs = await configs_of(admin, name)
    return len(topic["partitions"]), configs["retention.ms"], configs["cleanup.policy"]


async def configs_of(admin: AIOKafkaAdminClient, topic: str) -> dict[str, str]:
    """Return the configuration of a topic."""
    resource = ConfigResource(ConfigResourceType.TOPIC, topic)
    (answer,) = await admin.describe_configs([resource])
    return {key: value for key, value, *_ in answer.resources[0][4]}


async def configure(admin: AIOKafkaAdminClient, topic: str, name: str, value: str) -> None:
    """Set a configuration of a topic, and wait until the broker has it: it answers before."""
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {name: value})])
    while (await configs_of(admin, topic))[name] != value:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def test_topics_are_created_as_the_settings_say(
    brokers: Choice, kafka: Kafka, unique: str
) -> None:
    if brokers.kind == "embedded":
        pytest.skip(f"needs a Kafka that creates topics; {brokers}")
    sink = sink_for(kafka.bootstrap_servers, unique, partitions=3, retention_ms=7_200_000)
    feeder = Feeder(sink)
    async with at_work(sink), administration(kafka) as admin:
        feeder.push(*trades(unique, [1]))
        await sink.drained()
        assert await configured(admin, f"{unique}.trade") == (3, "7200000", "delete")
        for name in ("position", "status"):
            partitions, _, policy = await configured(admin, f"{unique}.{name}")
            assert (partitions, policy) == (1, "compact")


async def test_a_record_holds_the_event_the_symbol_and_the_exchanges_time(
    kafka: Kafka, unique: str
) -> None:
    sink = sink_for(kafka.bootstrap_servers, unique)
    event = trade(unique, 123, "币安人生USDT")
    async with at_work(sink):
        Feeder(sink).push(event)
        await sink.drained()
    (record,) = await read_topic(kafka.bootstrap_servers, f"{unique}.trade", 1)
    assert record.key == "币安人生USDT".encode()
    assert record.timestamp == (event.timestamp or 0) // 1000
    value = json.loads(record.value)
    assert value["message_type"] == "trade"
    assert (value["symbol"], value["trade_id"]) == ("币安人生USDT", 123)
    assert (value["timestamp"], value["received"]) == (event.timestamp, event.received)


async def test_a_time_far_ahead_that_kafka_would_refuse_with_its_batch_is_that_of_the_arrival(
    kafka: Kafka, unique: str
) -> None:
    sink = sink_for(kafka.bootstrap_servers, unique)
    events = trades(unique, range(3))
    events[1] = replace(events[1], timestamp=2**63 - 1)
    async with at_work(sink):
        Feeder(sink).push(*events)
        await sink.drained()
    records = await read_topic(kafka.bootstrap_servers, f"{unique}.trade", 3)
    assert records[1].timestamp == events[1].received // 1000
    assert json.loads(records[1].value)["timestamp"] == 2**63 - 1
    assert ids(records) == [0, 1, 2]


@pytest.mark.parametrize(
    ("limit", "clock_ahead_s", "expected_s"),
    [("before", 0, [0, 0, -30]), ("after", 7200, [None, None, None])],
    ids=["an old event", "our clock ahead"],
)
async def test_a_time_that_the_topic_refuses_is_replaced(  # noqa: PLR0917
    brokers: Choice,
    kafka: Kafka,
    unique: str,
    monkeypatch: pytest.MonkeyPatch,
    journal: Journal,
    limit: str,
    clock_ahead_s: int,
    expected_s: list[int | None],
) -> None:
    """Expected are the times of the records, in seconds from now; None for no time."""
    if brokers.kind == "embedded":
        pytest.skip(f"needs a Kafka that refuses times; {brokers}")
    topic, now = f"{unique}.trade", now_us()
    sink = sink_for(kafka.bootstrap_servers, unique)
    times = [now + (clock_ahead_s + ago_s) * 1_000_000 for ago_s in (-7200, -7200, -30)]
    monkeypatch.setattr(batch_sender, "now_us", lambda: now_us() + clock_ahead_s * 1_000_000)
    if clock_ahead_s:
        times = [now + clock_ahead_s * 1_000_000] * 3
    events = trades(unique, range(3))
    feeder = Feeder(sink)
    async with at_work(sink), administration(kafka) as admin:
        await sink.fenced()
        await configure(admin, topic, f"message.timestamp.{limit}.max.ms", "3600000")
        feeder.push(*(replace(each, timestamp=at) for each, at in zip(events, times, strict=True)))
        await sink.drained()
        feeder.check()
    records = await read_topic(kafka.bootstrap_servers, topic, 3)
    assert ids(records) == [0, 1, 2]
    found_s = [None if r.timestamp < 0 else r.timestamp / 1000 - now / 1e6 for r in records]
    assert found_s == [None if e is None else pytest.approx(e, abs=20) for e in expected_s]
    assert [json.loads(r.value)["timestamp"] for r in records] == times
    assert "message.timestamp" in journal.named("kafka_partition_unavailable")[0]["error"]
    assert journal.named("kafka_unavailable") == []


async def test_each_symbol_lies_in_order_in_one_partition(kafka: Kafka, unique: str) -> None:
    sink = sink_for(kafka.bootstrap_servers, unique)
    feeder = Feeder(sink)
    symbols = [f"S{number}USDT" for number in range(20)]
    async with at_work(sink):
        for start in range(0, 300, 50):
            for symbol in symbols:
                feeder.push(*trades(unique, range(start, start + 50), symbol))
            await asyncio.sleep(0)
        await sink.drained()
        feeder.check()
    records = await read_topic(kafka.bootstrap_servers, f"{unique}.trade", 6000)
    assert len(records) == 6000
    for symbol in symbols:
        assert ids(records, symbol) == list(range(300))
        assert len({r.partition for r in records if r.key == symbol.encode()}) == 1
    assert sink.counts.published == {"trade": 6000}
    assert sum(sink.counts.latency.counts) == 6000


@pytest.mark.parametrize("compression", ["none", "gzip", "lz4", "zstd", "snappy"])
async def test_batches_are_readable_under_every_compression(
    compression: str, kafka: Kafka, unique: str
) -> None:
    sink = sink_for(kafka.bootstrap_servers, unique, compression=compression)
    async with at_work(sink):
        Feeder(sink).push(*trades(unique, range(200)))
        await sink.drained()
    records = await read_topic(kafka.bootstrap_servers, f"{unique}.trade", 200)
    assert ids(records) == list(range(200))
    values = sum(len(record.value or b"") for record in records)
    is_smaller = sink.counts.sent_bytes < values
    assert is_smaller == (compression != "none")


async def test_a_record_too_large_is_dropped_and_blocks_nothing(
    kafka: Kafka, unique: str, journal: Journal
) -> None:
    sink = sink_for(kafka.bootstrap_servers, unique)
    feeder = Feeder(sink)
    too_large = trade(unique, 2, price="1" * 2**20)
    async with at_work(sink):
        feeder.push(trade(unique, 1), too_large, trade(unique, 3), too_large)
        await sink.drained()
        feeder.check()
    assert sink.counts.dropped == {("trade", "too_large"): 2}
    assert ids(await read_topic(kafka.bootstrap_servers, f"{unique}.trade", 2)) == [1, 3]
    assert journal.named("kafka_unavailable") == []


async def test_batches_larger_than_the_topic_accepts_are_sent_in_halves_by_the_same_producer(
    brokers: Choice, kafka: Kafka, unique: str, journal: Journal
) -> None:
    if brokers.kind == "embedded":
        pytest.skip(f"needs a Kafka that bounds batches; {brokers}")
    topic, symbols = f"{unique}.trade", ("BTCUSDT", "ETHUSDT")
    sink = sink_for(kafka.bootstrap_servers, unique, compression="none")
    feeder = Feeder(sink)
    async with at_work(sink), administration(kafka) as admin:
        await sink.fenced()
        await configure(admin, topic, "max.message.bytes", "4000")
        feeder.push(*(event for each in symbols for event in trades(unique, range(500), each)))
        await sink.drained()
        feeder.check()
    records = await read_topic(kafka.bootstrap_servers, topic, 1_000)
    for symbol in symbols:
        assert ids(records, symbol) == list(range(500))
    refused = sink.counts.failures["batch_too_large"]
    assert 2 <= refused < 40
    assert len(journal.named("kafka_batch_too_large")) == refused.bit_length()
    assert journal.named("kafka_unavailable") == []
    assert journal.named("kafka_producer_id_discarded") == []


async def test_only_too_large_records_leave_nothing_to_wait_for(kafka: Kafka, unique: str) -> None:
    sink = sink_for(kafka.bootstrap_servers, unique)
    feeder = Feeder(sink)
    async with at_work(sink), asyncio.timeout(10):
        feeder.push(trade(unique, 1, price="1" * 2**20))
        await sink.drained()
    feeder.check()
    assert sink.counts.dropped == {("trade", "too_large"): 1}


async def test_a_missing_topic_that_may_not_be_created_is_named(
    brokers: Choice, kafka: Kafka, unique: str, journal: Journal
) -> None:
    if brokers.kind == "embedded":
        pytest.skip(f"needs a Kafka that creates no topics by itself; {brokers}")
    sink = sink_for(kafka.bootstrap_servers, unique, create_topics=False, **SHORT)
    async with at_work(sink):
        (entry,) = await journal.until("kafka_unavailable")
    assert f"{unique}.trade" in entry["error"]
    assert "kafka.create_topics" in entry["error"]


async def test_what_comes_while_kafka_is_absent_waits_and_the_oldest_goes_when_full(
    unique: str, journal: Journal
) -> None:
    sink = sink_for(f"{LOOPBACK}:{free_port()}", unique, outbox_max_bytes=2**20, **SHORT)
    feeder = Feeder(sink)
    async with at_work(sink):
        for start in range(0, 6000, 100):
            feeder.push(*trades(unique, range(start, start + 100)))
        await journal.until("kafka_unavailable", 2)
        assert not sink.ready
        feeder.check()
        assert sink.outbox.bytes <= sink.outbox.max_bytes
        dropped = sink.counts.dropped["trade", "outbox_full"]
        assert dropped > 0
        (queue,) = sink.outbox.idle()
        waiting = [json.loads(record.value)["trade_id"] for record in queue.records]
        assert waiting == list(range(dropped, 6000))


async def test_a_connected_kafka_that_lets_the_same_events_wait_is_reported_once(
    monkeypatch: pytest.MonkeyPatch, journal: Journal
) -> None:
    monkeypatch.setattr(kafka_sink, "PENDING_MAX_S", 0.0)
    sink = sink_for("127.0.0.1:1", "venue")
    sink._session = Mock()
    feeder = Feeder(sink)
    feeder.push(*trades("venue", range(3)))
    for reports in (0, 1, 1):
        sink._warn_if_slow()
        assert len(journal.named("kafka_slow")) == reports
    (report,) = journal.named("kafka_slow")
    assert (report["topics"], report["waiting"]) == (["venue.trade"], 3)
    for number in range(3, 6):  # new events each time: Kafka takes them
        (queue,) = sink.outbox.idle()
        sink.outbox.drop(queue, len(queue.records), "outbox_full")
        feeder.push(*trades("venue", [number]))
        sink._warn_if_slow()
    sink._warn_if_slow()
    assert len(journal.named("kafka_slow")) == 2


async def test_a_stop_while_connecting_leaves_nothing_behind(unique: str) -> None:
    """An unclosed producer warns, and here a warning is an error."""

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    stalling = await asyncio.start_server(stall, LOOPBACK, 0)
    async with stalling:
        port = stalling.sockets[0].getsockname()[1]
        sink = sink_for(f"{LOOPBACK}:{port}", unique)
        async with at_work(sink):
            await asyncio.sleep(0.1)
    assert left_over() == []


@pytest.mark.faults
async def test_outages_lose_nothing_repeat_nothing_and_keep_the_order(
    own_kafka: KafkaBroker, unique: str, journal: Journal
) -> None:
    """One broker is absent at the start, then frozen, then killed. Each start takes seconds."""
    await asyncio.to_thread(own_kafka.kill)
    sink = sink_for(own_kafka.bootstrap_servers, unique, **SHORT)
    feeder = Feeder(sink)
    symbols = ["BTCUSDT", "ETHUSDT", "BNBUSDT"]

    def push(start: int) -> None:
        for symbol in symbols:
            feeder.push(*trades(unique, range(start, start + 500), symbol))

    async with at_work(sink):
        push(0)
        await journal.until("kafka_unavailable")
        await asyncio.to_thread(own_kafka.start)
        await sink.drained()
        feeder.check()
        assert sink.ready

        failures = len(journal.named("kafka_unavailable"))
        await asyncio.to_thread(own_kafka.pause)
        push(500)
        await journal.until("kafka_unavailable", failures + 1)
        push(1000)
        feeder.check()
        assert sink.pending() == {"trade": 3000}
        await asyncio.to_thread(own_kafka.unpause)
        await sink.drained()
        feeder.check()

        failures = len(journal.named("kafka_unavailable"))
        await asyncio.to_thread(own_kafka.kill)
        push(1500)
        await journal.until("kafka_unavailable", failures + 1)
        await asyncio.to_thread(own_kafka.start)
        await sink.drained()
        feeder.check()
    assert left_over() == []
    assert sink.counts.dropped == {}
    assert sink.counts.published == {"trade": 6000}
    records = await read_topic(own_kafka.bootstrap_servers, f"{unique}.trade", 6000)
    for symbol in symbols:
        assert ids(records, symbol) == list(range(2000))


def left_over() -> list[str]:
    """Return the tasks that run besides the task of the test."""
    return [str(task) for task in asyncio.all_tasks() if task is not asyncio.current_task()]


def heartbeat(sink: KafkaSink, reception: Receiving) -> tuple[str, int, float]:
    """Return what a heartbeat says of the streams: which, whole since when, and how late."""
    owner = sink._describe(this_bridge(Cluster()), reception, NOW_US)
    return owner.streams, owner.whole_since, owner.lag_s


async def test_a_heartbeat_says_since_when_nothing_was_missed_and_how_late_kafka_gets_it() -> None:
    sink = sink_for(f"{LOOPBACK}:{free_port()}", "unused")
    assert heartbeat(sink, Receiving(whole_since=7, lag_s=1.5)) == (STREAMS, 7, 1.5)
    assert heartbeat(sink, Receiving(whole_since=7, lag_s=math.inf)) == (STREAMS, 0, 0.0)
    Feeder(sink).push(replace(trade("unused", 1), received=NOW_US - 2_000_000))
    assert heartbeat(sink, Receiving(whole_since=7, lag_s=1.5)) == (STREAMS, 7, 2.0)
    sink.outbox.drop(sink.outbox.idle()[0], 1, "outbox_full")
    assert heartbeat(sink, Receiving(whole_since=7)) == (STREAMS, 0, 0.0)


async def test_a_heartbeat_does_not_say_so_while_records_are_on_disk(tmp_path: Path) -> None:
    sink = sink_for(
        f"{LOOPBACK}:{free_port()}", "unused", store=ChunkStore(tmp_path, SMALLEST_BYTES)
    )
    assert heartbeat(sink, Receiving(whole_since=7)) == (STREAMS, 7, 0.0)
    Feeder(sink).push(trade("unused", 1))
    assert isinstance(sink.outbox, SpillingOutbox)
    sink.outbox.spill()
    assert heartbeat(sink, Receiving(whole_since=7)) == (STREAMS, 0, 0.0)
    sink.close()
