"""Writes records into topics of one test."""

from collections.abc import Iterable
from itertools import cycle

from aiokafka import AIOKafkaProducer

from bridge import settings
from bridge.core.model.stream import SPOT
from bridge.core.records.record import topic_name
from bridge.sinks.kafka.producer import discard, ensure_topics, open_producer
from bridge.sinks.kafka.producer_state import ProducerState
from tests.support.audit import event


def topic_of(options: settings.Kafka, kind: str) -> str:
    return topic_name(options.topic, SPOT, kind)


async def publish(
    options: settings.Kafka,
    kind: str,
    values: Iterable[bytes],
    *,
    partition: int = 0,
    keys: Iterable[str] = ("BTCUSDT",),
) -> None:
    """Write values in order to one partition of the topic of a kind; create it if necessary. The
    keys are repeated.
    """
    producer = await open_producer(options, ProducerState())
    try:
        await ensure_topics(producer, options, [topic_of(options, kind)], ())
        await _send(producer, topic_of(options, kind), zip(values, cycle(keys)), partition)
    finally:
        await discard(producer)


async def _send(
    producer: AIOKafkaProducer, topic: str, rows: Iterable[tuple[bytes, str]], partition: int
) -> None:
    sent = [
        await producer.send(topic, value, key.encode(), partition=partition) for value, key in rows
    ]
    for future in sent:
        await future


def trade_values(*ids: int) -> list[bytes]:
    return [event("trade", trade_id=identity) for identity in ids]


def gap_value(
    first: int | None, last: int | None, state: str = "open", cause: str = "cut"
) -> bytes:
    fields = {"first_id": first, "last_id": last, "to_time": None, "cause": cause, "state": state}
    return event("gap", kind="trade", **fields)
