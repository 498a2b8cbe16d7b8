"""Exactly-once delivery through outages of Kafka under load, proved by reading the topic.

The times of the records are more than a day old, so a broker forgets their producer at a restart.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Self

import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import (
    InvalidProducerEpoch,
    KafkaError,
    LeaderNotAvailableError,
    MessageSizeTooLargeError,
    NotLeaderForPartitionError,
    OutOfOrderSequenceNumber,
)
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import RecordMetadata

from bridge import settings
from bridge.brokers.kafka_client import InvalidRecordError
from bridge.brokers.kafka_reader import Batch, Partition
from bridge.core.records.record import Record, Route
from bridge.errors import SinkUnavailable
from bridge.sinks.kafka import recover_batches
from bridge.sinks.kafka.producer import RETRY_BACKOFF_MS
from bridge.sinks.kafka.producer_state import MAX_SEQUENCE, ProducerState
from bridge.sinks.kafka.sink import KafkaSink
from bridge.sinks.outbox.outbox import PartitionQueue
from tests.sinks.kafka.test_sink import SHORT, ids, sink_for
from tests.support.brokers import Kafka, KafkaBroker, read_topic
from tests.support.journal import Journal
from tests.support.sinks import Feeder, at_work, trades

pytestmark = [pytest.mark.asyncio(loop_factories=["real"]), pytest.mark.timeout(120)]

SYMBOLS = [f"S{number}USDT" for number in range(8)]
# Longer than two producers together wait for an acknowledgement.
PAUSE_S = 6.0
EVERY_S = 0.01


class Flow:
    """Pushes a few trades of every symbol, a hundred times a second."""

    def __init__(self, sink: KafkaSink, venue: str) -> None:
        self.pushed = 0
        self._feeder = Feeder(sink)
        self._venue = venue

    async def run(self) -> None:
        while True:
            for symbol in SYMBOLS:
                ids_now = range(self.pushed, self.pushed + 5)
                self._feeder.push(*trades(self._venue, ids_now, symbol))
            self.pushed += 5
            await asyncio.sleep(EVERY_S)


@asynccontextmanager
async def flowing(sink: KafkaSink, venue: str) -> AsyncIterator[Flow]:
    """Run the sink under a flow; at the end wait until everything is delivered."""
    async with at_work(sink):
        flow = Flow(sink, venue)
        task = asyncio.create_task(flow.run())
        try:
            yield flow
        finally:
            task.cancel()
        async with asyncio.timeout(60):
            await sink.drained()


async def pause(kafka: KafkaBroker) -> None:
    await asyncio.to_thread(kafka.pause)
    await asyncio.sleep(PAUSE_S)
    await asyncio.to_thread(kafka.unpause)


async def kill(kafka: KafkaBroker) -> None:
    await asyncio.to_thread(kafka.kill)
    await asyncio.to_thread(kafka.start)


async def stop(kafka: KafkaBroker) -> None:
    await asyncio.to_thread(kafka.stop)
    await asyncio.to_thread(kafka.start)


Outage = Callable[[KafkaBroker], Awaitable[None]]


@pytest.mark.faults
async def test_outages_under_a_flow_repeat_nothing_and_lose_nothing(
    own_kafka: KafkaBroker, unique: str, journal: Journal
) -> None:
    sink = sink_for(own_kafka.bootstrap_servers, unique, **SHORT)
    outages: list[Outage] = [pause, kill, stop, pause]
    async with flowing(sink, unique) as flow:
        await journal.until("kafka_connected")
        for outage in outages:
            await asyncio.sleep(0.5)
            await outage(own_kafka)
            published = sink.counts.published["trade"]
            while sink.counts.published["trade"] == published:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    records = await read_topic(own_kafka.bootstrap_servers, f"{unique}.trade")
    for symbol in SYMBOLS:
        assert ids(records, symbol) == list(range(flow.pushed))
    assert sink.counts.published == {"trade": flow.pushed * len(SYMBOLS)}
    assert sink.counts.dropped == {}
    assert journal.named("kafka_foreign_records") == []


# A batch that the brokers refuse loses its sequence number. A batch that aiokafka gives up because
# its partition has no leader keeps its number, and is sent again under it.
REFUSED = OutOfOrderSequenceNumber(), InvalidProducerEpoch()
LEADERLESS = LeaderNotAvailableError(), NotLeaderForPartitionError()


@pytest.mark.parametrize("fate", ["committed", "lost"])
@pytest.mark.parametrize(
    ("errors", "failure", "given_up"),
    [(REFUSED, "unavailable", 2), (LEADERLESS, "partition_unavailable", 0)],
)
async def test_what_committed_of_a_failed_batch_is_taken_out_and_the_rest_is_sent(  # noqa: PLR0917
    kafka: Kafka,
    unique: str,
    monkeypatch: pytest.MonkeyPatch,
    journal: Journal,
    errors: tuple[KafkaError, ...],
    failure: str,
    given_up: int,
    fate: str,
) -> None:
    """The tail of the partition shows which records of the batch were committed."""
    refusals = iter([None, *errors])
    send_batch = AIOKafkaProducer.send_batch

    async def refusing(
        self: AIOKafkaProducer, batch: BatchBuilder, topic: str, *, partition: int
    ) -> "asyncio.Future[RecordMetadata]":
        refusal = None if topic.endswith(".position") else next(refusals, None)
        future: asyncio.Future[RecordMetadata] = asyncio.get_running_loop().create_future()
        if refusal is None or fate == "committed":
            future = await send_batch(self, batch, topic, partition=partition)
        if refusal is not None:
            if fate == "committed":
                await future
            future = asyncio.get_running_loop().create_future()
            future.set_exception(refusal)
        return future

    monkeypatch.setattr(AIOKafkaProducer, "send_batch", refusing)
    sink = sink_for(kafka.bootstrap_servers, unique)
    feeder = Feeder(sink)
    async with at_work(sink), asyncio.timeout(30):
        for begin in range(0, 300, 100):
            feeder.push(*trades(unique, range(begin, begin + 100)))
            while len(sink.outbox):  # noqa: ASYNC110 - `drained` would also write positions
                await asyncio.sleep(0.01)
            feeder.check()
        await sink.drained()
    assert sink.counts.failures[failure] == 2
    assert len(journal.named("kafka_producer_id_discarded")) == given_up
    records = await read_topic(kafka.bootstrap_servers, f"{unique}.trade")
    assert ids(records) == list(range(300))
    written = await read_topic(kafka.bootstrap_servers, f"{unique}.position")
    positions = [json.loads(each.value) for each in written if each.key == b"trade:BTCUSDT"]
    assert positions[-1]["offset"] == records[-1].offset


@pytest.mark.parametrize("error", [InvalidRecordError(), MessageSizeTooLargeError()])
async def test_a_batch_of_which_only_the_second_copy_was_refused_loses_nothing(
    kafka: Kafka, unique: str, monkeypatch: pytest.MonkeyPatch, error: KafkaError
) -> None:
    """The answer to the first copy was lost. A batch under the same number would be dropped."""
    refusals = iter([None, error])
    send_batch = AIOKafkaProducer.send_batch

    async def refusing(
        self: AIOKafkaProducer, batch: BatchBuilder, topic: str, *, partition: int
    ) -> "asyncio.Future[RecordMetadata]":
        future: asyncio.Future[RecordMetadata]
        future = await send_batch(self, batch, topic, partition=partition)
        refusal = None if topic.endswith(".position") else next(refusals, None)
        if refusal is None:
            return future
        await future
        late: asyncio.Future[RecordMetadata] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(
            2 * RETRY_BACKOFF_MS / 1000, late.set_exception, refusal
        )
        return late

    monkeypatch.setattr(AIOKafkaProducer, "send_batch", refusing)
    sink = sink_for(kafka.bootstrap_servers, unique)
    feeder = Feeder(sink)
    async with at_work(sink), asyncio.timeout(30):
        for number in range(4):
            feeder.push(*trades(unique, [number]))
            while len(sink.outbox):  # noqa: ASYNC110 - `drained` would also write positions
                await asyncio.sleep(0.01)
            feeder.check()
    records = await read_topic(kafka.bootstrap_servers, f"{unique}.trade")
    assert ids(records) == list(range(4))
    assert sink.counts.dropped == {}


class HalfReader:
    """A reader of two partitions with one record each. Its first read of the second one fails."""

    failures = 1

    def __init__(self, _options: settings.Kafka) -> None:
        pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def bounds(self, _topic: str, *, has: Callable[[int], bool]) -> list[Partition]:
        return [Partition(number, 0, 1) for number in range(2) if has(number)]

    async def read(self, topic: str, bounds: list[Partition]) -> AsyncIterator[Batch]:
        for part in bounds:
            if part.partition == 1 and HalfReader.failures:
                HalfReader.failures -= 1
                raise SinkUnavailable("gone")
            if len(part):
                yield part.partition, [committed_record(topic, part.partition)]


def committed_record(topic: str, partition: int) -> ConsumerRecord:
    return ConsumerRecord(topic, partition, 0, 0, 0, b"", b"value", None, 0, 0, ())


async def test_after_a_failure_under_way_the_tails_are_read_from_where_they_began(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The records read the first time were not removed from the outbox."""
    monkeypatch.setattr(recover_batches, "TopicReader", HalfReader)
    producer_state, queues = (
        ProducerState(),
        [PartitionQueue("topic", partition, "trade") for partition in (0, 1)],
    )
    for queue in queues:
        producer_state.next_offsets[TopicPartition("topic", queue.partition)] = 0
        queue.records.append(Record(Route("trade", "S", "topic", b"", "", ()), 0, 0, b"value"))
        queue.in_doubt = 1
    options = settings.Kafka()
    with pytest.raises(SinkUnavailable):
        await recover_batches.find_committed(options, producer_state, queues)
    assert await recover_batches.find_committed(options, producer_state, queues) == [[0], [0]]
    assert set(producer_state.next_offsets.values()) == {1}


async def test_somebody_else_who_writes_is_noticed(
    kafka: Kafka, unique: str, journal: Journal
) -> None:
    """Without a fence nothing prevents it."""
    sink, other = (sink_for(kafka.bootstrap_servers, unique, transactional_id="") for _ in range(2))
    async with at_work(sink), at_work(other):
        feeders = {writer: Feeder(writer) for writer in (sink, other)}
        for writer in (sink, other, sink):
            feeders[writer].push(*trades(unique, range(10)))
            await writer.drained()
    entry, *more = journal.named("kafka_foreign_records")
    assert entry["topic"] == f"{unique}.trade"
    assert (entry["expected_offset"], entry["offset"]) == (10, 20)
    counted = sink.counts.failures + other.counts.failures
    assert counted["foreign_records"] == 1 + len(more)


async def test_sequence_numbers_begin_again_behind_the_greatest() -> None:
    producer_state, place = ProducerState(), TopicPartition("topic", 0)
    answer = RecordMetadata("topic", 0, place, -1, None, None, None)
    producer_state._next_sequences[place] = MAX_SEQUENCE - 4
    batch = BatchBuilder(2**20, 0)
    for _ in range(10):
        batch.append(key=b"", value=b"", timestamp=0)
    producer_state.acknowledged(place, batch, answer)
    assert producer_state._next_sequences[place] == 5
