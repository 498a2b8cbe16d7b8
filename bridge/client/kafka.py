"""Events from the Kafka topics: all of them, in order per symbol.

Reading uses no consumer group and commits nothing, so it leaves no trace. To share the work between
processes, or to continue after a restart, use a group of your Kafka client and `decode_event`.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import ClassVar

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.partitioner import DefaultPartitioner

from bridge import settings
from bridge.brokers.kafka_client import FAILURES
from bridge.brokers.kafka_consumer import (
    Reader,
    absent_topics,
    partitions_of_topics,
    reading_failure,
)
from bridge.client.events import AnyEvent, decode_event
from bridge.client.message_types import Names, check_message_types, upper_symbols
from bridge.core.model.stream import SPOT
from bridge.core.records.record import topic_name

BATCH_MAX_RECORDS = 1000
# A quiet topic and an unreachable cluster look the same: check after this time without records.
QUIET_S = 5.0

_partition_of = DefaultPartitioner()


async def kafka_events(
    kafka: str | settings.Kafka,
    message_types: Names,
    *,
    symbols: Names = (),
    venue: str = SPOT,
    from_start: bool = False,
) -> AsyncGenerator[AnyEvent, None]:
    """Yield events as they arrive, without end. Arguments and errors are those of KafkaReader.

    Raises UnreadableEvent for a record that is not an event.
    """
    async with KafkaReader(
        kafka, message_types, symbols=symbols, venue=venue, from_start=from_start
    ) as reader:
        async for values in reader.batches():
            for value in values:
                yield decode_event(value)


class KafkaReader(Reader):
    """Reads record values, byte for byte. An async context manager: after entry it has a position
    in every partition, and misses no record from then on.

    `kafka` is `host:port` (several separated by commas) or the section `kafka` of the settings.
    `message_types` are for example trade and quote; one may be given as a string, and so may one
    symbol. Without `symbols`, all symbols are read. With `from_start`, reading starts with the
    oldest record, otherwise with the next new one.

    Raises ValueError for an unknown message type, SinkRefused if the cluster rejects the
    credentials, and SinkUnavailable if the cluster or a topic is absent or stops answering.
    """

    consumer_options: ClassVar = {"max_poll_records": BATCH_MAX_RECORDS}

    def __init__(
        self,
        kafka: str | settings.Kafka,
        message_types: Names,
        *,
        symbols: Names = (),
        venue: str = SPOT,
        from_start: bool = False,
    ) -> None:
        if isinstance(kafka, str):
            kafka = settings.Kafka.model_validate({"bootstrap_servers": kafka})
        super().__init__(kafka)
        self._topics = [
            topic_name(kafka.topic, venue, kind) for kind in check_message_types(message_types)
        ]
        self._keys = frozenset(symbol.encode() for symbol in upper_symbols(symbols))
        self._from_start = from_start

    async def batches(self) -> AsyncGenerator[list[bytes], None]:
        """Yield the values of each fetch, for the requested symbols only, without end."""
        while True:
            try:
                fetched = await self._consumer.getmany(timeout_ms=round(QUIET_S * 1000))
                if not fetched:
                    await self._check_cluster()
            except FAILURES as error:
                raise reading_failure(self._options, error) from error
            values = [r.value for records in fetched.values() for r in records if self._wanted(r)]
            if values:
                yield values

    async def _open(self) -> None:
        partitions = self._choose(await partitions_of_topics(self._options))
        self._consumer.assign(partitions)
        await self._consumer.start()
        ask = self._consumer.beginning_offsets if self._from_start else self._consumer.end_offsets
        for partition, offset in (await ask(partitions)).items():
            self._consumer.seek(partition, offset)

    def _choose(self, known: dict[str, list[int]]) -> list[TopicPartition]:
        """Return all partitions of the topics, or only those of the requested symbols."""
        if missing := [topic for topic in self._topics if not known.get(topic)]:
            raise absent_topics(self._options, missing)
        return [
            TopicPartition(topic, partition)
            for topic in self._topics
            for partition in known[topic]
            if not self._keys or partition in self._partitions_of_symbols(known[topic])
        ]

    def _partitions_of_symbols(self, partitions: list[int]) -> set[int]:
        return {_partition_of(key, partitions, partitions) for key in self._keys}

    def _wanted(self, record: "ConsumerRecord[bytes, bytes]") -> bool:
        return not self._keys or record.key in self._keys

    async def _check_cluster(self) -> None:
        async with asyncio.timeout(self._timeout_s):
            await self._consumer.end_offsets(self._consumer.assignment())
