"""Writes events to the topics that readers use."""

from collections.abc import Sequence

import msgspec
from aiokafka import errors as kafka_errors
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from bridge import settings
from bridge.core.model.events import Event, Gap, Trade
from bridge.core.model.stream import SPOT
from bridge.core.records.record import topic_name
from bridge.sinks.kafka.producer import discard, ensure_topics, open_producer
from bridge.sinks.kafka.producer_state import ProducerState
from tests.support.brokers import Kafka, KafkaBroker

# A broker that was frozen may close a first connection.
AFTER_AN_OUTAGE = AsyncRetrying(
    retry=retry_if_exception_type(
        (kafka_errors.NodeNotReadyError, kafka_errors.KafkaConnectionError)
    ),
    stop=stop_after_delay(30),
    wait=wait_fixed(0.1),
    reraise=True,
)


def trade(symbol: str, trade_id: int, price: str = "61837.63000000") -> Trade:
    head = (SPOT, symbol, 1723161254087000 + trade_id, 1723161254088000, "websocket")
    return Trade(*head, trade_id, price, "0.00100000", "buy")  # type: ignore[arg-type]


def gap(symbol: str, first_id: int = 1, last_id: int = 2) -> Gap:
    head = (SPOT, symbol, None, 1723161254088000, "websocket")
    ids = (first_id, last_id)
    return Gap(*head, "trade", *ids, None, None, "closed", "open")  # type: ignore[arg-type]


def kafka_options(kafka: Kafka, unique: str) -> settings.Kafka:
    """Return settings with topics of one test; the embedded Kafka creates them by itself."""
    return settings.Kafka(
        bootstrap_servers=[kafka.bootstrap_servers],
        topic=f"{unique}.{{message_type}}",
        create_topics=isinstance(kafka, KafkaBroker),
        replication_factor=1,
    )


async def publish(
    options: settings.Kafka, events: Sequence[Event], *, at_their_time: bool = False
) -> list[bytes]:
    """Write events to their topics; return the record values. These topics and that of gap events
    are created if necessary. The records have the present time, or that of their events.
    """
    topics = [topic_name(options.topic, SPOT, _kind(event)) for event in events]
    values = [msgspec.json.encode(event) for event in events]
    producer = await open_producer(options, ProducerState())
    try:
        gap_topic = topic_name(options.topic, SPOT, "gap")
        async for attempt in AFTER_AN_OUTAGE.copy():
            with attempt:
                await ensure_topics(producer, options, sorted({*topics, gap_topic}), ())
        for event, topic, value in zip(events, topics, values, strict=True):
            time_ms = (event.timestamp or event.received) // 1000 if at_their_time else None
            key = event.symbol.encode()
            await producer.send_and_wait(topic, value, key, timestamp_ms=time_ms)
    finally:
        await discard(producer)
    return values


def _kind(event: Event) -> str:
    return str(event.__struct_config__.tag)
