"""Topics read up to where they end now, without a consumer group: reading leaves no trace."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, OffsetOutOfRangeError

from bridge import settings
from bridge.errors import SinkRefused, SinkUnavailable
from bridge.sinks.kafka_client import FAILURES, client_options, failure

BATCH_MAX_RECORDS = 10_000
STOP_TIMEOUT_S = 3.0

Batch = tuple[int, "list[ConsumerRecord[bytes, bytes]]"]


class Partition(msgspec.Struct):
    """A partition, and the offsets it was read between; `end_offset` excluded."""

    partition: int
    begin_offset: int
    end_offset: int

    def __len__(self) -> int:
        return self.end_offset - self.begin_offset


class TopicReader:
    """Records of one topic after the other. An async context manager."""

    def __init__(self, options: settings.Kafka) -> None:
        self.remaining = 0
        self._options = options
        self._timeout_s = options.request_timeout_ms / 1000

    async def __aenter__(self) -> Self:
        # No reset: an offset that retention took while we read must not become another one.
        self._consumer = AIOKafkaConsumer(
            **client_options(self._options),
            auto_offset_reset="none",
            max_poll_records=BATCH_MAX_RECORDS,
        )
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._consumer.start()
                self._topics = await partitions_of_topics(self._options)
        except BaseException as error:
            await stop_consumer(self._consumer)
            if isinstance(error, FAILURES):
                raise reading_failure(self._options, error) from error
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await stop_consumer(self._consumer)

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


async def partitions_of_topics(options: settings.Kafka) -> dict[str, list[int]]:
    """Partitions of every topic of the cluster: asking for one by name might create it."""
    admin = AIOKafkaAdminClient(**client_options(options))
    try:
        await admin.start()
        topics: list[dict[str, Any]] = await admin.describe_topics()
    finally:
        await admin.close()
    return {
        topic["topic"]: sorted(part["partition"] for part in topic["partitions"])
        for topic in topics
    }


def absent_topics(options: settings.Kafka, topics: Iterable[str]) -> SinkUnavailable:
    """The error of topics that are not there."""
    return SinkUnavailable(
        f"Kafka has no topic {', '.join(topics)}: does a bridge publish there, and is "
        f"kafka.topic {options.topic!r} its template?"
    )


def reading_failure(options: settings.Kafka, error: Exception) -> SinkRefused | SinkUnavailable:
    """Our error for what a consumer has failed of."""
    servers = ", ".join(options.bootstrap_servers)
    if isinstance(error, TimeoutError):
        timeout_s = options.request_timeout_ms / 1000
        return SinkUnavailable(f"Kafka at {servers} does not answer in {timeout_s:g} s")
    if isinstance(error, KafkaConnectionError):
        return SinkUnavailable(
            f"Kafka at {servers} cannot be reached: is it running, and does "
            f"kafka.security_protocol {options.security_protocol} fit?"
        )
    if isinstance(error, OffsetOutOfRangeError):
        return SinkUnavailable(
            "retention removed records before they were read; try again, or keep them longer"
        )
    return failure(error)


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer, whatever state it is in."""
    with suppress(*FAILURES):
        async with asyncio.timeout(STOP_TIMEOUT_S):
            try:
                await consumer.stop()
            except asyncio.CancelledError:
                if (task := asyncio.current_task()) and task.cancelling():
                    raise
                # A fetch that was waiting to be retried: stop() dies of having cancelled it.
                await consumer._client.close()  # noqa: SLF001 - it left that open


def _until(
    records: "list[ConsumerRecord[bytes, bytes]]", end_offset: int
) -> "list[ConsumerRecord[bytes, bytes]]":
    if records[-1].offset < end_offset:
        return records
    return [record for record in records if record.offset < end_offset]
