"""Reads topics up to their current ends."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import ClassVar

import msgspec
import structlog
from aiokafka import ConsumerRecord, TopicPartition

from bridge import settings
from bridge.brokers.kafka_client import FAILURES
from bridge.brokers.kafka_consumer import (
    Reader,
    absent_topics,
    partitions_of_topics,
    reading_failure,
    retention_ms_of,
)
from bridge.errors import SinkUnavailable

BATCH_MAX_RECORDS = 10_000
# The client retries after this delay, for example if a partition has just got another leader. Its
# default is 100 ms.
RETRY_BACKOFF_MS = 20
# aiokafka does not return from a fetch that brings only markers of transactions, although its
# position moves on. So the position is looked at this often. A fetch that waits longer for new
# records would hold up the next topic: with the default of 500 ms a start took 1 s longer.
LOOK_MS = 20

log = structlog.get_logger(__name__)

# Called with the number of records read so far, and the number of offsets that remain.
OnProgress = Callable[[int, int], None]
Batch = tuple[int, "list[ConsumerRecord[bytes, bytes]]"]


class Partition(msgspec.Struct):
    """A range of offsets of one partition; `end_offset` is excluded."""

    partition: int
    begin_offset: int
    end_offset: int

    def __len__(self) -> int:
        return self.end_offset - self.begin_offset


class TopicReader(Reader):
    """Reads the records of one topic after another. An async context manager."""

    consumer_options: ClassVar = {
        # No reset: if retention removes an offset during the read, the read must fail, not skip.
        "auto_offset_reset": "none",
        "retry_backoff_ms": RETRY_BACKOFF_MS,
        "fetch_max_wait_ms": LOOK_MS,
        "max_poll_records": BATCH_MAX_RECORDS,
    }

    def __init__(self, options: settings.Kafka) -> None:
        super().__init__(options)
        self.remaining = 0
        self._passed_over: set[str] = set()

    async def _open(self) -> None:
        await self._consumer.start()
        self._topics = await partitions_of_topics(self._options)

    async def bounds(
        self,
        topic: str,
        since_ms: int | None = None,
        *,
        has: Callable[[int], bool] = lambda _partition: True,
    ) -> list[Partition]:
        """Return the current bounds of the partitions that `has` accepts by their numbers; empty if
        the topic does not exist.

        With `since_ms` a partition begins at its first record with that time or a later one. Raises
        SinkUnavailable if one of the partitions has no leader.
        """
        partitions = [
            TopicPartition(topic, number) for number in self._topics.get(topic, ()) if has(number)
        ]
        if not partitions:
            return []
        try:
            async with asyncio.timeout(self._timeout_s):
                # Otherwise the client fails for a topic it does not know yet, and retries later:
                # with five topics a start took 0.1 s longer.
                await self._consumer._client.add_topic(topic)  # noqa: SLF001
                begins = await self._consumer.beginning_offsets(partitions)
                ends = await self._consumer.end_offsets(partitions)
                if since_ms is not None:
                    begins = await self._since(partitions, since_ms, ends)
        except FAILURES as error:
            raise reading_failure(self._options, error) from error
        return [Partition(part.partition, begins[part], ends[part]) for part in partitions]

    async def _since(
        self, partitions: list[TopicPartition], since_ms: int, ends: dict[TopicPartition, int]
    ) -> dict[TopicPartition, int]:
        found = await self._consumer.offsets_for_times(dict.fromkeys(partitions, since_ms))
        return {
            part: ends[part] if (at := found[part]) is None else min(at.offset, ends[part])
            for part in partitions
        }

    async def between(self, topic: str, since_ms: int | None, until_ms: int) -> list[Partition]:
        """Return the range of each partition from its first record with the time `since_ms` or a
        later one, up to its first one with `until_ms` or later, or its current end; empty if the
        topic does not exist. Without `since_ms` it is from the beginning.
        """
        begins = await self.bounds(topic, since_ms)
        ends = await self.bounds(topic, until_ms)
        return [
            Partition(part.partition, part.begin_offset, max(part.begin_offset, end.begin_offset))
            for part, end in zip(begins, ends, strict=True)
        ]

    async def retention_ms(self, topic: str) -> int | None:
        """Return how long Kafka keeps the records of a topic; None if that is not known."""
        async with asyncio.timeout(self._timeout_s):
            return await retention_ms_of(self._options, topic)

    async def read(self, topic: str, bounds: list[Partition]) -> AsyncGenerator[Batch, None]:
        """Yield the records inside the bounds: batches of one partition, each partition in order.

        `remaining` is the number of offsets that are still to be read.
        """
        ranges = {TopicPartition(topic, part.partition): part for part in bounds}
        ends = {partition: part.end_offset for partition, part in ranges.items() if len(part)}
        self.remaining = sum(map(len, bounds))
        self._consumer.assign(list(ends))
        for partition in ends:
            self._consumer.seek(partition, ranges[partition].begin_offset)
        deadline = self._deadline()
        while ends:
            fetched = await self._fetch()
            for partition, records in fetched.items():
                if inside := _until(records, ends.get(partition, 0)):
                    yield partition.partition, inside
            before, self.remaining = self.remaining, await self._still_to_come(ends)
            if fetched or self.remaining < before:
                deadline = self._deadline()
            elif asyncio.get_running_loop().time() > deadline:
                raise reading_failure(self._options, TimeoutError())

    async def read_whole(self, topic: str) -> "list[ConsumerRecord[bytes, bytes]]":
        """Return all records of a topic, up to its present end."""
        bounds = await self.bounds(topic)
        return [record async for _, records in self.read(topic, bounds) for record in records]

    def pass_over(self, record: "ConsumerRecord[bytes, bytes]") -> None:
        """Log the first record of each topic that is not ours."""
        if record.topic not in self._passed_over:
            self._passed_over.add(record.topic)
            log.warning(
                "kafka_record_passed_over",
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                error="not a record of ours; others in this topic are not logged",
                remedy="let no other program write to the topics of kafka.topic",
            )

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._timeout_s

    async def _fetch(self) -> dict[TopicPartition, "list[ConsumerRecord[bytes, bytes]]"]:
        """Return the next records; nothing if none arrive within LOOK_MS."""
        try:
            return await self._consumer.getmany(timeout_ms=LOOK_MS)  # type: ignore[no-any-return]
        except FAILURES as error:
            raise reading_failure(self._options, error) from error

    async def _still_to_come(self, ends: dict[TopicPartition, int]) -> int:
        """Return the number of offsets from our positions to the ends; remove finished partitions.

        There may be fewer records than offsets.
        """
        remaining = 0
        for partition, end in list(ends.items()):
            position = await self._consumer.position(partition)
            if position < end:
                remaining += end - position
            else:
                self._consumer.pause(partition)
                del ends[partition]
        return remaining

    def absent(self, topic: str) -> SinkUnavailable:
        """Return the error for a topic that does not exist."""
        return absent_topics(self._options, [topic])


def _until(
    records: "list[ConsumerRecord[bytes, bytes]]", end_offset: int
) -> "list[ConsumerRecord[bytes, bytes]]":
    if records[-1].offset < end_offset:
        return records
    return [record for record in records if record.offset < end_offset]
