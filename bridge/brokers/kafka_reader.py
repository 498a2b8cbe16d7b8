"""Topics read up to where they end now."""

import asyncio
from collections.abc import AsyncGenerator
from typing import ClassVar

import msgspec
from aiokafka import ConsumerRecord, TopicPartition

from bridge import settings
from bridge.brokers.kafka_client import FAILURES
from bridge.brokers.kafka_consumer import (
    Reader,
    absent_topics,
    partitions_of_topics,
    reading_failure,
)
from bridge.errors import SinkUnavailable

BATCH_MAX_RECORDS = 10_000
# Of 100 by default, twice, a start had 0.2 s.
RETRY_BACKOFF_MS = 20

Batch = tuple[int, "list[ConsumerRecord[bytes, bytes]]"]


class Partition(msgspec.Struct):
    """A partition, and the offsets it was read between; `end_offset` excluded."""

    partition: int
    begin_offset: int
    end_offset: int

    def __len__(self) -> int:
        return self.end_offset - self.begin_offset


class TopicReader(Reader):
    """Records of one topic after the other. An async context manager."""

    consumer_options: ClassVar = {
        # No reset: an offset that retention took while we read must not become another one.
        "auto_offset_reset": "none",
        # The client learns of a topic by failing once, and this is how long it then waits.
        "retry_backoff_ms": RETRY_BACKOFF_MS,
        "max_poll_records": BATCH_MAX_RECORDS,
    }

    def __init__(self, options: settings.Kafka) -> None:
        super().__init__(options)
        self.remaining = 0

    async def _open(self) -> None:
        await self._consumer.start()
        self._topics = await partitions_of_topics(self._options)

    async def bounds(self, topic: str, since_ms: int | None = None) -> list[Partition]:
        """Where each partition begins and ends just now; none where there is no such topic. With
        `since_ms` it begins at the first record with that time or a later one.
        """
        partitions = [TopicPartition(topic, number) for number in self._topics.get(topic, ())]
        if not partitions:
            return []
        try:
            async with asyncio.timeout(self._timeout_s):
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
            place: ends[place] if (at := found[place]) is None else min(at.offset, ends[place])
            for place in partitions
        }

    async def read(self, topic: str, bounds: list[Partition]) -> AsyncGenerator[Batch, None]:
        """Every record inside the bounds, in batches of one partition, each partition's in order.

        `remaining` says how many offsets are still to come.
        """
        places = {TopicPartition(topic, part.partition): part for part in bounds}
        ends = {place: part.end_offset for place, part in places.items() if len(part)}
        self.remaining = sum(map(len, bounds))
        self._consumer.assign(list(ends))
        for place in ends:
            self._consumer.seek(place, places[place].begin_offset)
        while ends:
            fetched = await self._fetch()
            for place, records in fetched.items():
                if inside := _until(records, ends.get(place, 0)):
                    yield place.partition, inside
            before, self.remaining = self.remaining, await self._still_to_come(ends)
            if not fetched and self.remaining == before:
                raise reading_failure(self._options, TimeoutError())

    async def _fetch(self) -> dict[TopicPartition, "list[ConsumerRecord[bytes, bytes]]"]:
        """What has come; nothing where nothing comes any more."""
        try:
            return await self._consumer.getmany(timeout_ms=round(self._timeout_s * 1000))  # type: ignore[no-any-return]
        except FAILURES as error:
            raise reading_failure(self._options, error) from error

    async def _still_to_come(self, ends: dict[TopicPartition, int]) -> int:
        """Offsets up to the ends, by our positions: records may be fewer. Finished ones go."""
        remaining = 0
        for place, end in list(ends.items()):
            position = await self._consumer.position(place)
            if position < end:
                remaining += end - position
            else:
                self._consumer.pause(place)
                del ends[place]
        return remaining

    def absent(self, topic: str) -> SinkUnavailable:
        """The error of a topic that is not there."""
        return absent_topics(self._options, [topic])


def _until(
    records: "list[ConsumerRecord[bytes, bytes]]", end_offset: int
) -> "list[ConsumerRecord[bytes, bytes]]":
    if records[-1].offset < end_offset:
        return records
    return [record for record in records if record.offset < end_offset]
