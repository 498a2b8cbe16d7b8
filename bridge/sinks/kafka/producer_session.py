"""One producer, from the first request to its first failure.

A producer is disposable. After one refused batch every later batch of the partition fails, and a
producer that has lost its brokers may never answer. So at the first failure, or after too long
without an acknowledgement, it is discarded. The next producer takes over its identity. It removes
from the outbox what Kafka has after all, and first sends the other batches in doubt again under
their sequence numbers, so that the brokers drop the ones they have.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import LeaderNotAvailableError

from bridge import settings
from bridge.brokers.kafka_client import FAILURES, failure, partition_of_key
from bridge.core.model.shard import ShardId
from bridge.core.records.record import Record
from bridge.errors import Fenced, SinkRefused, SinkUnavailable, TopicsDenied
from bridge.retry import check_cancelled
from bridge.sinks.batch_pacer import BatchPacer
from bridge.sinks.kafka import recover_spill
from bridge.sinks.kafka.batch_sender import BatchSender
from bridge.sinks.kafka.fence import Fence
from bridge.sinks.kafka.loss_reporter import LossReporter
from bridge.sinks.kafka.position_writer import PositionWriter
from bridge.sinks.kafka.producer import StateTopics, discard, ensure_topics
from bridge.sinks.kafka.producer_state import ProducerState, topic_partition
from bridge.sinks.kafka.recover_batches import find_committed
from bridge.sinks.kafka.recover_positions import read_start
from bridge.sinks.kafka.resting import RestingPartitions
from bridge.sinks.outbox.outbox import Outbox, PartitionQueue
from bridge.sinks.outbox.spiller import Spiller

# The next session renews the fence. Kafka forgets a transactional id after 7 days without a
# transaction, and the epochs of a partition after a day without a record (transactional.id.
# expiration.ms, producer.id.expiration.ms).
MAX_AGE_S = 12 * 3600.0
# At 5,000 events a second the shortest rest lowers the broker's load from 47 % of a core to 33 %
# and ours from 63 % to 53 %. The median delay at a consumer rises from 1.6 to 3.0 ms, the 99th
# percentile falls from 15 to 10 ms.
LEAST_REST_S, REST_PER_RECORD_S, MAX_REST_S = 0.003, 100e-6, 0.005

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DeliveryState:
    """Everything that outlives a producer. `topics` is a list that may grow; `changed` is set when
    there may be something to send.
    """

    options: settings.Kafka
    venue: str
    shard: ShardId
    topics: list[str]
    state_topics: StateTopics
    outbox: Outbox
    spiller: Spiller | None
    positions: PositionWriter
    losses: LossReporter
    producer_state: ProducerState
    fence: Fence
    resting: RestingPartitions
    changed: asyncio.Event


class ProducerSession:
    """Recovers what earlier producers and the previous process left, and then drains the outbox.

    `on_published` gets the records of each acknowledged batch.
    """

    def __init__(
        self,
        state: DeliveryState,
        producer: AIOKafkaProducer,
        on_published: Callable[[Sequence[Record]], None],
    ) -> None:
        self.partitions: dict[str, list[int]] = {}
        self._denied: set[str] = set()
        self._state = state
        self._producer = producer
        self._sender = BatchSender(
            producer, state.options, state.producer_state, state.resting, state.changed
        )
        self._on_published = on_published

    async def recover(self) -> None:
        """Create missing topics, and deliver what is in doubt. Raises SinkRefused if Kafka denies a
        topic, and what aiokafka raises.
        """
        await self._ensure_allowed_topics()
        check_cancelled()
        await self._take_out_restored()
        await self._take_out_committed()
        self._state.producer_state.number(self._producer)
        await self._send_again()
        while added := [
            topic
            for topic in self._state.topics
            if topic not in self.partitions and topic not in self._denied
        ]:
            await self._state.fence.raise_around(added)
            await self.ensure_topics(added)
        # All records of a topic that is not known yet wait in one queue for the next producer.
        self._state.outbox.assign(
            lambda route: partition_of_key(route.key, self.partitions.get(route.topic, [0])),
            self._denied,
        )

    async def drain(self) -> None:
        """Send from every idle queue, wait for a push or an acknowledgement, and repeat. Return
        after MAX_AGE_S, but not while partitions rest: the fence needs all of them.

        Raises SinkUnavailable if Kafka acknowledges nothing for too long, and what a batch failed
        with.
        """
        pacer = BatchPacer(LEAST_REST_S, REST_PER_RECORD_S, MAX_REST_S)
        changed, positions = self._state.changed, self._state.positions.outbox
        sender, outbox, losses = self._sender, self._state.outbox, self._state.losses
        end = asyncio.get_running_loop().time() + MAX_AGE_S
        while asyncio.get_running_loop().time() < end or self._state.resting:
            check_cancelled()
            await pacer.rest()
            changed.clear()
            await self._wake_partitions()
            self._state.resting.trim()
            for queue in outbox.idle():
                losses.drop_refused(queue)
            losses.announce()
            sent, left = 0, False
            for queue in outbox.sendable():
                if not await sender.send(queue, self._published):
                    left = True
                sent += queue.in_flight
            if sent and not left:
                pacer.sent(sent)
            for queue in positions.idle():
                await sender.send(queue, self._positions_written)
            await sender.wait()

    async def ensure_topics(self, topics: Sequence[str]) -> None:
        """Create the missing ones of these topics, and learn their partitions. Raises SinkRefused
        if Kafka denies one, SinkUnavailable if one is missing, and what aiokafka raises.
        """
        try:
            self.partitions |= await ensure_topics(
                self._producer, self._state.options, list(topics), self._state.state_topics
            )
        except FAILURES as error:
            if isinstance(reason := failure(error), SinkRefused):
                raise reason from error
            raise

    async def _ensure_allowed_topics(self) -> None:
        """Ensure all topics. If the right to some was taken away since the start, let them rest."""
        while True:
            allowed = [topic for topic in self._state.topics if topic not in self._denied]
            try:
                return await self.ensure_topics(allowed)
            except TopicsDenied as error:
                if not (self._state.fence.raised.is_set() and error.topics):
                    raise
                for topic in error.topics:
                    self._denied.add(topic)
                    self._state.resting.rest_topic(topic, error)

    async def add_topics(self, topics: Sequence[str]) -> None:
        """Do as `ensure_topics`, and shut other processes out of these topics. If this fails, the
        next session does it, or `drain` raises Fenced.
        """
        await self.ensure_topics(topics)
        try:
            await self._state.fence.raise_around(topics)
        except (Fenced, SinkUnavailable) as error:
            self.fail(error)

    async def close(self) -> None:
        """Discard the producer. The records in flight are in doubt from now on."""
        self._sender.close()
        self._state.outbox.release()
        self._state.positions.outbox.release()
        await discard(self._producer)

    def fail(self, error: Exception) -> None:
        """Make `drain` raise this error."""
        self._sender.fail(error)

    async def _take_out_restored(self) -> None:
        """Remove from the outbox what Kafka has of the records that the previous process may have
        sent.
        """
        spiller = self._state.spiller
        if spiller is None or (restored := spiller.restored()) is None:
            return
        await recover_spill.find_committed(self._state.options, restored)
        positions = await read_start(
            self._state.options, self._state.venue, spiller.unsettled, self._state.shard
        )
        spiller.settle(restored, positions)
        self._on_published(())

    async def _take_out_committed(self) -> None:
        """Remove from the outbox what Kafka has of the batches of the last producer.

        The tails of the partitions show it even if the brokers have forgotten the sequence numbers:
        they do so at a restart if the records of a batch are a day old. The numbers keep out what
        is written after the tails were read.
        """
        producer_state = self._state.producer_state
        for queue in self._state.outbox.in_doubt():
            if queue.partition not in self.partitions.get(queue.topic, ()):
                queue.in_doubt = 0  # the topic was created again with fewer partitions
        await self._rest_without_leader()
        await self._find_committed(self._state.outbox.in_doubt())
        if not producer_state.is_continued:
            self._state.outbox.clear_in_doubt()
            self._state.positions.outbox.clear_in_doubt()
            producer_state.is_continued = True

    async def _rest_without_leader(self) -> None:
        """Let the partitions in doubt rest that have no leader: nothing can be read from them, and
        the others must not wait for them.
        """
        outboxes = (self._state.outbox, self._state.positions.outbox)
        if queues := [queue for outbox in outboxes for queue in outbox.in_doubt()]:
            await self._update_metadata()
            for queue in queues:
                if not self._has_leader(queue):
                    self._state.resting.rest(queue, LeaderNotAvailableError())

    async def _find_committed(self, queues: Sequence[PartitionQueue]) -> None:
        """Read the tails of these queues, and remove the records that Kafka has."""
        producer_state = self._state.producer_state
        found = await find_committed(self._state.options, producer_state, queues) if queues else []
        for queue, offsets in zip(queues, found, strict=True):
            if offsets:
                queue.in_flight = len(offsets)
                producer_state.found(topic_partition(queue), len(offsets))
                self._published(queue, offsets)

    async def _wake_partitions(self) -> None:
        """Try the partitions again whose rest is over. Their records in doubt are sent first."""
        resting, producer_state = self._state.resting, self._state.producer_state
        for outbox, queue in resting.due():
            try:
                await self._check_leader(queue)
                if outbox is self._state.outbox and queue.in_doubt:
                    await self._find_committed([queue])
                if resting.is_refused(queue):
                    queue.in_doubt = 0
            except (*FAILURES, SinkUnavailable, SinkRefused) as error:
                resting.rest(queue, error)
            else:
                producer_state.number_again(self._producer, topic_partition(queue))
                queue.is_resting = False

    async def _check_leader(self, queue: PartitionQueue) -> None:
        """Raise LeaderNotAvailableError if a partition has no leader. If its topic was deleted,
        create it again. That it may have fewer partitions then shows when a batch is sent.
        """
        await self._update_metadata()
        if queue.topic not in self._producer.client.cluster.topics():
            self._state.producer_state.forget(queue.topic, self._producer)
            self._state.fence.forget(queue.topic)
            await self.add_topics([queue.topic])
            log.warning("kafka_topic_created_again", topic=queue.topic)
        if not self._has_leader(queue):
            raise LeaderNotAvailableError

    async def _update_metadata(self) -> None:
        async with asyncio.timeout(self._state.options.request_timeout_ms / 1000):
            await self._producer.client.force_metadata_update()

    def _has_leader(self, queue: PartitionQueue) -> bool:
        """Return whether a partition has a leader, or is not there at all, by the last metadata."""
        cluster = self._producer.client.cluster
        is_there = queue.partition in (cluster.partitions_for_topic(queue.topic) or ())
        return not is_there or cluster.leader_for_partition(topic_partition(queue)) not in {
            None,
            -1,
        }

    async def _send_again(self) -> None:
        """Deliver the batches that are still in doubt, each as it was, before anything else."""
        sender, changed = self._sender, self._state.changed
        outbox, positions = self._state.outbox, self._state.positions.outbox
        changed.clear()
        for queue in outbox.in_doubt():
            await sender.send(queue, self._published)
        for queue in positions.in_doubt():
            await sender.send(queue, self._positions_written)
        while outbox.in_doubt() or positions.in_doubt():
            await sender.wait()
            changed.clear()

    def _published(self, queue: PartitionQueue, offsets: Sequence[int]) -> None:
        records = self._state.outbox.acknowledge(queue)
        self._state.positions.published(queue, records, offsets)
        self._on_published(records)

    def _positions_written(self, queue: PartitionQueue, _offsets: Sequence[int]) -> None:
        self._state.positions.outbox.acknowledge(queue)
        self._on_published(())
