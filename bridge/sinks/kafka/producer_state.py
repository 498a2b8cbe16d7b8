"""The state that one producer passes to the next: its identity, and what Kafka acknowledged.

The brokers recognize a batch by the identity of its producer and by its sequence number. A new
producer that takes over both can send an unanswered batch again. The broker drops the copy that
arrives second, even if that copy has waited in the buffers of a frozen broker. Source: KIP-98,
"Idempotent producer guarantees". Brokers remember a producer for a day, by the timestamps of its
records.
"""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import NamedTuple

import structlog
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import RecordMetadata

from bridge.errors import describe
from bridge.sinks.outbox.outbox import PartitionQueue
from bridge.telemetry import SinkCounts

# The sequence number after this one is 0.
MAX_SEQUENCE = 2**31 - 1
# The last markers of a fence may be written after the first batch, within this time.
LATE_MARKERS_S = 5.0
# A batch that does not directly follow the previous one: another producer wrote in between.
FOREIGN_RECORDS = "foreign_records"
BATCH_TOO_LARGE = "batch_too_large"
# aiokafka itself retries retriable errors, without limit for an idempotent producer. So a retriable
# error here comes from aiokafka: a batch expired while its partition had no leader.
_REFUSALS = (kafka_errors.BrokerResponseError, kafka_errors.ProducerFenced)

log = structlog.get_logger(__name__)


class ProducerId(NamedTuple):
    """The identity of a producer, given by the brokers."""

    producer_id: int
    epoch: int


class ProducerState:
    """The state of a producer that outlives it. `counts` are those of the sink. Other producers
    write to the `shared` topics too.
    """

    def __init__(self, counts: SinkCounts | None = None, shared: Collection[str] = ()) -> None:
        self._counts = counts or SinkCounts()
        self._shared = shared
        self.identity: ProducerId | None = None
        # True if unanswered batches may be sent again under their sequence numbers.
        self.is_continued = True
        # The expected offset of the next record of each partition, if known.
        self.next_offsets: dict[TopicPartition, int] = {}
        # Partitions whose next batch comes after markers, and when the last markers were written.
        self._marked: set[TopicPartition] = set()
        self._marked_at_s = -LATE_MARKERS_S
        # The identity under which each partition got its last batch.
        self._senders: dict[TopicPartition, ProducerId | None] = {}
        self._next_sequences: defaultdict[TopicPartition, int] = defaultdict(int)

    def lend(self, producer: AIOKafkaProducer) -> None:
        """Give the identity of the last producer to one that has not been started."""
        if self.identity is not None:
            manager = producer._txn_manager  # noqa: SLF001 - there is no public API
            manager.set_pid_and_epoch(*self.identity)

    def number(self, producer: AIOKafkaProducer) -> None:
        """Give the sequence numbers of the last producer to one that has not sent anything."""
        producer._txn_manager._sequence_numbers.update(self._next_sequences)  # noqa: SLF001

    def number_again(self, producer: AIOKafkaProducer, partition: TopicPartition) -> None:
        """Let a producer repeat the sequence number of the batch that a partition has refused."""
        numbers = producer._txn_manager._sequence_numbers  # noqa: SLF001
        numbers[partition] = self._next_sequences[partition]

    def forget(self, topic: str, producer: AIOKafkaProducer) -> None:
        """Forget what a topic had that was created again: its sequence numbers start at 0."""
        numbers = producer._txn_manager._sequence_numbers  # noqa: SLF001
        for known in (self.next_offsets, self._next_sequences, numbers):
            for partition in [each for each in known if each.topic == topic]:
                del known[partition]

    async def learn(self, producer: AIOKafkaProducer) -> None:
        """Note the identity of a producer that has been started, and the sequence numbers that it
        has used.
        """
        manager = producer._txn_manager  # noqa: SLF001
        await manager.wait_for_pid()
        if self.identity is None:
            self._next_sequences.clear()
        self._next_sequences.update(manager._sequence_numbers)  # noqa: SLF001
        self.identity = identity_of(producer)

    def marked(self, partitions: Iterable[TopicPartition]) -> None:
        """Note that markers are written into these partitions, which take offsets as records do."""
        self._marked.update(partitions)
        self._marked_at_s = asyncio.get_running_loop().time()

    def acknowledged(
        self, partition: TopicPartition, batch: BatchBuilder, answer: RecordMetadata
    ) -> range:
        """Note an acknowledged batch; return the offsets of its records."""
        count = batch.record_count()
        self._counts.sent_bytes += batch.size()
        expected = self.next_offsets.get(partition, answer.offset)
        # -1: a duplicate so old that the broker no longer knows the offset of the first copy.
        offset: int = expected if answer.offset < 0 else answer.offset
        if offset != expected and not self._may_be_foreign(partition):
            self._note_foreign(partition, expected, offset)
        self._marked.discard(partition)
        self.next_offsets[partition] = offset + count
        self._advance(partition, count)
        return range(offset, offset + count)

    def _may_be_foreign(self, partition: TopicPartition) -> bool:
        """Return whether markers, or records of other shards, may lie between two batches."""
        if partition.topic in self._shared:
            return True
        now_s = asyncio.get_running_loop().time()
        return partition in self._marked or now_s < self._marked_at_s + LATE_MARKERS_S

    def _note_foreign(self, partition: TopicPartition, expected: int, offset: int) -> None:
        # With a second bridge nearly every batch is one.
        if batches := self._count(FOREIGN_RECORDS):
            log.warning(
                "kafka_foreign_records",
                topic=partition.topic,
                partition=partition.partition,
                expected_offset=expected,
                offset=offset,
                batches=batches,
                remedy="another producer writes there, or a request was late; run tickbridge audit",
            )

    def too_large(self, partition: TopicPartition, limit_bytes: int | None) -> None:
        """Note that a partition has refused a batch as too large, and the limit of the next one."""
        # All partitions of a topic refuse batches at once.
        if batches := self._count(BATCH_TOO_LARGE):
            log.warning(
                "kafka_batch_too_large",
                topic=partition.topic,
                partition=partition.partition,
                limit_bytes=limit_bytes,
                batches=batches,
                remedy="raise max.message.bytes of the topic; smaller batches are slower",
            )

    def _count(self, reason: str) -> int:
        """Count a failure that comes with many batches; return the count if it is to be logged, and
        otherwise 0. Only powers of two are.
        """
        self._counts.failures[reason] += 1
        batches = self._counts.failures[reason]
        return batches if batches.bit_count() == 1 else 0

    def sent(self, partition: TopicPartition) -> None:
        """Note that a batch is sent under the present identity."""
        self._senders[partition] = self.identity

    def found(self, partition: TopicPartition, count: int) -> None:
        """Note how many records of an unanswered batch were found in the partition."""
        if self._senders.get(partition) == self.identity:
            self._advance(partition, count)

    def _advance(self, partition: TopicPartition, count: int) -> None:
        sequence = self._next_sequences[partition] + count
        self._next_sequences[partition] = sequence & MAX_SEQUENCE

    def failed(self, error: Exception) -> None:
        """Give up the identity if the brokers have refused a batch of this producer.

        They would refuse it again under the same sequence number.
        """
        if isinstance(error, _REFUSALS) and not error.retriable:
            self.discard(error)

    def discard(self, error: Exception) -> None:
        """Give up the identity. Unanswered batches must not be sent again under the next one."""
        if self.identity is not None:
            if isinstance(error, kafka_errors.ProducerFenced):
                log.info("kafka_producer_fenced")
            else:
                log.warning("kafka_producer_id_discarded", error=describe(error))
        self.identity = None
        self.is_continued = False


def identity_of(producer: AIOKafkaProducer) -> ProducerId:
    """Return the identity of a producer that has one."""
    manager = producer._txn_manager  # noqa: SLF001
    return ProducerId(manager.producer_id, manager.producer_epoch)


def topic_partition(queue: PartitionQueue) -> TopicPartition:
    """Return the partition of a queue, as the Kafka client names it."""
    return TopicPartition(queue.topic, queue.partition)
