"""What one producer leaves to the next: who it was, and what was acknowledged of each partition.

The brokers know a batch by its producer's identity and its sequence number: a new producer that
takes both over can send an unanswered batch again, and whichever copy arrives second is dropped,
even one that lay in a frozen broker's buffers all the while. Source: KIP-98, "Idempotent producer
guarantees"; what brokers know of a producer is good for a day, by its records' own times.
"""

from collections import Counter, defaultdict
from typing import NamedTuple

import structlog
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.structs import RecordMetadata

# Sequence numbers go on at 0 behind this one.
MAX_SEQUENCE = 2**31 - 1
# A batch that does not lie behind the one before it: somebody else has written in between.
FOREIGN_RECORDS = "foreign_records"
# aiokafka tries again by itself what may be, and for an idempotent producer without end: a failure
# of that sort is its own, of a batch that grew old while its partition had no leader.
_REFUSALS = (kafka_errors.BrokerResponseError, kafka_errors.ProducerFenced)

log = structlog.get_logger(__name__)


class ProducerId(NamedTuple):
    """Who a producer is to the brokers."""

    producer_id: int
    epoch: int


class ProducerState:
    """The state of a producer that outlives it. `failures` counts failures by reason."""

    def __init__(self, failures: Counter[str] | None = None) -> None:
        self._failures: Counter[str] = Counter() if failures is None else failures
        self.identity: ProducerId | None = None
        # Whether unanswered batches may be sent again under their numbers.
        self.is_continued = True
        # Where the next record of each partition is expected to lie, as far as known.
        self.next_offsets: dict[TopicPartition, int] = {}
        self._next_sequences: defaultdict[TopicPartition, int] = defaultdict(int)

    def lend(self, producer: AIOKafkaProducer) -> None:
        """Give a producer that has not been started the identity of the one before it."""
        if self.identity is not None:
            manager = producer._txn_manager  # noqa: SLF001 - there is no public way
            manager.set_pid_and_epoch(*self.identity)

    def number(self, producer: AIOKafkaProducer) -> None:
        """Let a producer that has not sent anything go on with the numbers of the one before."""
        producer._txn_manager._sequence_numbers.update(self._next_sequences)  # noqa: SLF001

    async def learn(self, producer: AIOKafkaProducer) -> None:
        """Note the identity of a producer that has been started."""
        manager = producer._txn_manager  # noqa: SLF001
        await manager.wait_for_pid()
        if self.identity is None:
            self._next_sequences.clear()
        self.identity = ProducerId(manager.producer_id, manager.producer_epoch)

    def acknowledged(self, place: TopicPartition, count: int, answer: RecordMetadata) -> int:
        """Note a batch; returns the offset of its first record."""
        expected = self.next_offsets.get(place, answer.offset)
        # -1: a repeat so old that the broker has forgotten where the first copy lies.
        offset: int = expected if answer.offset < 0 else answer.offset
        if offset != expected:
            self._note_foreign(place, expected, offset)
        self.next_offsets[place] = offset + count
        self._advance(place, count)
        return offset

    def _note_foreign(self, place: TopicPartition, expected: int, offset: int) -> None:
        self._failures[FOREIGN_RECORDS] += 1
        batches = self._failures[FOREIGN_RECORDS]
        # Beside a second bridge nearly every batch is one: the powers of two are enough to read.
        if batches.bit_count() == 1:
            log.warning(
                "kafka_foreign_records",
                topic=place.topic,
                partition=place.partition,
                expected_offset=expected,
                offset=offset,
                batches=batches,
                remedy="somebody else writes there, or a request came late: see tickbridge audit",
            )

    def found(self, place: TopicPartition, count: int) -> None:
        """Note records of an unanswered batch that were found in the partition."""
        if self.is_continued:
            self._advance(place, count)

    def _advance(self, place: TopicPartition, count: int) -> None:
        sequence = self._next_sequences[place] + count
        self._next_sequences[place] = sequence & MAX_SEQUENCE

    def failed(self, error: Exception) -> None:
        """Begin anew where the brokers have answered that they do not want this producer's batch:
        under the same number they never will.
        """
        if isinstance(error, _REFUSALS) and not error.retriable:
            log.warning("kafka_producer_id_discarded", error=str(error))
            self.identity = None
            self.is_continued = False
