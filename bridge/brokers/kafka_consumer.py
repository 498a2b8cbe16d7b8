"""A Kafka consumer that opens and closes in bounded time.

It joins no group and commits no offsets, so reading changes nothing in Kafka. The exceptions are a
feed of `bridge.client` with a consumer group, and the group of the bridges.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Self

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError, OffsetOutOfRangeError

from bridge import settings
from bridge.brokers.kafka_client import (
    FAILURES,
    STOP_TIMEOUT_S,
    client_options,
    failure,
    unreachable_broker,
)
from bridge.errors import SinkRefused, SinkUnavailable
from bridge.retry import check_cancelled

# A busy event loop may be late by this much.
BUSY_S = 1.0


class Reader(ABC):
    """An async context manager that holds an open consumer of aiokafka.

    Raises SinkRefused if the cluster rejects our credentials, and SinkUnavailable if it cannot be
    reached or does not answer within `kafka.request_timeout_ms`.
    """

    consumer_options: ClassVar[dict[str, Any]]

    def __init__(self, options: settings.Kafka) -> None:
        self._options = options
        self._timeout_s = options.request_timeout_ms / 1000
        self._open_timeout_s = self._timeout_s

    async def __aenter__(self) -> Self:
        self._consumer = AIOKafkaConsumer(**self._options_of_consumer())
        try:
            async with asyncio.timeout(self._open_timeout_s):
                await self._open()
        except BaseException as error:
            await _stop(self._consumer)
            if isinstance(error, FAILURES):
                raise await self._opening_failure(error) from error
            raise
        return self

    async def __aexit__(self, *_error: object) -> None:
        await _stop(self._consumer)

    async def ends(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the offset after the last record of each partition.

        Raises SinkUnavailable if one of them has no leader that answers for it.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                for topic in dict.fromkeys(partition.topic for partition in partitions):
                    # Otherwise the client fails for a topic it does not know yet, and retries.
                    await self._consumer._client.add_topic(topic)  # noqa: SLF001
                return await self._consumer.end_offsets(partitions)  # type: ignore[no-any-return]
        except FAILURES as error:
            raise reading_failure(self._options, error) from error

    async def _getmany(
        self, timeout_ms: int
    ) -> "dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]]":
        """Return the next records for a member of a group; none if none arrive in time."""
        try:
            async with asyncio.timeout(timeout_ms / 1000 + BUSY_S):
                return await self._consumer.getmany(timeout_ms=timeout_ms)  # type: ignore[no-any-return]
        except TimeoutError:
            return {}  # while the group does not answer, aiokafka waits without a limit

    def _options_of_consumer(self) -> dict[str, Any]:
        return client_options(self._options) | self.consumer_options

    async def _opening_failure(self, error: Exception) -> SinkRefused | SinkUnavailable:
        check_cancelled()
        with suppress(*FAILURES):
            if unreachable := await unreachable_broker(self._options):
                return failure(unreachable, self._options.bootstrap_servers)
        return reading_failure(self._options, error)

    @abstractmethod
    async def _open(self) -> None:
        """Start the consumer, and find out what it can read."""


async def partitions_of_topics(options: settings.Kafka) -> dict[str, list[int]]:
    """Return the partitions of every topic of the cluster.

    A request for one topic by name might create that topic.
    """
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


async def retention_ms_of(options: settings.Kafka, topic: str) -> int | None:
    """Return how long Kafka keeps the records of a topic; None if that has no limit, depends on
    their size too, or may not be asked.
    """
    admin = AIOKafkaAdminClient(**client_options(options))
    try:
        await admin.start()
        answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    except FAILURES:
        return None
    finally:
        await admin.close()
    entries = [
        entry for answer in answers for resource in answer.resources for entry in resource[4]
    ]
    values = {name: value for name, value, *_ in entries}
    if values.get("retention.bytes") != "-1" or values.get("retention.ms", "-1") == "-1":
        return None
    return int(values["retention.ms"])


def absent_topics(options: settings.Kafka, topics: Iterable[str]) -> SinkUnavailable:
    """Return the error for topics that do not exist."""
    return SinkUnavailable(
        f"Kafka has no topic {', '.join(topics)}; check that a bridge publishes to it, and that "
        f"kafka.topic {options.topic!r} is the template of that bridge"
    )


def reading_failure(options: settings.Kafka, error: Exception) -> SinkRefused | SinkUnavailable:
    """Return our error for the failure of a consumer."""
    servers = ", ".join(options.bootstrap_servers)
    if isinstance(error, TimeoutError):
        timeout_s = options.request_timeout_ms / 1000
        return SinkUnavailable(f"Kafka at {servers} does not answer within {timeout_s:g} s")
    if isinstance(error, KafkaConnectionError):
        return SinkUnavailable(
            f"Kafka at {servers} cannot be reached; check that it is running and that "
            f"kafka.security_protocol {options.security_protocol} matches its listener"
        )
    if isinstance(error, OffsetOutOfRangeError):
        return SinkUnavailable(
            "retention removed records before they were read; try again, or raise the retention of "
            "the topic"
        )
    return failure(error)


async def _stop(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer in any state."""
    with suppress(*FAILURES):
        async with asyncio.timeout(STOP_TIMEOUT_S):
            try:
                await consumer.stop()
            except asyncio.CancelledError:
                if (task := asyncio.current_task()) and task.cancelling():
                    raise
                # `stop` cancels a fetch that waits for its retry, and then fails with that
                # cancellation.
                await consumer._client.close()  # noqa: SLF001 - `stop` has left it open
