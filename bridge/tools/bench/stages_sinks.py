"""The stages from the buffers of the sinks to the brokers, and the client libraries alone."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import uuid4

import msgspec
from aiokafka import AIOKafkaProducer

from bridge import settings
from bridge.brokers.redis_client import connect
from bridge.core.model.stream import SPOT
from bridge.core.records.latest_values import prices_key
from bridge.core.records.record import Record
from bridge.pipeline.sink import Sink
from bridge.settings.urls import SecretUrl
from bridge.sinks.kafka.sink import KafkaSink
from bridge.sinks.redis.access import SCRIPT
from bridge.sinks.redis.sink import RedisSink
from bridge.tools.bench.brokers import Brokers, create_topics, remove_traces
from bridge.tools.bench.stages import Material, least

TIMEOUT_S = 60.0
_OUTBOX_BYTES = 2**30


async def outbox_to_kafka(brokers: Brokers, material: Material, rounds: int) -> float:
    """Measure our sink until all records are acknowledged, in microseconds per record."""
    async with _topic(brokers) as (options, topic):
        sink = KafkaSink(options, [topic])
        return await _through(sink, _filed_under(topic, material.records), material, rounds)


async def queue_to_redis(brokers: Brokers, material: Material, rounds: int) -> float:
    """Measure our sink until all messages are published, in microseconds per message."""
    options = _redis_options(brokers, material)
    cost = await _through(RedisSink(options, SPOT), material.records, material, rounds)
    symbols = sorted({record.route.symbol for record in material.records})
    await remove_traces(brokers, "bench-of-nobody", symbols)
    return cost


@asynccontextmanager
async def _topic(brokers: Brokers) -> AsyncIterator[tuple[settings.Kafka, str]]:
    """Create a topic, and delete it in the end. Yield the settings of a sink for it, and its
    name.
    """
    prefix = f"bench{uuid4().hex[:8]}"
    topic = f"{prefix}.stage"
    await create_topics(brokers.kafka, [topic])
    options = settings.Kafka.model_validate(
        {
            "bootstrap_servers": [brokers.kafka],
            "outbox_max_bytes": _OUTBOX_BYTES,
            "topic": prefix + ".{venue}.{message_type}",
        }
    )
    try:
        yield options, topic
    finally:
        await remove_traces(brokers, prefix, [])


def _redis_options(brokers: Brokers, material: Material) -> settings.Redis:
    """Return the settings of a sink whose queue holds all messages."""
    values = {"url": SecretUrl(brokers.redis), "publish_max_records": len(material.records)}
    return settings.Redis.model_validate(values)


async def _through(sink: Sink, records: Sequence[Record], material: Material, rounds: int) -> float:
    events = zip(records, material.events, strict=True)
    latest = {record.route: event for record, event in events}

    async def push_all() -> None:
        sink.push(records, latest)
        async with asyncio.timeout(TIMEOUT_S):
            await sink.drained()

    running = asyncio.create_task(sink.run())
    try:
        await push_all()  # the first round opens the connection
        return await least(len(records), rounds, push_all)
    finally:
        running.cancel()
        await asyncio.wait((running,))


def _filed_under(topic: str, records: Sequence[Record]) -> list[Record]:
    """Return the records with a topic of the benchmark. No position is stored for them."""
    routes = {
        record.route: msgspec.structs.replace(record.route, topic=topic) for record in records
    }
    return [
        msgspec.structs.replace(record, route=routes[record.route], mark=-1) for record in records
    ]


async def kafka_floor(brokers: Brokers, material: Material, rounds: int) -> float:
    """Measure `send_batch` alone, in microseconds per record."""
    async with _topic(brokers) as (options, topic):
        return await _send_batches(options, topic, material, rounds)


async def _send_batches(
    options: settings.Kafka, topic: str, material: Material, rounds: int
) -> float:
    rows = [(r.route.key, r.value, r.timestamp_ms) for r in material.records]
    producer = AIOKafkaProducer(
        bootstrap_servers=options.bootstrap_servers,
        enable_idempotence=True,
        compression_type=options.compression,
        max_batch_size=options.batch_max_bytes,
    )

    async def send_all() -> None:
        batch, sent = producer.create_batch(), []
        for key, value, timestamp in rows:
            if batch.append(key=key, value=value, timestamp=timestamp) is None:
                sent.append(await producer.send_batch(batch, topic, partition=0))
                batch = producer.create_batch()
                batch.append(key=key, value=value, timestamp=timestamp)
        sent.append(await producer.send_batch(batch, topic, partition=0))
        await asyncio.gather(*sent)

    await producer.start()
    try:
        return await least(len(rows), rounds, send_all)
    finally:
        await producer.stop()


async def redis_floor(brokers: Brokers, material: Material, rounds: int) -> float:
    """Measure the script call alone, in microseconds per message."""
    options, records = _redis_options(brokers, material), material.records
    size = options.flush_max_records
    calls = []
    for begin in range(0, len(records), size):
        piece = records[begin : begin + size]
        words: list[str | int | bytes] = [0, len(piece)]
        for record in piece:
            words += (record.route.channel, record.value)
        calls.append(words)
    client = connect(options)
    script = client.register_script(SCRIPT)

    async def call_all() -> None:
        for words in calls:
            await script(keys=[prices_key(SPOT)], args=words)

    try:
        await call_all()
        return await least(len(records), rounds, call_all)
    finally:
        await client.aclose()
