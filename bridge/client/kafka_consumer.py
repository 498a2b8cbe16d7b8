"""The Kafka consumer of a feed: it has a position in every partition, and can open again there."""

import asyncio
import logging
from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar, TypeAlias

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from bridge import settings
from bridge.brokers.kafka_client import FAILURES, partition_of_key
from bridge.brokers.kafka_consumer import (
    Reader,
    absent_topics,
    partitions_of_topics,
    reading_failure,
)
from bridge.brokers.kafka_reader import LOOK_MS
from bridge.client.continuity import ids_of
from bridge.client.events import UnreadableEvent, decode_event
from bridge.client.start import FromId, Start
from bridge.core.model.events import GAP, STATUS
from bridge.errors import EventRemoved, RecordsRemoved
from bridge.retry import check_cancelled

BATCH_MAX_RECORDS = 1000
# A quiet topic and an unreachable cluster look the same: check after this time without records.
QUIET_S = 5.0
# A gap event has the time of our clock, and the events after it have that of the exchange.
GAP_MARGIN_MS = 3_600_000
# A gap event is returned before events that were fetched with it. So gap events from before a
# stored position are read again, for the check alone.
GAP_REREAD_RECORDS = 1000
# How soon a reader notices further partitions of its topics.
METADATA_MAX_AGE_MS = 60_000

Record: TypeAlias = "ConsumerRecord[bytes, bytes]"
Fetched = dict[TopicPartition, list[Record]]
Offsets = dict[TopicPartition, int]

log = logging.getLogger(__name__)


class Consumer(Reader):
    """A consumer of the topics of some message types. `topics` has the topic of each.

    `offsets` has the offset of the next record that a fetch returns, and `starts` that of the first
    record in each partition that was not read before. Entry raises SinkUnavailable, SinkRefused,
    RecordsRemoved or EventRemoved.
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
        topics: Mapping[str, str],
        keys: frozenset[bytes],
        start: Start,
    ) -> None:
        super().__init__(options)
        self.offsets: Offsets = {}
        self.starts: Offsets = {}
        self._topics = topics
        self._keys = keys
        self._start = start
        # The number of partitions of each topic.
        self._partitions: dict[str, int] = {}

    async def reopen(self) -> None:
        """Close, and open again at the same position. Raises what entry raises."""
        await self.__aexit__()
        await self.__aenter__()

    async def fetch(self) -> Fetched:
        """Return the next records; none if none arrive within QUIET_S.

        Raises SinkUnavailable, SinkRefused or RecordsRemoved.
        """
        if self._has_more_partitions():
            await self.reopen()
        try:
            fetched: Fetched = await self._consumer.getmany(timeout_ms=round(QUIET_S * 1000))
            check_cancelled()
            if not fetched:
                await self._check_cluster()
        except OffsetOutOfRangeError:
            # Opening says which records are gone.
            fetched = {}
            await self.reopen()
        except FAILURES as error:
            raise reading_failure(self._options, error) from error
        return self._noted(fetched)

    async def fetch_gaps(self) -> Fetched:
        """Return the next gap events, up to the present end of their topic.

        Raises SinkUnavailable or SinkRefused.
        """
        partitions = [at for at in self.offsets if at.topic == self._topics[GAP]]
        fetched: Fetched = {}
        try:
            async with asyncio.timeout(self._timeout_s):
                ends = await self._consumer.end_offsets(partitions)
                while behind := [
                    at for at in partitions if await self._consumer.position(at) < ends[at]
                ]:
                    batch = await self._consumer.getmany(*behind, timeout_ms=LOOK_MS)
                    for at, records in batch.items():
                        fetched.setdefault(at, []).extend(records)
        except BaseException as error:
            for at in fetched:
                self._consumer.seek(at, self.offsets[at])
            if isinstance(error, FAILURES):
                raise reading_failure(self._options, error) from error
            raise
        return self._noted(fetched)

    def _noted(self, fetched: Fetched) -> Fetched:
        for at, records in fetched.items():
            self.offsets[at] = records[-1].offset + 1
        return fetched

    async def _open(self) -> None:
        known = await self._known_partitions()
        partitions = self._choose(known)
        self._consumer.assign(partitions)
        await self._consumer.start()
        begins = await self._consumer.beginning_offsets(partitions)
        ends = await self._ends(partitions)
        # Partitions that have come since the first opening are read from their beginning.
        starts = begins if self.offsets else await self._starts(begins, ends)
        offsets = starts | self.offsets
        check_range(offsets, begins, ends)
        self.starts = offsets
        if isinstance(self._start, Mapping) and not self.offsets:
            offsets = self._with_gaps_before(offsets, begins)
        self._seek(offsets)
        self._partitions = {topic: len(partitions) for topic, partitions in known.items()}

    def _with_gaps_before(self, offsets: Offsets, begins: Offsets) -> Offsets:
        """Return earlier offsets for gap events: see GAP_REREAD_RECORDS."""
        return {
            at: max(begins[at], offset - GAP_REREAD_RECORDS)
            if at.topic == self._topics.get(GAP)
            else offset
            for at, offset in offsets.items()
        }

    def _seek(self, offsets: Offsets) -> None:
        for at, offset in offsets.items():
            self._consumer.seek(at, offset)
        self.offsets = offsets

    async def _known_partitions(self) -> dict[str, list[int]]:
        """Return the partitions of our topics. Raises SinkUnavailable if a topic is absent."""
        known = await partitions_of_topics(self._options)
        if missing := [topic for topic in self._topics.values() if not known.get(topic)]:
            raise absent_topics(self._options, missing)
        return {topic: known[topic] for topic in self._topics.values()}

    async def _ends(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the present ends, those of gap events first: no gap event may be left out whose
        next event is read.
        """
        gaps = [at for at in partitions if at.topic == self._topics.get(GAP)]
        others = [at for at in partitions if at not in gaps]
        first = await self._consumer.end_offsets(gaps) if gaps else {}
        return first | (await self._consumer.end_offsets(others) if others else {})

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
                starts = await self._starts_at(since_ms, begins, ends)
                removed = [at for at in starts if starts[at] == begins[at] > 0]
                for topic in sorted({at.topic for at in removed}):
                    log.warning(
                        "Retention has removed events of %s, perhaps since %s", topic, self._start
                    )
                return starts
            case FromId(number):
                (at,) = (at for at in begins if at.topic != self._topics.get(GAP))
                record = await self._find(at, number, begins[at], ends[at])
                if record is None:
                    return ends
                starts = await self._starts_at(record.timestamp, begins, ends)
                return starts | {at: record.offset}
        return {at: self._start.get(name_of(at), begin) for at, begin in begins.items()}

    async def _starts_at(
        self, since_ms: int, begins: dict[TopicPartition, int], ends: dict[TopicPartition, int]
    ) -> dict[TopicPartition, int]:
        """Return the offsets of the first records of this time or later, and of gap events some
        time before it.
        """
        times = {
            at: max(0, since_ms - GAP_MARGIN_MS) if at.topic == self._topics.get(GAP) else since_ms
            for at in begins
        }
        found = await self._consumer.offsets_for_times(times)
        return {at: ends[at] if (of := found[at]) is None else of.offset for at in begins}

    async def _find(self, at: TopicPartition, number: int, low: int, high: int) -> "Record | None":
        """Return the first record of the symbol from which on all ids from `number` on come; None
        if none has come yet. Raises EventRemoved if the ids begin after it.

        Trades that were fetched late lie after trades with higher ids, so the highest id of many
        records decides.
        """
        begin, end = low, high
        while high - low > BATCH_MAX_RECORDS:
            middle = (low + high) // 2
            records = await self._records_of_symbol(at, middle, high)
            if not records or max(map(_last_id, records)) >= number:
                high = middle
            else:
                low = records[-1].offset + 1
        records = await self._records_of_symbol(at, low, end)
        if not records:
            return None
        if low == begin and _last_id(records[0]) > number:
            raise EventRemoved(at.topic, number, _last_id(records[0]))
        return records[0]

    async def _records_of_symbol(self, at: TopicPartition, begin: int, end: int) -> list[Record]:
        """Return the first records of the symbol in a range, at most those of one fetch."""
        self._consumer.seek(at, begin)
        while await self._consumer.position(at) < end:
            fetched = await self._consumer.getmany(at, timeout_ms=LOOK_MS)
            records = [r for r in fetched.get(at, ()) if r.offset < end and r.key in self._keys]
            if readable := [record for record in records if _last_id(record) >= 0]:
                return readable
        return []

    def _choose(self, known: dict[str, list[int]]) -> list[TopicPartition]:
        """Return all partitions of the topics, or only those of the requested symbols. A bridge
        writes all statuses to one partition, however many there are.
        """
        chosen = {
            TopicPartition(topic, partition)
            for kind, topic in self._topics.items()
            for partition in known[topic]
            if not self._keys
            or kind == STATUS
            or partition in self._partitions_of_symbols(known[topic])
        }
        return sorted(chosen.union(self.offsets))

    def _partitions_of_symbols(self, partitions: list[int]) -> set[int]:
        return {partition_of_key(key, partitions) for key in self._keys}

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


def name_of(at: TopicPartition) -> str:
    """Return the name of a partition in a position: `topic:partition`."""
    return f"{at.topic}:{at.partition}"


def _last_id(record: Record) -> int:
    """Return the last id of a record; -1 if it cannot be read."""
    try:
        ids = ids_of(decode_event(record.value))
    except UnreadableEvent:
        return -1
    return ids[1] if ids else -1


def check_range(
    offsets: Mapping[TopicPartition, int],
    begins: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
) -> None:
    """Raise RecordsRemoved if a partition no longer has the record at an offset."""
    for at, offset in offsets.items():
        if at not in begins or not begins[at] <= offset <= ends[at]:
            raise RecordsRemoved(name_of(at), offset, begins.get(at, 0), ends.get(at, 0))
