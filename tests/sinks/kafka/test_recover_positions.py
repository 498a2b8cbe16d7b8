"""The positions from which a bridge starts, read from real topics."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions, RecordsToDelete

from bridge import settings
from bridge.brokers.kafka_reader import Partition, TopicReader
from bridge.core.model.shard import WHOLE
from bridge.core.sequencing.position import StreamKey, unpublished
from bridge.errors import SinkUnavailable
from bridge.sinks.kafka import position_writer, recover_positions
from bridge.sinks.kafka.producer import discard, open_producer, open_writer
from bridge.sinks.kafka.producer_state import ProducerState
from bridge.sinks.kafka.recover_gaps import read_open_gaps
from bridge.sinks.kafka.recover_positions import read_start
from bridge.sinks.kafka.sink import KafkaSink
from bridge.tools.embedded import LOOPBACK, free_port
from tests.sinks.kafka.test_sink import options_for, sink_for
from tests.support.brokers import Kafka, administration, read_topic
from tests.support.journal import Journal
from tests.support.sinks import Feeder, agg_trade, at_work, ticker, trade, trades

pytestmark = [pytest.mark.asyncio(loop_factories=["real"]), pytest.mark.timeout(60)]

OWNER_KEY = "owner:tickbridge.{}.position"
# The last two raise UnicodeDecodeError and RecursionError.
NOT_OURS = (b"none", b'{"symbol":7}', None, b'{"symbol":"\xff"}', b'{"a":' + b"[" * 100_000)
SYMBOLS = [f"S{number}USDT" for number in range(8)]


async def publish(sink: KafkaSink, venue: str, numbers: Mapping[str, Iterable[int]]) -> None:
    """Publish trades of each symbol through a sink that stops as if it was killed."""
    feeder = Feeder(sink)
    async with at_work(sink):
        for symbol, ids in numbers.items():
            feeder.push(*trades(venue, ids, symbol))
        while len(sink.outbox):  # noqa: ASYNC110 - `drained` would write the positions
            await asyncio.sleep(0.01)


async def last_ids(options: settings.Kafka, venue: str) -> dict[str, int]:
    positions = await read_start(options, venue, ["trade", "quote"])
    assert {key.message_type for key in positions} <= {"trade"}
    return {key.symbol: position.last_id for key, position in positions.items()}


async def test_where_streams_stand_is_written_at_a_stop_and_read_at_a_start(
    kafka: Kafka, unique: str
) -> None:
    sink = sink_for(kafka.bootstrap_servers, unique, "trade", "agg_trade", "ticker", "gap")
    feeder = Feeder(sink)
    async with at_work(sink):
        feeder.push(*trades(unique, range(50)), agg_trade(unique, 14), ticker(unique, 5_000))
        await sink.drained()
        feeder.push(*trades(unique, range(50, 60)))
        await sink.drained()
        feeder.check()
    options = options_for(kafka.bootstrap_servers)
    positions = await read_start(options, unique, ["trade", "agg_trade"])
    assert {key.message_type: position.last_id for key, position in positions.items()} == {
        "trade": 59,
        "agg_trade": 7,
        "ticker": -1,
    }
    assert positions[StreamKey("ticker", "BTCUSDT")].time == 5_000
    written = await read_topic(kafka.bootstrap_servers, f"{unique}.position")
    assert [json.loads(record.value)["last_id"] for record in written if b"trade:" in record.key][
        -1
    ] == 59


async def test_positions_are_written_under_way(
    kafka: Kafka, unique: str, monkeypatch: pytest.MonkeyPatch, journal: Journal
) -> None:
    monkeypatch.setattr(position_writer, "INTERVAL_S", 0.05)
    sink = sink_for(kafka.bootstrap_servers, unique)
    monkeypatch.setattr(sink, "_beat_s", 60.0)  # no heartbeat comes before the position
    async with at_work(sink):
        await journal.until("kafka_connected")
        Feeder(sink).push(*trades(unique, range(50)))
        written = await read_topic(kafka.bootstrap_servers, f"{unique}.position", 2)
    *_, last = await read_topic(kafka.bootstrap_servers, f"{unique}.trade")
    by_key = {record.key: json.loads(record.value) for record in written}
    assert by_key.keys() == {OWNER_KEY.format(unique).encode(), b"trade:BTCUSDT"}
    position = by_key[b"trade:BTCUSDT"]
    assert (position["last_id"], position["offset"]) == (49, last.offset)


async def test_what_was_published_behind_the_positions_is_found_in_the_tails(
    kafka: Kafka, unique: str
) -> None:
    sink = sink_for(kafka.bootstrap_servers, unique)
    async with at_work(sink):
        Feeder(sink).push(*(e for s in SYMBOLS for e in trades(unique, range(10), s)))
        await sink.drained()
    busy = {symbol: range(10, 40) for symbol in SYMBOLS[::2]}
    await publish(sink_for(kafka.bootstrap_servers, unique), unique, busy)
    found = await last_ids(options_for(kafka.bootstrap_servers), unique)
    assert found == {symbol: 39 if symbol in busy else 9 for symbol in SYMBOLS}


async def test_without_positions_the_last_records_tell(kafka: Kafka, unique: str) -> None:
    sink = sink_for(kafka.bootstrap_servers, unique)
    await publish(sink, unique, {symbol: range(20) for symbol in SYMBOLS})
    found = await last_ids(options_for(kafka.bootstrap_servers), unique)
    assert found == dict.fromkeys(SYMBOLS, 19)


async def test_a_stream_of_any_kind_is_known_by_its_records_alone(
    kafka: Kafka, unique: str
) -> None:
    """Otherwise no gap event would announce the interruption of a stream that has just started."""
    sink = sink_for(kafka.bootstrap_servers, unique, "ticker")
    async with at_work(sink):
        Feeder(sink, "ticker").push(ticker(unique, 4_000), ticker(unique, 5_000))
        while len(sink.outbox):  # noqa: ASYNC110 - `drained` would write the positions
            await asyncio.sleep(0.01)
    positions = await read_start(options_for(kafka.bootstrap_servers), unique, ["ticker", "gap"])
    assert {name: (position.last_id, position.time) for name, position in positions.items()} == {
        StreamKey("ticker", "BTCUSDT"): (-1, 5_000)
    }


async def test_a_stream_that_stays_quiet_after_a_start_is_known_at_the_next(
    kafka: Kafka, unique: str
) -> None:
    """Its record then lies before the positions of other streams, where no tail is read."""
    options = options_for(kafka.bootstrap_servers, partitions=1)
    first = sink_for(kafka.bootstrap_servers, unique, partitions=1)
    await publish(first, unique, {"BTCUSDT": range(10)})
    second = sink_for(kafka.bootstrap_servers, unique, partitions=1)
    second.resume((await read_start(options, unique, ["trade"])).values())
    async with at_work(second):
        Feeder(second).push(*trades(unique, range(5), "ETHUSDT"))
        await second.drained()
    assert await last_ids(options, unique) == {"BTCUSDT": 9, "ETHUSDT": 4}


async def test_a_topic_that_has_lost_its_head_or_all_is_no_obstacle(
    real_kafka: Kafka, unique: str
) -> None:
    options = options_for(real_kafka.bootstrap_servers, partitions=1)
    sink = sink_for(real_kafka.bootstrap_servers, unique, partitions=1)
    async with at_work(sink):
        Feeder(sink).push(*trades(unique, range(10)))
        await sink.drained()
    await publish(sink_for(real_kafka.bootstrap_servers, unique), unique, {"ETHUSDT": range(10)})
    place = TopicPartition(f"{unique}.trade", 0)
    records = await read_topic(real_kafka.bootstrap_servers, f"{unique}.trade")
    for last, expected in ((14, {"BTCUSDT": 9, "ETHUSDT": 9}), (19, {"BTCUSDT": 9})):
        before = RecordsToDelete(before_offset=records[last].offset + 1)
        async with administration(real_kafka) as admin:
            await admin.delete_records({place: before})
        assert await last_ids(options, unique) == expected


async def test_after_a_change_of_partitions_the_greatest_id_counts(
    real_kafka: Kafka, unique: str
) -> None:
    first = sink_for(real_kafka.bootstrap_servers, unique, partitions=1)
    await publish(first, unique, {symbol: range(10) for symbol in SYMBOLS})
    async with administration(real_kafka) as admin:
        await admin.create_partitions({f"{unique}.trade": NewPartitions(total_count=5)})
    second = sink_for(real_kafka.bootstrap_servers, unique)
    await publish(second, unique, {symbol: range(10, 30) for symbol in SYMBOLS[:6]})
    found = await last_ids(options_for(real_kafka.bootstrap_servers), unique)
    assert found == {symbol: 29 if symbol in SYMBOLS[:6] else 9 for symbol in SYMBOLS}


async def test_records_of_others_are_passed_over_and_logged_once_for_each_topic(
    kafka: Kafka, unique: str, journal: Journal
) -> None:
    options = options_for(kafka.bootstrap_servers)
    sink = sink_for(kafka.bootstrap_servers, unique, "trade", "gap")
    await publish(sink, unique, {"BTCUSDT": range(3)})
    producer = await open_producer(options, ProducerState())
    for topic in ("trade", "position", "gap"):
        for value in NOT_OURS:
            await producer.send_and_wait(f"{unique}.{topic}", value, b"BTCUSDT")
    await discard(producer)
    assert await last_ids(options, unique) == {"BTCUSDT": 2}
    positions = await read_start(options, unique, ["trade"])
    await read_open_gaps(options, unique, positions)
    topics = [entry["topic"] for entry in journal.named("kafka_record_passed_over")]
    assert sorted(topics) == [
        *(f"{unique}.gap", f"{unique}.position", f"{unique}.position"),
        *(f"{unique}.trade", f"{unique}.trade"),
    ]


async def test_a_foreign_record_in_place_of_the_owner_is_passed_over(
    kafka: Kafka, unique: str
) -> None:
    options = options_for(kafka.bootstrap_servers)
    sink = sink_for(kafka.bootstrap_servers, unique)
    async with at_work(sink):
        await sink.fenced()
        producer = await open_producer(options, ProducerState())
        key = OWNER_KEY.format(unique).encode()
        await producer.send_and_wait(f"{unique}.position", b'{"host":"\xff"}', key)
        await discard(producer)
        await sink._fence.check_owner()


async def test_no_topics_are_no_obstacle(kafka: Kafka, unique: str) -> None:
    options = options_for(kafka.bootstrap_servers)
    assert await read_start(options, unique, ["trade", "agg_trade"]) == {}
    sink = sink_for(kafka.bootstrap_servers, unique)
    async with at_work(sink):
        Feeder(sink).push(trade(unique, 1, price="1" * 2**20))
        await sink.drained()
    assert await read_start(options, unique, ["trade", "agg_trade"]) == {}


async def test_a_kafka_that_goes_while_it_is_read_is_read_again(
    kafka: Kafka, unique: str, monkeypatch: pytest.MonkeyPatch, journal: Journal
) -> None:
    await publish(sink_for(kafka.bootstrap_servers, unique), unique, {"BTCUSDT": range(3)})
    failures, bounds = [SinkUnavailable("gone")], TopicReader.bounds

    async def failing(self: TopicReader, topic: str, **options: Any) -> list[Partition]:
        if topic == f"{unique}.trade" and failures:
            raise failures.pop()
        return await bounds(self, topic, **options)

    monkeypatch.setattr(TopicReader, "bounds", failing)
    assert await last_ids(options_for(kafka.bootstrap_servers), unique) == {"BTCUSDT": 2}
    assert [entry["error"] for entry in journal.named("start_waiting_for_kafka")] == ["gone"]


async def test_a_start_reads_the_position_topic_once_with_the_same_result(
    kafka: Kafka, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With many streams a read takes as long as a takeover may."""
    await publish(sink_for(kafka.bootstrap_servers, unique), unique, {"BTCUSDT": range(3)})
    begins: list[int] = []
    read = TopicReader.read

    def noting(self: TopicReader, topic: str, bounds: list[Partition]) -> Any:
        begins.extend(part.begin_offset for part in bounds if topic.endswith(".position"))
        return read(self, topic, bounds)

    monkeypatch.setattr(TopicReader, "read", noting)
    options, sink = options_for(kafka.bootstrap_servers), sink_for(kafka.bootstrap_servers, unique)
    async with at_work(sink):
        written = await sink.fenced()
        assert written
        found = await read_start(options, unique, ["trade"], WHOLE, written)
        assert {*begins} == {0, *written.ends.values()}
        assert await sink.fenced() is None
    assert found == await read_start(options, unique, ["trade"])
    assert [position.last_id for position in found.values()] == [2]


async def test_what_was_written_while_the_fence_was_raised_is_known_to_the_start(
    kafka: Kafka, unique: str
) -> None:
    """A stream without a record has only its position, which the last owner wrote at the end."""
    options, sink = options_for(kafka.bootstrap_servers), sink_for(kafka.bootstrap_servers, unique)
    async with at_work(sink):
        written = await sink.fenced()
        assert written
        position = unpublished(StreamKey("trade", "BTCUSDT"), 7, 1)
        producer = await open_writer(options)
        await producer.send_and_wait(
            f"{unique}.position", msgspec.json.encode(position), position.key
        )
        await discard(producer)
        found = await read_start(options, unique, ["trade"], WHOLE, written)
    assert [position.last_id for position in found.values()] == [7]


async def test_an_absent_kafka_is_not_waited_for_for_ever(
    unique: str, monkeypatch: pytest.MonkeyPatch, journal: Journal
) -> None:
    monkeypatch.setattr(recover_positions, "CONNECT_TIMEOUT_S", 0.5)
    server = f"{LOOPBACK}:{free_port()}"
    with pytest.raises(
        SinkUnavailable, match=rf"Kafka at {server} could not be reached within 0.5 s"
    ):
        await read_start(options_for(server), unique, ["trade"])
    assert server in journal.named("start_waiting_for_kafka")[0]["error"]
