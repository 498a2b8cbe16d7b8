"""Asks Kafka how many records its topics hold."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from aiokafka import AIOKafkaConsumer, TopicPartition

from bridge import settings
from bridge.brokers.kafka_client import FAILURES, client_options, failure
from bridge.errors import SinkUnavailable

TIMEOUT_S = 2.0


async def count_records(kafka: settings.Kafka, topics: Sequence[str]) -> dict[str, int]:
    """Return the number of records ever written to each topic, by its end offsets.

    The topics must be new and without transactions, whose markers take offsets too.
    Raises SinkUnavailable if Kafka does not answer.
    """
    # A consumer without a group is assigned every partition of its topics.
    consumer = AIOKafkaConsumer(*topics, **client_options(kafka))
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await consumer.start()
            ends: dict[TopicPartition, int] = await consumer.end_offsets(consumer.assignment())
    except TimeoutError:
        raise SinkUnavailable(f"Kafka does not answer within {TIMEOUT_S:g} s") from None
    except FAILURES as error:
        raise failure(error) from error
    finally:
        with suppress(*FAILURES):
            async with asyncio.timeout(TIMEOUT_S):
                await consumer.stop()
    counts = dict.fromkeys(topics, 0)
    for partition, end in ends.items():
        counts[partition.topic] += end
    return counts
