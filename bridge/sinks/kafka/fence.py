"""Makes this bridge the only writer of its shard: of the topics, or of some of their partitions.

Kafka gives whoever opens a transactional id a higher epoch than all before. An empty transaction
writes a marker with this epoch into each partition. From then on the partition refuses batches of
lower epochs, so its end is final. Records are sent outside of transactions, under the same producer
id and epoch. Source: KIP-98, "Transaction Coordinator"; tests/sinks/kafka/test_fence.py shows it
with a real broker.

Each shard has a transactional id of its own. If the number of shards has changed, shards of the
earlier number had the same partitions. Their ids are opened too, with markers in these partitions.
First this bridge writes that it is the owner, then it reads which owners there are. So of two that
start at one moment at least one sees the other.
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Sequence

import structlog
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.errors import TopicAuthorizationFailedError
from msgspec.structs import replace

from bridge import settings
from bridge.brokers.kafka_client import (
    FAILURES,
    client_options,
    failure,
    reason_of,
    topics_denied,
)
from bridge.brokers.kafka_reader import TopicReader
from bridge.core.model.shard import WHOLE, ShardId
from bridge.errors import Fenced, SinkRefused, SinkUnavailable, describe
from bridge.retry import Backoff, forever
from bridge.sinks.kafka.owner import (
    Owner,
    Role,
    encode,
    fenced_key,
    owner_key,
    transactional_id_of,
)
from bridge.sinks.kafka.producer import (
    StateTopics,
    discard,
    ensure_topics,
    open_producer,
    start,
)
from bridge.sinks.kafka.producer_state import ProducerId, ProducerState, identity_of
from bridge.sinks.kafka.recover_positions import Written, read_written

# Without a fence a broker may still write what a stopped process has sent, until it has processed
# the data of the closed connection.
SETTLE_S = 0.5
# Between two attempts to shut out the same owner as another shard.
MAX_DELAY_S = 1.0
_REFUSALS = (
    kafka_errors.TransactionalIdAuthorizationFailed,
    kafka_errors.UnsupportedVersionError,
    kafka_errors.IncompatibleBrokerVersion,
)

log = structlog.get_logger(__name__)


class Fence:
    """Shuts all other processes out of the topics of this bridge.

    `raised` is set as soon as the ends of the partitions are final. `identity` of `producer_state`
    is the one that the transactional id gives. All shards write to the `shared` topics. With
    `is_required` it is an error if Kafka refuses transactions.
    """

    def __init__(  # noqa: PLR0913 (what it needs to know)
        self,
        options: settings.Kafka,
        state_topics: StateTopics,
        producer_state: ProducerState,
        us: Owner,
        *,
        role: Role | None = None,
        shard: ShardId = WHOLE,
        shared: Collection[str] = (),
        is_required: bool = False,
    ) -> None:
        self.raised = asyncio.Event()
        self._shard, self._shared = shard, {*state_topics, *shared}
        self._options = options
        self._state_topics = state_topics
        self._producer_state = producer_state
        # This bridge, as its last opening of the transactional id has made it.
        self.us = us
        self._role = role or Role()
        self._is_required = is_required
        # Empty if there is no fence.
        self._id = transactional_id_of(options, state_topics.position, shard)
        # What was written before the fence was first raised, for the start. It takes it once.
        self._written: Written | None = None
        # The topics that have markers of the present identity.
        self._topics: set[str] = set()
        self._last_identity: ProducerId | None = None
        self._raising = asyncio.Lock()

    async def raise_around(self, topics: Sequence[str]) -> None:
        """Shut others out of these topics, if they are not yet. Create missing topics.

        Where Kafka refuses transactions, wait until late requests have settled. Raises Fenced if
        another bridge owns the topics now, SinkUnavailable, and SinkRefused if Kafka denies a
        topic.
        """
        async with self._raising:
            if self._producer_state.identity is None:
                self._topics.clear()
            if new := [topic for topic in topics if topic not in self._topics]:
                if self._id:
                    await self._shut(new)
                if not self._id:
                    await asyncio.sleep(SETTLE_S)
                self._topics.update(new)
        self.raised.set()

    async def check_owner(self) -> None:
        """Raise Fenced if another bridge owns the topics now, and SinkUnavailable if Kafka does not
        tell.
        """
        try:
            owners = (await self._read_written()).owners
        except FAILURES as error:
            raise failure(error) from error
        for owner in owners.present().values():
            if not owner.is_same(self.us):
                raise Fenced(str(owner))

    @property
    def owner_key(self) -> bytes | None:
        """Return the key of the records that name the owner; None as long as there is no fence."""
        return owner_key(self._id) if self._id and self.raised.is_set() else None

    def take_written(self) -> Written | None:
        """Return what was written when the fence was first raised; None without a fence, and from
        the second time on.
        """
        written, self._written = self._written, None
        return written

    def forget(self, topic: str) -> None:
        """Write new markers into a topic at the next `raise_around`: it was created again."""
        self._topics.discard(topic)

    def renew(self) -> None:
        """Write new markers at the next `raise_around`, before Kafka forgets the old ones."""
        self._topics.clear()

    async def _shut(self, topics: Sequence[str]) -> None:
        """Write markers into these topics; give up the transactional id if Kafka refuses it."""
        options, allowed = self._options, topics
        producer = self._transactional(self._id)
        self._producer_state.lend(producer)
        try:
            await start(producer, options)
            await self._mark(producer, topics)
        except _REFUSALS as error:
            if self._is_required:
                raise SinkRefused(
                    f"Kafka refuses the transactional id {self._id} ({describe(error)}), which "
                    "cluster.standby and cluster.shards need",
                    "grant Write and Describe on the transactional id",
                ) from error
            log.warning(
                "kafka_fence_refused",
                transactional_id=self._id,
                error=describe(error),
                consequence="a second bridge with the same topics would publish each event again",
                remedy="grant Write and Describe on the transactional id; or set "
                'kafka.transactional_id to "" if this Kafka has no transactions',
            )
            self._id = ""
        except TopicAuthorizationFailedError as error:
            self._producer_state.discard(error)
            denied = topics_denied(error)
            allowed = [topic for topic in topics if topic not in denied.topics]
            if not (self.raised.is_set() and 0 < len(allowed) < len(topics)):
                raise denied from error
            # The right was taken away since the start. The other topics continue.
        except (SinkUnavailable, SinkRefused) as error:
            self._producer_state.discard(error)
            raise
        except FAILURES as error:
            self._producer_state.discard(error)
            raise await self._failure(error) from error
        finally:
            await discard(producer)
        if len(allowed) < len(topics):
            await self._shut(allowed)

    async def _mark(self, producer: AIOKafkaProducer, topics: Sequence[str]) -> None:
        """Write markers through a producer that has opened the transactional id."""
        options, state = self._options, self._producer_state
        found = await ensure_topics(producer, options, list(topics), self._state_topics)
        places = [place for topic in topics for place in self._places(topic, found[topic])]
        # Wait until each partition has a leader. A marker for a topic that was created just now may
        # fail. Then Kafka 4.1 may write no marker of any transactional id for 30 s.
        async with TopicReader(options) as reader:
            await reader.ends(places)
        if state.identity is None:
            await self._own(producer, places)
        await self._write_markers(producer, places)
        state.marked(places)

    def _places(self, topic: str, partitions: Sequence[int]) -> Iterator[TopicPartition]:
        """Yield the partitions of a topic to which this shard writes. Raises SinkRefused if the
        shards cannot share the topic.
        """
        is_shared, count = topic in self._shared, self._shard.count
        if not is_shared and len(partitions) % count:
            raise SinkRefused(
                f"the topic {topic} has {len(partitions)} partitions, which cannot be shared by "
                f"{count} shards",
                "set cluster.shards to a number that divides the partitions of every topic",
            )
        for number in partitions:
            if is_shared or self._shard.has(number):
                yield TopicPartition(topic, number)

    async def _write_markers(
        self, producer: AIOKafkaProducer, places: Sequence[TopicPartition]
    ) -> None:
        async with asyncio.timeout(self._options.request_timeout_ms / 1000):
            # The commit returns before the markers are written. The next one waits for them.
            for _ in range(2):
                await _commit(producer, places)

    async def _own(self, producer: AIOKafkaProducer, places: Sequence[TopicPartition]) -> None:
        """Take over the identity of a producer, write the record that names us as the owner, and
        shut out the owners of another number of shards.

        The record is written before any markers, so that a process that they shut out finds it.
        """
        state = self._producer_state
        if self._last_identity:
            await self._check_identity(self._last_identity, identity_of(producer))
        await state.learn(producer)
        opening = identity_of(producer)
        self.us = replace(
            self.us,
            producer_id=opening.producer_id,
            epoch=opening.epoch,
            generation=self._role.generation,
        )
        writer = await open_producer(self._options, state)
        try:
            await self._write(writer, owner_key(self._id), encode(self.us))
            written = await self._read_written()
            owners = written.owners
            if not self.raised.is_set():
                self._written = written
            # One that has released its shard writes nothing until it opens the id again.
            others = {name: one for name, one in owners.present().items() if name != self._id}
            if others:
                fenced = {
                    name: one.opening
                    if one.state == "released"
                    else await self._shut_out(name, places)
                    for name, one in others.items()
                }
                await self._write(writer, fenced_key(self._id), encode(owners.fenced | fenced))
            await state.learn(writer)
        finally:
            await discard(writer)
        self._last_identity = state.identity

    async def _write(self, writer: AIOKafkaProducer, key: bytes, value: bytes) -> None:
        async with asyncio.timeout(self._options.request_timeout_ms / 1000):
            await writer.send_and_wait(self._state_topics.position, value, key)

    async def _shut_out(self, name: str, places: Sequence[TopicPartition]) -> ProducerId:
        """Shut the owner of another transactional id out of these partitions.

        Our other shards may do the same at this moment, and refuse our markers with it.
        """
        attempts = forever(Backoff(MAX_DELAY_S), kafka_errors.ProducerFenced, on_retry=_on_retry)
        async with asyncio.timeout(self._options.request_timeout_ms / 1000):
            async for attempt in attempts:
                with attempt:
                    return await self._open_instead(name, places)
        raise AssertionError("forever has no end")

    async def _open_instead(self, name: str, places: Sequence[TopicPartition]) -> ProducerId:
        producer = self._transactional(name)
        try:
            await start(producer, self._options)
            await self._write_markers(producer, places)
            log.info("kafka_shard_shut_out", transactional_id=name)
            return identity_of(producer)
        finally:
            await discard(producer)

    def _transactional(self, name: str) -> AIOKafkaProducer:
        """Return a producer that will open a transactional id."""
        return AIOKafkaProducer(
            **client_options(self._options),
            transactional_id=name,
            transaction_timeout_ms=self._options.request_timeout_ms,
        )

    async def _check_identity(self, before: ProducerId, now: ProducerId) -> None:
        """Raise Fenced if another bridge has opened the transactional id between these two."""
        if now == (before.producer_id, before.epoch + 1):
            return
        # The record of the other one may have been written just now, and not be readable yet.
        await asyncio.sleep(SETTLE_S)
        await self.check_owner()

    async def _read_written(self) -> Written:
        options, topic = self._options, self._state_topics.position
        async with TopicReader(options) as reader:
            return await read_written(reader, options, topic, self._shard)

    async def _failure(self, error: Exception) -> SinkUnavailable | SinkRefused:
        options = self._options
        reason = await reason_of(options, error)
        if isinstance(reason, TimeoutError) and reason is error:
            return SinkUnavailable(
                f"Kafka has not opened the transactional id {self._id} within "
                f"{options.request_timeout_ms} ms; if this lasts, check "
                "transaction.state.log.replication.factor of the brokers, or set "
                'kafka.transactional_id to ""'
            )
        return failure(reason, options.bootstrap_servers)


def _on_retry(error: Exception, delay_s: float) -> None:
    log.debug("kafka_shut_out_again", error=describe(error), retry_in_s=round(delay_s, 2))


async def _commit(producer: AIOKafkaProducer, places: Iterable[TopicPartition]) -> None:
    """Commit a transaction without a record. Publicly, only a record includes its partition."""
    await producer.begin_transaction()
    for place in places:
        producer._txn_manager.maybe_add_partition_to_txn(place)  # noqa: SLF001
    await producer.commit_transaction()
