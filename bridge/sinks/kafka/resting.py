"""Keeps the partitions that Kafka does not accept apart, so that all others go on.

A topic without the right to write, a partition without a leader, or one that refuses what we send
rests. Its records wait, and it is tried again after a delay that doubles each time.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

import structlog
from aiokafka import TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.errors import TopicAuthorizationFailedError

from bridge.brokers.kafka_client import InvalidRecordError, failure
from bridge.errors import TickbridgeError
from bridge.retry import RepeatedFailure
from bridge.sinks.kafka.producer_state import topic_partition
from bridge.sinks.outbox.outbox import Outbox, PartitionQueue

# The answers to a batch that is larger than the topic's `max.message.bytes`, or than a segment.
TOO_LARGE = (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)
# The errors of one partition alone. Every other error ends the producer.
OF_PARTITION = (
    TopicAuthorizationFailedError,
    kafka_errors.LeaderNotAvailableError,
    kafka_errors.NotLeaderForPartitionError,
    kafka_errors.InvalidTimestampError,
    kafka_errors.PolicyViolationError,
    kafka_errors.UnknownError,  # also for codes that aiokafka does not know
    InvalidRecordError,
    *TOO_LARGE,
)
PARTITION_UNAVAILABLE = "partition_unavailable"
FIRST_REST_S, MAX_REST_S = 1.0, 8.0
TRIM_INTERVAL_S = 1.0

log = structlog.get_logger(__name__)


class _Rest(NamedTuple):
    length_s: float
    end_s: float
    error: Exception
    failure: RepeatedFailure


class RestingPartitions:
    """The partitions of some outboxes that rest. `wake` is called when one is to be tried again.

    `failures` counts failures by reason.
    """

    def __init__(
        self, outboxes: Iterable[Outbox], failures: Counter[str], wake: Callable[[], None]
    ) -> None:
        self._outboxes = tuple(outboxes)
        self._failures = failures
        self._wake = wake
        self._rests: dict[TopicPartition, _Rest] = {}
        self._trim_at_s = 0.0

    def __bool__(self) -> bool:
        """Return whether a partition with records rests."""
        return any(queue.records for outbox in self._outboxes for queue in outbox.resting())

    def rest(self, queue: PartitionQueue, error: Exception) -> None:
        """Let a partition rest. Its records in flight are in doubt from now on."""
        place, loop = topic_partition(queue), asyncio.get_running_loop()
        before = self._rests.get(place)
        length_s = min(2 * before.length_s, MAX_REST_S) if before else FIRST_REST_S
        repeated = before.failure if before else RepeatedFailure()
        self._rests[place] = _Rest(length_s, loop.time() + length_s, error, repeated)
        queue.rest()
        loop.call_later(length_s, self._wake)
        self._failures[PARTITION_UNAVAILABLE] += 1
        ours = error if isinstance(error, TickbridgeError) else failure(error)
        if repeated.should_log(ours):
            log.warning(
                "kafka_partition_unavailable",
                topic=queue.topic,
                partition=queue.partition,
                error=str(ours),
                waiting=len(queue.records),
                retry_in_s=length_s,
            )

    def look_again(self, queue: PartitionQueue, error: Exception) -> None:
        """Look at once what Kafka has of the records in flight of a partition, and then go on."""
        now_s = asyncio.get_running_loop().time()
        self._rests[topic_partition(queue)] = _Rest(0.0, now_s, error, RepeatedFailure())
        queue.rest()
        self._wake()

    def rest_topic(self, topic: str, error: Exception) -> None:
        """Let all partitions of a topic rest that have records."""
        for outbox in self._outboxes:
            for queue in outbox.idle():
                if queue.topic == topic:
                    self.rest(queue, error)

    def due(self) -> list[tuple[Outbox, PartitionQueue]]:
        """Return the partitions whose rest is over, each with its outbox."""
        if not self._rests:
            return []
        now_s = asyncio.get_running_loop().time()
        return [
            (outbox, queue)
            for outbox in self._outboxes
            for queue in outbox.resting()
            if self._rests[topic_partition(queue)].end_s <= now_s
        ]

    def is_refused(self, queue: PartitionQueue) -> bool:
        """Return whether a partition rests because it has refused a batch or a record."""
        error = self._rests[topic_partition(queue)].error
        return isinstance(error, (InvalidRecordError, *TOO_LARGE))

    def accepted(self, queue: PartitionQueue) -> None:
        """Note that Kafka has accepted records of a partition."""
        if self._rests and (place := topic_partition(queue)) in self._rests:
            rest = self._rests.pop(place)
            if rest.length_s:
                log.info("kafka_partition_recovered", topic=queue.topic, partition=queue.partition)

    def trim(self) -> None:
        """Drop the oldest records of the partitions that rest, above their share of the bound."""
        if not self._rests:
            return
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._trim_at_s:
            self._trim_at_s = now_s + TRIM_INTERVAL_S
            for outbox in self._outboxes:
                outbox.trim_resting()
