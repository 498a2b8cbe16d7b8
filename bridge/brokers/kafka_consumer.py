"""A consumer without a group, opened and closed in bounded time: reading leaves no trace."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, ClassVar, Self

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, OffsetOutOfRangeError

from bridge import settings
from bridge.brokers.kafka_client import FAILURES, STOP_TIMEOUT_S, client_options, failure
from bridge.errors import SinkRefused, SinkUnavailable


class Reader(ABC):
    """An async context manager with a consumer of aiokafka's, open while it is entered.

    Raises SinkRefused where the cluster rejects our credentials, SinkUnavailable where it is not
    there or does not answer within `kafka.request_timeout_ms`.
    """

    consumer_options: ClassVar[dict[str, Any]]

    def __init__(self, options: settings.Kafka) -> None:
        self._options = options
        self._timeout_s = options.request_timeout_ms / 1000

    async def __aenter__(self) -> Self:
        self._consumer = AIOKafkaConsumer(**client_options(self._options), **self.consumer_options)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._open()
        except BaseException as error:
            await _stop(self._consumer)
            if isinstance(error, FAILURES):
                raise reading_failure(self._options, error) from error
            raise
        return self

    async def __aexit__(self, *_error: object) -> None:
        await _stop(self._consumer)

    @abstractmethod
    async def _open(self) -> None:
        """Start the consumer, and find out what is to be read."""


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


async def _stop(consumer: AIOKafkaConsumer) -> None:
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
