"""Opens the idempotent producer, creates its topics, and discards it.

Every await here is bounded. Without its brokers, aiokafka's `stop()` alone hangs for over 25 s.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import NamedTuple

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from bridge import settings
from bridge.brokers.kafka_client import (
    FAILURES,
    STOP_TIMEOUT_S,
    client_options,
    failure,
    reason_of,
)
from bridge.errors import SinkUnavailable, describe, shorten
from bridge.sinks.kafka.producer_state import ProducerState

_TOPIC_EXISTS = kafka_errors.TopicAlreadyExistsError.errno

# Kafka compacts a segment when it is full. A start and a takeover read what is not compacted yet:
# 15 MB of heartbeats take 0.2 s.
COMPACTED_SEGMENT_BYTES = 16 * 2**20

# The sender task ends its requests within 0.1 s, or never.
SENDER_TIMEOUT_S = 0.3

# A batch without an answer, or with one that may be repeated, is sent again after this time.
RETRY_BACKOFF_MS = 100

log = structlog.get_logger(__name__)


class StateTopics(NamedTuple):
    """The topics that keep only the newest record of each key."""

    position: str
    status: str


async def open_producer(options: settings.Kafka, producer_state: ProducerState) -> AIOKafkaProducer:
    """Start an idempotent producer that continues the last one of `producer_state`.

    Raises SinkUnavailable, or SinkRefused if the cluster rejects our credentials or its
    certificate cannot be verified.
    """
    producer = AIOKafkaProducer(
        **client_options(options),
        enable_idempotence=True,
        compression_type=None if options.compression == "none" else options.compression,
        max_batch_size=options.batch_max_bytes,
        retry_backoff_ms=RETRY_BACKOFF_MS,
    )
    producer_state.lend(producer)
    await _open(producer, options, producer_state.learn)
    return producer


async def open_writer(options: settings.Kafka) -> AIOKafkaProducer:
    """Start a producer for single records, which may be lost. Raises as `open_producer` does."""
    producer = AIOKafkaProducer(**client_options(options))
    # It asks for all topics: asked for one by name, a broker might create it.
    await _open(producer, options, lambda opened: opened.client.set_topics(()))
    return producer


async def _open(
    producer: AIOKafkaProducer,
    options: settings.Kafka,
    prepare: Callable[[AIOKafkaProducer], Awaitable[object]],
) -> None:
    """Start a producer, and prepare it. Discard it if that fails."""
    try:
        await start(producer, options)
        async with asyncio.timeout(options.request_timeout_ms / 1000):
            await prepare(producer)
    except FAILURES as error:
        await discard(producer)
        raise failure(await reason_of(options, error), options.bootstrap_servers) from error
    except asyncio.CancelledError:
        await discard(producer)
        raise


async def check_access(options: settings.Kafka) -> None:
    """Connect and log in as a start of the sink does. Writes nothing, and fences no other bridge.

    Raises SinkRefused, or SinkUnavailable if the brokers cannot be reached.
    """
    await discard(await open_producer(options, ProducerState()))


async def ensure_topics(
    producer: AIOKafkaProducer,
    options: settings.Kafka,
    topics: list[str],
    compacted: Collection[str],
) -> dict[str, list[int]]:
    """Return the partitions of each topic; create missing topics if `kafka.create_topics` is set.

    Topics in `compacted` are created with the cleanup policy `compact`: they keep only the newest
    record of each key. Raises SinkUnavailable if a topic is missing.
    """
    client = producer.client
    # The client asks for all topics. If it asked for ours by name, a broker could create a topic
    # that was deleted, with its own defaults.
    await client.set_topics(())
    missing = [topic for topic in topics if topic not in client.cluster.topics()]
    refusal = None
    if missing and options.create_topics:
        refusal = await _create_topics(
            options, [_new_topic(options, n, is_compacted=n in compacted) for n in missing]
        )
    try:
        found = {topic: sorted(await producer.partitions_for(topic)) for topic in topics}
    except kafka_errors.UnknownTopicOrPartitionError as error:
        why = f", and does not create them ({refusal})" if refusal else ""
        remedy = "remove the reason" if refusal else "set kafka.create_topics to true"
        raise SinkUnavailable(
            f"Kafka does not have the topics {', '.join(missing)}{why}; create them, or {remedy}"
        ) from error
    finally:
        if missing:
            await client.set_topics(())
    if refusal:
        log.warning(
            "kafka_topics_not_created",
            topics=missing,
            error=refusal,
            consequence="the cluster has created them with its own defaults",
        )
    return found


async def discard(producer: AIOKafkaProducer) -> None:
    """Discard a producer in any state.

    The records it still holds must not be committed after the next producer has started. Its `stop`
    would send them, would wait for batches that are never answered, and would leave its sender task
    running after a timeout. So the sender task is cancelled and the connections are closed here.
    Both swallow cancellations, so this waits with `asyncio.wait`. A request that was cut off makes
    the sender task wait for metadata that no longer comes, so it gets SENDER_TIMEOUT_S only.
    """
    producer._closed = True  # noqa: SLF001 - otherwise it warns that `stop` was not called
    closing = asyncio.ensure_future(producer.client.close())
    ending: list[asyncio.Future[None]] = [closing]
    if (sender := producer._sender.sender_task) is not None:  # noqa: SLF001
        sender.cancel()
        ending.append(sender)
    await asyncio.wait((closing,), timeout=STOP_TIMEOUT_S)
    ended, hung = await asyncio.wait(ending, timeout=SENDER_TIMEOUT_S)
    for task in hung:
        task.cancel()
    for task in ended:
        if not task.cancelled() and (error := task.exception()):
            log.debug("kafka_producer_ended", error=describe(error))


async def start(client: AIOKafkaProducer | AIOKafkaAdminClient, options: settings.Kafka) -> None:
    """Start a client. On cancellation, wait a bounded time for the start to finish. Raises
    TimeoutError after `kafka.request_timeout_ms`, and what aiokafka raises.

    If the start itself were cancelled, aiokafka would leave a connection open.
    """
    starting = asyncio.ensure_future(client.start())
    try:
        await asyncio.wait((starting,), timeout=options.request_timeout_ms / 1000)
    except asyncio.CancelledError:
        await asyncio.wait((starting,), timeout=STOP_TIMEOUT_S)
        raise
    finally:
        if not starting.cancel() and not starting.cancelled():
            starting.exception()  # retrieved, so that asyncio does not log it
    if starting.cancelled() or not starting.done():
        raise TimeoutError(f"no answer within {options.request_timeout_ms} ms")
    starting.result()


def _new_topic(options: settings.Kafka, name: str, *, is_compacted: bool) -> NewTopic:
    configs = {} if options.retention_ms is None else {"retention.ms": str(options.retention_ms)}
    if is_compacted:
        configs = {"cleanup.policy": "compact", "segment.bytes": str(COMPACTED_SEGMENT_BYTES)}
    factor = options.replication_factor
    # aiokafka accepts -1, the broker's default, only with an assignment; it may be empty.
    assignments: dict[int, list[int]] | None = {} if factor == -1 else None
    partitions = 1 if is_compacted else options.partitions
    return NewTopic(name, partitions, factor, assignments, topic_configs=configs)


async def _create_topics(options: settings.Kafka, topics: list[NewTopic]) -> str | None:
    """Create topics. Return the first reason why the cluster does not; it may still create them
    automatically.
    """
    admin = AIOKafkaAdminClient(**client_options(options))
    try:
        await start(admin, options)
        async with asyncio.timeout(options.request_timeout_ms / 1000):
            cluster = await admin.describe_cluster()
            if cluster["controller_id"] not in [broker["node_id"] for broker in cluster["brokers"]]:
                # librdkafka's mock cluster: it creates topics on a metadata request.
                return "it has no controller"
            response = await admin.create_topics(topics)
    finally:
        await admin.close()
    refusals = (
        shorten(f"{name}: {' '.join(filter(None, message)) or code}")
        for name, code, *message in response.topic_errors
        if code not in {0, _TOPIC_EXISTS}
    )
    return next(refusals, None)
