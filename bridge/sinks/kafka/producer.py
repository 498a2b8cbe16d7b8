"""The idempotent producer and its topics: open, make sure of the topics, throw away.

Every await here has an end: with its brokers gone aiokafka's `stop()` alone hangs for over 25 s.
"""

import asyncio

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
from bridge.errors import SinkUnavailable
from bridge.sinks.kafka.producer_state import ProducerState

_TOPIC_EXISTS = kafka_errors.TopicAlreadyExistsError.errno

log = structlog.get_logger(__name__)


async def open_producer(options: settings.Kafka, producer_state: ProducerState) -> AIOKafkaProducer:
    """A started idempotent producer, in the place of the producer_state's last one.

    Raises SinkUnavailable, or SinkRefused where the cluster rejects our credentials or we its
    certificate.
    """
    producer = AIOKafkaProducer(
        **client_options(options),
        enable_idempotence=True,
        compression_type=None if options.compression == "none" else options.compression,
        max_batch_size=options.batch_max_bytes,
    )
    producer_state.lend(producer)
    try:
        await _start(producer, options)
        async with asyncio.timeout(options.request_timeout_ms / 1000):
            await producer_state.learn(producer)
    except FAILURES as error:
        await discard(producer)
        raise failure(await reason_of(options, error), options.bootstrap_servers) from error
    except asyncio.CancelledError:
        await discard(producer)
        raise
    return producer


async def ensure_topics(
    producer: AIOKafkaProducer, options: settings.Kafka, topics: list[str], compacted: str
) -> dict[str, list[int]]:
    """The partitions of each topic, after creating what is missing, where that is allowed; one of
    them keeps the newest record of each key only.
    """
    existing = await producer.client.fetch_all_metadata()
    missing = [topic for topic in topics if topic not in existing.topics()]
    if missing and options.create_topics:
        await _create_topics(
            options, [_new_topic(options, n, is_compacted=n == compacted) for n in missing]
        )
    try:
        return {topic: sorted(await producer.partitions_for(topic)) for topic in topics}
    except kafka_errors.UnknownTopicOrPartitionError as error:
        raise SinkUnavailable(
            f"Kafka has none of the topics {', '.join(missing)}; create them, or allow "
            "kafka.create_topics"
        ) from error


async def discard(producer: AIOKafkaProducer) -> None:
    """Throw a producer away, whatever state it is in.

    What it still holds must not land after the next one has begun. Its `stop` would flush that,
    wait for batches nobody will answer, and leave the sender at work when given up: so the sender
    goes first, with the connections under its requests. Both swallow cancellations: hence `wait`.
    """
    producer._closed = True  # noqa: SLF001 - else it warns that nobody called `stop`
    ending: list[asyncio.Future[None]] = [asyncio.ensure_future(producer.client.close())]
    if (sender := producer._sender.sender_task) is not None:  # noqa: SLF001
        sender.cancel()
        ending.append(sender)
    ended, hung = await asyncio.wait(ending, timeout=STOP_TIMEOUT_S)
    for task in hung:
        task.cancel()
    for task in ended:
        if not task.cancelled() and (error := task.exception()):
            log.debug("kafka_producer_ended", error=str(error))


async def _start(client: AIOKafkaProducer | AIOKafkaAdminClient, options: settings.Kafka) -> None:
    """Start a client. Cancelled in the middle aiokafka would leave a connection open: so it is let
    finish, for a bounded time.
    """
    starting = asyncio.ensure_future(client.start())
    try:
        await asyncio.wait((starting,), timeout=options.request_timeout_ms / 1000)
    except asyncio.CancelledError:
        await asyncio.wait((starting,), timeout=STOP_TIMEOUT_S)
        raise
    finally:
        if not starting.cancel() and not starting.cancelled():
            starting.exception()  # seen: nobody need be told that nobody asked
    if starting.cancelled() or not starting.done():
        raise TimeoutError(f"no answer in {options.request_timeout_ms} ms")
    starting.result()


def _new_topic(options: settings.Kafka, name: str, *, is_compacted: bool) -> NewTopic:
    configs = {} if options.retention_ms is None else {"retention.ms": str(options.retention_ms)}
    if is_compacted:
        configs = {"cleanup.policy": "compact"}
    factor = options.replication_factor
    # -1, the broker's default, is taken only beside an assignment, be it an empty one.
    assignments: dict[int, list[int]] | None = {} if factor == -1 else None
    partitions = 1 if is_compacted else options.partitions
    return NewTopic(name, partitions, factor, assignments, topic_configs=configs)


async def _create_topics(options: settings.Kafka, topics: list[NewTopic]) -> None:
    """Create topics; what the cluster does not allow is logged, and then up to its auto-create."""
    names = [topic.name for topic in topics]
    admin = AIOKafkaAdminClient(**client_options(options))
    try:
        await _start(admin, options)
        async with asyncio.timeout(options.request_timeout_ms / 1000):
            cluster = await admin.describe_cluster()
            if cluster["controller_id"] not in [broker["node_id"] for broker in cluster["brokers"]]:
                log.warning("kafka_topics_not_created", topics=names, error="no controller")
                return  # librdkafka's mock cluster has none: it makes topics when asked about them
            response = await admin.create_topics(topics)
    finally:
        await admin.close()
    for name, code, *message in response.topic_errors:
        if code not in {0, _TOPIC_EXISTS}:
            log.warning("kafka_topic_not_created", topic=name, error=str(message or code))
