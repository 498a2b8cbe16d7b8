"""Reads the heartbeats of the owner of the topics, until this bridge may take over.

Only the arrival of a heartbeat counts, by the clock of this machine: the clocks may differ. A
heartbeat is missing only while Kafka answers. If it does not, Kafka has failed, and not the owner.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import ClassVar, Literal

import structlog
from aiokafka import ConsumerRecord, TopicPartition

from bridge import settings
from bridge.brokers.kafka_client import FAILURES
from bridge.brokers.kafka_consumer import Reader, partitions_of_topics, reading_failure
from bridge.brokers.kafka_reader import LOOK_MS, RETRY_BACKOFF_MS
from bridge.core.model.stream import SPOT
from bridge.core.records.record import topic_name
from bridge.core.sequencing.position import MESSAGE_TYPE
from bridge.errors import Fenced, SinkUnavailable
from bridge.retry import Backoff, forever
from bridge.sinks.kafka.owner import (
    BEATS_PER_TAKEOVER,
    Owner,
    owner_key,
    read_owner,
    transactional_id_of,
)

MAX_DELAY_S = 1.0

# Why this bridge takes over. none: there was no owner. silent: its heartbeats are missing.
Reason = Literal["none", "released", "silent", "cut", "foreign"]

log = structlog.get_logger(__name__)


class OwnerWatch:
    """Waits until the topics have no owner, or one that this bridge may replace.

    `owner` is the last one that was heard of. `is_reading` is false while Kafka does not answer.
    `can_replace` returns whether this bridge receives all streams, so that it may replace an owner
    that does not. With `is_patient` an owner of another group is replaced only if it is silent.
    With `has_records` this bridge has records of an earlier process on disk: an owner that is alive
    has published or announced them.
    """

    def __init__(
        self,
        options: settings.Kafka,
        cluster: settings.Cluster,
        *,
        can_replace: Callable[[], bool],
        is_patient: bool,
        has_records: bool,
    ) -> None:
        self.owner: Owner | None = None
        self.is_reading = False
        self._options = options
        self._cluster = cluster
        self._topic = topic_name(options.topic, SPOT, MESSAGE_TYPE)
        self._key = owner_key(transactional_id_of(options, self._topic))
        self._can_replace, self._is_patient = can_replace, is_patient
        self._has_records = has_records
        self._takeover_s = cluster.takeover_ms / 1000
        # Since when, by the event loop's clock, Kafka answers and has no heartbeat of the owner.
        # And since when the owner does not receive all streams.
        self._silent_since_s: float | None = None
        self._cut_since_s: float | None = None

    async def until_free(self) -> Reason:
        """Return when this bridge may take over, and why.

        Raises Fenced if another bridge is the owner, and the settings refuse that, or this bridge
        has records on disk. Raises SinkRefused if Kafka denies reading.
        """
        backoff = Backoff(MAX_DELAY_S)

        def on_retry(error: Exception, delay_s: float) -> None:
            self.is_reading, self._silent_since_s = False, None
            if backoff.should_log(error):
                log.warning("owner_watch_waiting", error=str(error), retry_in_s=round(delay_s, 2))

        async for attempt in forever(backoff, SinkUnavailable, on_retry=on_retry):
            with attempt:
                return await self._watch(backoff)
        raise AssertionError("forever has no end")

    async def _watch(self, backoff: Backoff) -> Reason:
        """Watch until Kafka fails. Raises SinkUnavailable then."""
        async with _BeatReader(self._options, self._topic) as reader:
            async for record in reader.read_written():
                self._see(record)
            self.is_reading = True
            backoff.worked()
            if reason := self._at_start():
                return reason
            log.info("standing_by", owner=str(self.owner), group=self._cluster.group)
            return await self._follow(reader)

    def _at_start(self) -> Reason | None:
        """Return why the topics are free by their last record; None if that takes a wait."""
        owner = self.owner
        if owner is None:
            return "none"
        if owner.state == "released":
            return "released"
        may_wait = self._is_patient or self._cluster.if_owned == "refuse"
        return None if may_wait or self._stands_by_for(owner) else "foreign"

    async def _follow(self, reader: "_BeatReader") -> Reason:
        """Take heartbeats until one of them, or their absence, makes the topics free."""
        loop = asyncio.get_running_loop()
        while True:
            records = await reader.next(self._takeover_s / BEATS_PER_TAKEOVER)
            has_more = await reader.has_more()
            for record in records:
                self._hear(record, loop.time())
            if has_more:
                self._silent_since_s = None
            elif reason := self._reason(loop.time()):
                return reason

    def _hear(self, record: "ConsumerRecord[bytes, bytes]", now_s: float) -> None:
        """Take a record that was written just now."""
        owner = self._see(record)
        if owner is None:
            return
        self._silent_since_s = None
        if owner.state != "cut":
            self._cut_since_s = None
        elif self._cut_since_s is None:
            self._cut_since_s = now_s
        is_refused = self._cluster.if_owned == "refuse" and not self._stands_by_for(owner)
        if owner.state != "released" and (is_refused or self._has_records):
            raise Fenced(str(owner))

    def _see(self, record: "ConsumerRecord[bytes, bytes]") -> Owner | None:
        """Take a record of the position topic. Return the owner that it names, if it does."""
        owner = read_owner(record.value) if record.key == self._key else None
        if owner is None or (self.owner is not None and owner.opening < self.owner.opening):
            return None
        if self.owner is None or not owner.is_same(self.owner):
            self._cut_since_s = None
        self.owner = owner
        return owner

    def _reason(self, now_s: float) -> Reason | None:
        """Return why the topics are free, if they are, after all heartbeats up to now."""
        if self.owner is not None and self.owner.state == "released":
            return "released"
        if self._silent_since_s is None:
            self._silent_since_s = now_s
        if now_s - self._silent_since_s >= self._takeover_s:
            return "silent"
        is_cut = self._cut_since_s is not None and now_s - self._cut_since_s >= self._takeover_s
        return "cut" if is_cut and self._can_replace() else None

    def _stands_by_for(self, owner: Owner) -> bool:
        return bool(self._cluster.standby) and owner.group == self._cluster.group


class _BeatReader(Reader):
    """Reads the position topic, and what is written to it from then on."""

    consumer_options: ClassVar = {
        # No reset: a topic that was created again is read from its beginning, by another reader.
        "auto_offset_reset": "none",
        "retry_backoff_ms": RETRY_BACKOFF_MS,
    }

    def __init__(self, options: settings.Kafka, topic: str) -> None:
        super().__init__(options)
        self._place = TopicPartition(topic, 0)

    async def _open(self) -> None:
        await self._consumer.start()
        self._is_there = self._place.topic in await partitions_of_topics(self._options)
        if self._is_there:
            self._consumer.assign([self._place])

    async def read_written(self) -> "AsyncGenerator[ConsumerRecord[bytes, bytes], None]":
        """Yield all records up to now; none if the topic does not exist."""
        if not self._is_there:
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                begins = await self._consumer.beginning_offsets([self._place])
                self._consumer.seek(self._place, begins[self._place])
        except FAILURES as error:
            raise reading_failure(self._options, error) from error
        while await self.has_more():
            for record in await self.next(LOOK_MS / 1000):
                yield record

    async def next(self, timeout_s: float) -> "list[ConsumerRecord[bytes, bytes]]":
        """Return the next records; none if none come in time. Raises SinkUnavailable."""
        try:
            fetched = await self._consumer.getmany(timeout_ms=round(timeout_s * 1000))
        except FAILURES as error:
            raise reading_failure(self._options, error) from error
        return [record for records in fetched.values() for record in records]

    async def has_more(self) -> bool:
        """Return whether there are further records. Raises SinkUnavailable if Kafka does not
        answer.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                ends = await self._consumer.end_offsets([self._place])
                return await self._consumer.position(self._place) < ends[self._place]  # type: ignore[no-any-return]
        except FAILURES as error:
            raise reading_failure(self._options, error) from error
