"""The Kafka consumer of a feed that shares its topics with other processes: a consumer group.

A symbol has the same partition number in every topic. Partitions with the same number go to the
same process, so each process has the gap events of its own symbols, and of no others.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)
from aiokafka.errors import (
    CommitFailedError,
    GroupAuthorizationFailedError,
    InconsistentGroupProtocolError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from bridge import settings
from bridge.brokers.kafka_client import FAILURES
from bridge.brokers.kafka_consumer import reading_failure
from bridge.brokers.kafka_reader import LOOK_MS
from bridge.client import kafka_consumer
from bridge.client.continuity import CONTIGUOUS
from bridge.client.kafka_consumer import Consumer, Fetched, Offsets, check_range
from bridge.client.start import Start
from bridge.core.model.events import GAP
from bridge.errors import SinkRefused, SinkUnavailable
from bridge.retry import check_cancelled

# The others must give their partitions back first, and one that was killed is waited for.
JOIN_TIMEOUT_S = 30.0

log = logging.getLogger(__name__)


class GroupConsumer(Consumer):
    """A consumer that shares the partitions of its topics with the others of its group.

    `on_revoked` drops what was fetched and returns the offsets to commit. `on_assigned` gets the
    committed offsets, and returns where to continue. Both are called when the partitions change.
    """

    def __init__(  # noqa: PLR0913 - those of Consumer, the group and its callbacks
        self,
        options: settings.Kafka,
        topics: Mapping[str, str],
        keys: frozenset[bytes],
        start: Start,
        *,
        group: str,
        on_revoked: Callable[[], Offsets],
        on_assigned: Callable[[Offsets], Offsets],
    ) -> None:
        super().__init__(options, topics, keys, start)
        self._group = group
        self._on_revoked = on_revoked
        self._on_assigned = on_assigned
        self._open_timeout_s += JOIN_TIMEOUT_S
        self._joined = asyncio.Event()
        # Counts the assignments. `_settled` is the one whose offsets are known.
        self._generation = 0
        self._settled = 0

    async def reopen(self) -> None:
        self._on_revoked()
        self._joined.clear()
        await super().reopen()

    async def commit(self, offsets: Offsets) -> None:
        """Commit offsets. If the partitions have changed meanwhile, log that.

        Raises SinkUnavailable or SinkRefused.
        """
        ours = {at: offset for at, offset in offsets.items() if at in self._consumer.assignment()}
        if not ours:
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._consumer.commit(ours)
        except CommitFailedError:
            log.warning("The group %s has changed: what was not committed comes again", self._group)
        except FAILURES as error:
            raise self._failure(error) from error

    async def fetch(self) -> Fetched:
        try:
            if not await self._settle():
                await self._getmany(LOOK_MS)  # raises why it cannot join
                return {}
            return await self._fetch()
        except NoOffsetForPartitionError:
            return {}  # it was assigned just now, and has its offset after `_settle`
        except FAILURES as error:
            raise self._failure(error) from error

    async def _fetch(self) -> Fetched:
        generation = self._generation
        try:
            fetched = await self._getmany(round(kafka_consumer.QUIET_S * 1000))
            check_cancelled()
        except OffsetOutOfRangeError:
            self._settled = 0  # settling says which records are gone
            return {}
        if not fetched:
            await self._check_cluster()
        return self._noted(fetched) if generation == self._generation else {}

    async def fetch_gaps(self) -> Fetched:
        generation = self._generation
        try:
            fetched = await super().fetch_gaps()
        except (SinkUnavailable, *FAILURES):
            if generation == self._generation:
                raise
            fetched = {}
        return fetched if generation == self._generation else {}

    def revoked(self) -> Offsets:
        """Take note that the partitions are taken away. Return the offsets to commit."""
        self._joined.clear()
        self._generation += 1
        return self._on_revoked()

    def assigned(self) -> None:
        """Take note that partitions are given to us."""
        self._generation += 1
        self._joined.set()

    async def _open(self) -> None:
        self._check_counts(await self._known_partitions())
        self._consumer.subscribe(list(self._topics.values()), listener=_Listener(self))
        await self._consumer.start()
        await self._joined.wait()
        await self._settle()

    async def _settle(self) -> bool:
        """Continue at the committed offsets, or else at the start. Return whether that is done; it
        is not while the group shares its partitions out again.
        """
        while self._joined.is_set() and self._settled != self._generation:
            generation = self._generation
            partitions = sorted(self._consumer.assignment())
            committed = await self._committed(partitions)
            begins = await self._consumer.beginning_offsets(partitions)
            ends = await self._ends(partitions)
            fresh = {at: begins[at] for at in partitions if at not in committed}
            starts = await self._starts(fresh, {at: ends[at] for at in fresh}) if fresh else {}
            if generation == self._generation:
                self._continue_at(self._on_assigned(committed | starts), begins, ends)
                # The next owner of the partition must not start later than we did.
                await self.commit(starts)
        return self._joined.is_set()

    def _continue_at(self, offsets: Offsets, begins: Offsets, ends: Offsets) -> None:
        check_range(offsets, begins, ends)
        self._seek(self._with_gaps_before(offsets, begins))
        self._settled = self._generation

    async def _committed(self, partitions: list[TopicPartition]) -> Offsets:
        found = await asyncio.gather(*map(self._consumer.committed, partitions))
        return {
            at: offset for at, offset in zip(partitions, found, strict=True) if offset is not None
        }

    def _options_of_consumer(self) -> dict[str, Any]:
        return super()._options_of_consumer() | {
            "group_id": self._group,
            "enable_auto_commit": False,
            "partition_assignment_strategy": [_SameNumbers(self._protocol(), self._choose)],
        }

    def _protocol(self) -> str:
        """Return a name that only members with the same topics and symbols have. Kafka refuses
        others: they would take partitions and pass over what they do not read.
        """
        read = repr((sorted(self._topics.values()), sorted(self._keys)))
        return f"tickbridge-{hashlib.sha256(read.encode()).hexdigest()[:16]}"

    def _check_counts(self, known: Mapping[str, list[int]]) -> None:
        """Check that gap events have the same partition number as what they are about."""
        counts = {
            topic: len(known[topic])
            for kind, topic in self._topics.items()
            if kind in {*CONTIGUOUS, GAP} and GAP in self._topics
        }
        if len(set(counts.values())) > 1:
            named = ", ".join(f"{topic} has {count}" for topic, count in counts.items())
            raise SinkRefused(
                f"a group needs topics with the same number of partitions: {named}",
                "add partitions to those with fewer, or read with check='off'",
            )

    async def _opening_failure(self, error: Exception) -> SinkRefused | SinkUnavailable:
        if isinstance(error, TimeoutError):
            return SinkUnavailable(
                f"Kafka did not let us into the group {self._group!r} within "
                f"{self._open_timeout_s:g} s; check that its other members answer"
            )
        return self._refusal(error) or await super()._opening_failure(error)

    def _failure(self, error: Exception) -> SinkRefused | SinkUnavailable:
        return self._refusal(error) or reading_failure(self._options, error)

    def _refusal(self, error: Exception) -> SinkRefused | None:
        if isinstance(error, GroupAuthorizationFailedError):
            return SinkRefused(
                f"Kafka denies the group {self._group!r}",
                "grant the user Read on this group, or give another group",
            )
        if isinstance(error, InconsistentGroupProtocolError):
            return SinkRefused(
                f"the group {self._group!r} has members that read other message types or symbols, "
                "or that are other programs",
                "give each kind of reader a group of its own, or stop the other members first",
            )
        return None


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Tells a consumer that its partitions change. All are taken away before some are given."""

    def __init__(self, consumer: GroupConsumer) -> None:
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        offsets = self._consumer.revoked()
        if not revoked:
            return
        try:
            await self._consumer.commit(offsets)
        except (SinkUnavailable, SinkRefused) as error:
            log.warning("What was read is not committed, and comes again: %s", error)

    def on_partitions_assigned(self, _assigned: Iterable[TopicPartition]) -> None:
        self._consumer.assigned()


class _SameNumbers:
    """An assignor of aiokafka: partitions with the same number go to the same member."""

    def __init__(
        self, name: str, choose: Callable[[dict[str, list[int]]], list[TopicPartition]]
    ) -> None:
        self.name = name
        self._choose = choose

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        return ConsumerProtocolMemberMetadata(0, sorted(topics), b"")

    def assign(
        self, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        topics = next(iter(members.values())).subscription
        known = {topic: sorted(cluster.partitions_for_topic(topic) or ()) for topic in topics}
        chosen = self._choose(known)
        numbers = sorted({at.partition for at in chosen})
        names = sorted(members)
        owners = {number: names[place % len(names)] for place, number in enumerate(numbers)}
        return {
            name: _assignment(at for at in chosen if owners[at.partition] == name) for name in names
        }

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        pass


def _assignment(partitions: Iterable[TopicPartition]) -> ConsumerProtocolMemberAssignment:
    by_topic: dict[str, list[int]] = {}
    for at in partitions:
        by_topic.setdefault(at.topic, []).append(at.partition)
    return ConsumerProtocolMemberAssignment(0, sorted(by_topic.items()), b"")
