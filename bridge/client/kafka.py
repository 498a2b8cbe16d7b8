"""Events from the Kafka topics: all of them, in order per symbol.

Reading uses no consumer group and commits nothing, so it leaves no trace. To continue after a
restart, store `KafkaReader.position` with your results, and pass it as `start`. To share the work
between processes, use a group of your Kafka client and `decode_event`.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping
from datetime import datetime
from typing import ClassVar, Literal, Self, TypeAlias

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.partitioner import DefaultPartitioner

from bridge import settings
from bridge.brokers.kafka_client import FAILURES
from bridge.brokers.kafka_consumer import (
    Reader,
    absent_topics,
    partitions_of_topics,
    reading_failure,
)
from bridge.client.events import AnyEvent, ForeignMessage, decode_event
from bridge.client.message_types import Names, check_message_types, upper_symbols
from bridge.client.reconnect import until_open
from bridge.core.model.stream import SPOT
from bridge.core.records.record import topic_name
from bridge.errors import RecordsRemoved, SinkUnavailable
from bridge.retry import check_cancelled

BATCH_MAX_RECORDS = 1000
# A quiet topic and an unreachable cluster look the same: check after this time without records.
QUIET_S = 5.0
# How soon a reader notices further partitions of its topics.
METADATA_MAX_AGE_MS = 60_000

Start = Literal["earliest", "latest"] | datetime | Mapping[str, int]
"""Where reading starts: with the oldest records, with the next new one, with the first record of
that time or later, or at the `position` of a reader.
"""

Record: TypeAlias = "ConsumerRecord[bytes, bytes]"

log = logging.getLogger(__name__)

_partition_of = DefaultPartitioner()


async def kafka_events(
    kafka: str | settings.Kafka,
    message_types: Names,
    *,
    symbols: Names = (),
    venue: str = SPOT,
    start: Start = "latest",
) -> AsyncGenerator[AnyEvent, None]:
    """Yield events as they arrive, without end. Arguments and errors are those of KafkaReader."""
    async with KafkaReader(
        kafka, message_types, symbols=symbols, venue=venue, start=start
    ) as reader:
        async for event in reader:
            yield event


class KafkaReader(AsyncIterator[AnyEvent]):
    """Reads events. An async context manager: after entry it has a position in every partition, and
    misses no record from then on. If Kafka goes away, it waits, reconnects and continues there.

        async with KafkaReader("localhost:9092", "trade", start=stored) as reader:
            async for event in reader:
                ...
                stored = reader.position

    `kafka` is `host:port` (several separated by commas) or the section `kafka` of the settings.
    `message_types` are for example trade and quote; one may be given as a string, and so may one
    symbol. Without `symbols`, all symbols are read.

    Raises ValueError for an unknown message type or a wrong start, SinkRefused if the cluster
    rejects the credentials, RecordsRemoved if Kafka no longer has the records at its position, and
    UnreadableEvent for an event of another version; reading can go on after it. Entry raises
    SinkUnavailable if the cluster or a topic is absent. Records that no bridge can have written are
    logged and passed over.
    """

    def __init__(
        self,
        kafka: str | settings.Kafka,
        message_types: Names,
        *,
        symbols: Names = (),
        venue: str = SPOT,
        start: Start = "latest",
    ) -> None:
        if isinstance(kafka, str):
            kafka = settings.Kafka.model_validate({"bootstrap_servers": kafka})
        kinds = check_message_types(message_types)
        topics = [topic_name(kafka.topic, venue, kind) for kind in kinds]
        self._keys = frozenset(symbol.encode() for symbol in upper_symbols(symbols))
        self._consumer = _Consumer(kafka, topics, self._keys, _checked(start, topics))
        self._offsets: dict[TopicPartition, int] = {}
        # Records that were fetched and not returned yet.
        self._fetched: Iterator[tuple[TopicPartition, Record]] = iter(())
        # The topics in which foreign records were found.
        self._passed_over: set[str] = set()

    async def __aenter__(self) -> Self:
        await self._consumer.__aenter__()
        self._offsets |= self._consumer.offsets
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._consumer.__aexit__()

    @property
    def position(self) -> dict[str, int]:
        """Return where to continue after the last event that was returned: the offset of the next
        record by `topic:partition`. It may be stored as JSON.
        """
        return {_name(*at): offset for at, offset in self._offsets.items()}

    async def __anext__(self) -> AnyEvent:
        while True:
            for at, record in self._fetched:
                self._offsets[at] = record.offset + 1
                if self._wanted(record) and (event := self._event(record)):
                    return event
            fetched = await self._fetch()
            self._fetched = ((at, record) for at, records in fetched.items() for record in records)

    async def batches(self) -> AsyncGenerator[list[bytes], None]:
        """Yield the record values of each fetch, byte for byte, for the requested symbols only,
        without end.
        """
        while True:
            fetched = await self._fetch()
            self._offsets |= {at: records[-1].offset + 1 for at, records in fetched.items()}
            values = [r.value for records in fetched.values() for r in records if self._wanted(r)]
            if values:
                yield values

    def _event(self, record: Record) -> AnyEvent | None:
        """Return the event of a record; None if no bridge can have written it."""
        try:
            return decode_event(record.value)
        except ForeignMessage as error:
            if record.topic not in self._passed_over:
                self._passed_over.add(record.topic)
                where = f"offset {record.offset} of {_name(record.topic, record.partition)}"
                log.warning("Foreign records are passed over, first at %s: %s", where, error)
            return None

    def _wanted(self, record: Record) -> bool:
        return not self._keys or record.key in self._keys

    async def _fetch(self) -> dict[TopicPartition, list[Record]]:
        """Return the next records, which may be none. Reconnect if Kafka does not answer."""
        try:
            return await self._consumer.fetch()
        except SinkUnavailable as error:
            log.warning("Reading is interrupted: %s", error)
        await until_open("Kafka", self._consumer.reopen)
        log.warning("Reading continues, without a loss")
        return {}


class _Consumer(Reader):
    """A consumer with a position in every partition. `offsets` has the offset of the next record
    that a fetch returns.
    """

    consumer_options: ClassVar = {
        "max_poll_records": BATCH_MAX_RECORDS,
        "metadata_max_age_ms": METADATA_MAX_AGE_MS,
        # No reset: a reader must say so if records are gone, not skip them.
        "auto_offset_reset": "none",
    }

    def __init__(
        self,
        options: settings.Kafka,
        topics: list[str],
        keys: frozenset[bytes],
        start: Start,
    ) -> None:
        super().__init__(options)
        self.offsets: dict[TopicPartition, int] = {}
        self._topics = topics
        self._keys = keys
        self._start = start
        # The number of partitions of each topic.
        self._partitions: dict[str, int] = {}

    async def reopen(self) -> None:
        """Close, and open again at the same position. Raises what opening raises."""
        await self.__aexit__()
        await self.__aenter__()

    async def fetch(self) -> dict[TopicPartition, list[Record]]:
        """Return the next records; none if none arrive within QUIET_S.

        Raises SinkUnavailable, SinkRefused or RecordsRemoved.
        """
        if self._has_more_partitions():
            await self.reopen()
        try:
            fetched: dict[TopicPartition, list[Record]] = await self._consumer.getmany(
                timeout_ms=round(QUIET_S * 1000)
            )
            check_cancelled()
            if not fetched:
                await self._check_cluster()
        except OffsetOutOfRangeError:
            # Opening says which records are gone.
            fetched = {}
            await self.reopen()
        except FAILURES as error:
            raise reading_failure(self._options, error) from error
        for at, records in fetched.items():
            self.offsets[at] = records[-1].offset + 1
        return fetched

    async def _open(self) -> None:
        known = await partitions_of_topics(self._options)
        if missing := [topic for topic in self._topics if not known.get(topic)]:
            raise absent_topics(self._options, missing)
        partitions = self._choose(known)
        self._consumer.assign(partitions)
        await self._consumer.start()
        begins = await self._consumer.beginning_offsets(partitions)
        ends = await self._consumer.end_offsets(partitions)
        # Partitions that have come since the first opening are read from their beginning.
        starts = begins if self.offsets else await self._starts(begins, ends)
        offsets = starts | self.offsets
        _check_range(offsets, begins, ends)
        for at, offset in offsets.items():
            self._consumer.seek(at, offset)
        self.offsets = offsets
        self._partitions = {topic: len(known[topic]) for topic in self._topics}

    async def _starts(
        self, begins: dict[TopicPartition, int], ends: dict[TopicPartition, int]
    ) -> dict[TopicPartition, int]:
        """Return the offset of each partition at which reading starts."""
        match self._start:
            case "earliest":
                return begins
            case "latest":
                return ends
            case datetime():
                since_ms = max(0, round(self._start.timestamp() * 1000))
                found = await self._consumer.offsets_for_times(dict.fromkeys(begins, since_ms))
                return {at: ends[at] if (of := found[at]) is None else of.offset for at in begins}
        return {at: self._start.get(_name(*at), begin) for at, begin in begins.items()}

    def _choose(self, known: dict[str, list[int]]) -> list[TopicPartition]:
        """Return all partitions of the topics, or only those of the requested symbols."""
        chosen = {
            TopicPartition(topic, partition)
            for topic in self._topics
            for partition in known[topic]
            if not self._keys or partition in self._partitions_of_symbols(known[topic])
        }
        return sorted(chosen.union(self.offsets))

    def _partitions_of_symbols(self, partitions: list[int]) -> set[int]:
        return {_partition_of(key, partitions, partitions) for key in self._keys}

    def _has_more_partitions(self) -> bool:
        """Return whether a topic has more partitions than at opening; aiokafka asks for its
        metadata from time to time.
        """
        return any(
            len(self._consumer.partitions_for_topic(topic) or ()) > count
            for topic, count in self._partitions.items()
        )

    async def _check_cluster(self) -> None:
        async with asyncio.timeout(self._timeout_s):
            await self._consumer.end_offsets(self._consumer.assignment())


def _checked(start: Start, topics: Iterable[str]) -> Start:
    """Return `start` if it is one. Raises ValueError if it is not."""
    if isinstance(start, datetime):
        if start.tzinfo is None:
            raise ValueError(f"start {start} has no time zone; add one, for example datetime.UTC")
    elif isinstance(start, Mapping):
        for name, offset in start.items():
            topic, _, partition = name.rpartition(":")
            if topic not in topics or not partition.isdecimal():
                raise ValueError(
                    f"start names {name!r}, which is no partition of {', '.join(topics)}; give the "
                    "position of a reader of the same topics"
                )
            if not _is_offset(offset):
                raise ValueError(f"start[{name!r}] is {offset!r}, which is no offset")
    elif str(start) not in {"earliest", "latest"}:
        raise ValueError(f"start {start!r} is not earliest, latest, a datetime or a position")
    return start


def _is_offset(value: object) -> bool:
    return isinstance(value, int) and value >= 0


def _check_range(
    offsets: Mapping[TopicPartition, int],
    begins: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
) -> None:
    """Raise RecordsRemoved if a partition no longer has the record at an offset."""
    for at, offset in offsets.items():
        if at not in begins or not begins[at] <= offset <= ends[at]:
            raise RecordsRemoved(_name(*at), offset, begins.get(at, 0), ends.get(at, 0))


def _name(topic: str, partition: int) -> str:
    return f"{topic}:{partition}"
