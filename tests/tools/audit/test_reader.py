"""Audits of whole topics, up to the end that was fixed, with a timeout for every wait."""

import asyncio
from collections.abc import Callable

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from bridge import settings
from bridge.brokers import kafka_consumer
from bridge.brokers.kafka_reader import Partition, TopicReader
from bridge.errors import SinkUnavailable
from bridge.tools.audit.run import audit_topic
from bridge.tools.embedded import free_port
from tests.support.audit import event, ids_in, ranges
from tests.support.audit_publishing import gap_value, publish, topic_of, trade_values
from tests.support.brokers import KafkaBroker, administration, never_answering
from tests.support.publishing import kafka_options


async def test_a_whole_topic_is_proved_and_its_offsets_are_told(options: settings.Kafka) -> None:
    await publish(options, "trade", trade_values(*range(5, 2505)))
    report = await audit_topic(options, "trade")
    assert (report.verdict, report.records, report.gap_events) == ("ok", 2500, None)
    assert report.partitions[0] == Partition(0, 0, 2500)
    (stream,) = report.symbols
    assert (stream.first_id, stream.first_offset, stream.last_id) == (5, 0, 2504)


async def test_gap_events_are_read_before_the_records_they_announce(
    options: settings.Kafka,
) -> None:
    await publish(options, "trade", trade_values(1, 2, 8, 4, 9))
    await publish(options, "gap", [gap_value(3, 5), gap_value(3, 3, "lost"), b"none"])
    report = await audit_topic(options, "trade")
    (stream,) = report.symbols
    assert (report.gap_events, stream.late) == (2, 1)
    assert ranges(stream.missing) == [(6, 7)]
    assert ids_in(stream.missing_announced) == {3, 5}
    assert [finding.what for finding in report.findings] == ["unreadable", "missing"]


async def test_partitions_are_read_side_by_side_each_in_order(options: settings.Kafka) -> None:
    for partition in range(3):
        symbol = f"S{partition}USDT"
        values = [event("trade", symbol, trade_id=i) for i in range(1500)]
        await publish(options, "trade", values, partition=partition)
    report = await audit_topic(options, "trade")
    assert {s.symbol: s.records for s in report.symbols} == dict.fromkeys(
        ("S0USDT", "S1USDT", "S2USDT"), 1500
    )
    assert {finding.what for finding in report.findings} == {"wrong_key"}


async def test_progress_goes_from_all_to_nothing_left(options: settings.Kafka) -> None:
    await publish(options, "trade", trade_values(*range(3000)))
    seen: list[tuple[int, int]] = []
    await audit_topic(options, "trade", on_progress=lambda *told: seen.append(told))
    assert seen[0][1] == 3000
    assert seen[-1][0] == 3000


async def test_what_comes_behind_the_end_is_not_read(options: settings.Kafka) -> None:
    await publish(options, "trade", trade_values(1, 2))
    async with TopicReader(options) as reader:
        bounds = await reader.bounds(topic_of(options, "trade"))
        await publish(options, "trade", trade_values(9))
        read = [
            r
            async for _, records in reader.read(topic_of(options, "trade"), bounds)
            for r in records
        ]
    assert [record.offset for record in read] == [0, 1]


async def test_a_gap_filled_while_the_audit_begins_is_no_finding(
    options: settings.Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The records that fill the gap may lie after the fixed end of the data."""
    await publish(options, "trade", trade_values(1, 3))
    await publish(options, "gap", [gap_value(2, 2)])
    await _between_the_ends(
        monkeypatch, lambda: publish(options, "gap", [gap_value(2, 2, "filled")])
    )
    report = await audit_topic(options, "trade")
    assert (report.verdict, report.gap_events) == ("ok", 2)


async def test_the_proof_begins_where_retention_has_left_the_topic(
    own_kafka: KafkaBroker, unique: str
) -> None:
    options = kafka_options(own_kafka, unique)
    await publish(options, "trade", trade_values(1, 5, *range(10, 20)))
    place = TopicPartition(topic_of(options, "trade"), 0)
    async with administration(own_kafka) as admin:
        await admin.delete_records({place: RecordsToDelete(before_offset=4)})
    report = await audit_topic(options, "trade")
    (stream,) = report.symbols
    assert (report.verdict, stream.first_id, stream.first_offset) == ("ok", 12, 4)


async def test_records_that_retention_takes_while_they_are_read_end_the_audit(
    options: settings.Kafka,
) -> None:
    await publish(options, "trade", trade_values(1, 2))
    topic = topic_of(options, "trade")
    async with TopicReader(options) as reader:
        with pytest.raises(SinkUnavailable, match="retention removed records"):
            async for _ in reader.read(topic, [Partition(0, 1_000, 2_000)]):
                pass


async def test_an_empty_topic_has_nothing_to_prove(options: settings.Kafka) -> None:
    await publish(options, "trade", [])
    report = await audit_topic(options, "trade")
    assert (report.verdict, report.records, report.symbols) == ("ok", 0, [])


async def test_an_absent_topic_is_named_and_not_created(options: settings.Kafka) -> None:
    for _ in range(2):
        with pytest.raises(SinkUnavailable, match=r"no topic \S+\.agg_trade"):
            await audit_topic(options, "agg_trade")


async def test_an_absent_broker_is_named() -> None:
    options = settings.Kafka(bootstrap_servers=[f"localhost:{free_port()}"])
    with pytest.raises(SinkUnavailable, match=r"localhost:\d+ cannot be reached"):
        await audit_topic(options, "trade")


async def test_a_broker_that_never_answers_is_given_up() -> None:
    async with never_answering() as address:
        options = settings.Kafka(bootstrap_servers=[address], request_timeout_ms=200)
        with pytest.raises(SinkUnavailable, match=address):
            await audit_topic(options, "trade")


async def test_a_cluster_that_freezes_during_the_audit_ends_it(
    own_kafka: KafkaBroker, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_consumer, "STOP_TIMEOUT_S", 0.5)
    options = kafka_options(own_kafka, unique)
    await publish(options, "trade", trade_values(1, 2))
    options = options.model_copy(update={"request_timeout_ms": 5000})
    await _between_the_ends(monkeypatch, lambda: asyncio.to_thread(own_kafka.pause))
    try:
        with pytest.raises(SinkUnavailable, match="does not answer within 5 s"):
            await audit_topic(options, "trade")
    finally:
        await asyncio.to_thread(own_kafka.unpause)


async def _between_the_ends(monkeypatch: pytest.MonkeyPatch, act: "Callable[[], object]") -> None:
    """Run `act` right after the end of the data has been fixed."""
    bounds = TopicReader.bounds

    async def and_then(self: TopicReader, topic: str) -> list[Partition]:
        taken = await bounds(self, topic)
        if topic.endswith(".trade"):
            await act()  # type: ignore[misc]
        return taken

    monkeypatch.setattr(TopicReader, "bounds", and_then)
