"""Compares the records of a day with the exchange's archive, id by id and field by field.

The archive is read twice: once to remember a number of 64 bits of the fields of each id, and once
more for the fields of those ids that differ. So a day takes 25 bytes for each id.
"""

from array import array
from collections.abc import Iterator, Sequence
from importlib import metadata

import msgspec
from aiokafka import ConsumerRecord

from bridge import settings
from bridge.brokers.kafka_client import partition_of_key
from bridge.brokers.kafka_reader import OnProgress, Partition, TopicReader
from bridge.core.model.stream import SPOT
from bridge.core.records.record import topic_name
from bridge.tools.audit.announced import Announced, Announcements
from bridge.tools.audit.archive import Archive, BadArchive, Fields, fields_of
from bridge.tools.audit.certificate import (
    LISTED_MAX,
    Certificate,
    Difference,
    IdRange,
    IdRanges,
)
from bridge.tools.audit.rules import NO_EVENT

# The ids of one symbol and day: ten times those of the busiest one.
MAX_IDS = 100_000_000
# Trades that were missed are fetched and published later. After the day this long is read for them,
# and before it, because times of the exchange are not in order.
MARGIN_MS = 3_600_000
ABSENT = 0


class _Event(msgspec.Struct, gc=False, tag_field="message_type"):
    """The fields that both message types have."""

    symbol: str
    timestamp: int
    price: str
    volume: str
    side: str


class _Trade(_Event, tag="trade", gc=False):
    trade_id: int

    @property
    def id(self) -> int:
        return self.trade_id

    def fields(self, time_unit_us: int) -> Fields:
        return fields_of(self.price, self.volume, self.timestamp // time_unit_us, self.side)


class _AggTrade(_Event, tag="agg_trade", gc=False):
    agg_trade_id: int
    first_trade_id: int
    last_trade_id: int

    @property
    def id(self) -> int:
        return self.agg_trade_id

    def fields(self, time_unit_us: int) -> Fields:
        time, ids = self.timestamp // time_unit_us, (self.first_trade_id, self.last_trade_id)
        return fields_of(self.price, self.volume, time, self.side, *ids)


_decode = msgspec.json.Decoder(_Trade | _AggTrade).decode


class Comparison:
    """Compares events with an archive. Raises BadArchive."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        numbers = array("q")
        ids = array("q")
        for identity, fields in archive.rows():
            ids.append(identity)
            numbers.append(_number_of(fields))
        if not ids:
            raise BadArchive(f"{archive.path.name} has no rows")
        self.first_id, self.last_id = min(ids), max(ids)
        if (count := self.last_id - self.first_id + 1) > MAX_IDS:
            raise BadArchive(f"{archive.path.name} has ids {count:,} apart, which is too far")
        self.rows = len(ids)
        # By id from the first one; ABSENT if the archive does not have it.
        self._expected = array("q", bytes(8 * count))
        for identity, number in zip(ids, numbers, strict=True):
            self._expected[identity - self.first_id] = number
        self._seen = bytearray(count)
        self._differences: dict[int, Difference] = {}
        self.equal = self.different = self.repeated = 0

    def observe(self, records: "Sequence[ConsumerRecord[bytes, bytes]]") -> None:
        """Compare records of the topic, only those of the archive's symbol and ids."""
        for record in records:
            try:
                event = _decode(record.value or b"")
            except NO_EVENT:
                continue
            place = event.id - self.first_id
            if event.symbol == self._archive.symbol and 0 <= place < len(self._expected):
                self._compare(place, event, record.offset)

    def _compare(self, place: int, event: _Trade | _AggTrade, offset: int) -> None:
        if self._seen[place]:
            self.repeated += 1
            return
        self._seen[place] = 1
        expected = self._expected[place]
        if expected == ABSENT:
            return
        fields = event.fields(self._archive.time_unit_us)
        if _number_of(fields) == expected:
            self.equal += 1
            return
        self.different += 1
        if len(self._differences) < LISTED_MAX:
            self._differences[event.id] = Difference(event.id, offset, (), fields)

    def differences(self) -> list[Difference]:
        """Return the differences with the fields of both."""
        if self._differences:
            for identity, fields in self._archive.rows():
                if found := self._differences.get(identity):
                    found.archive = fields
        return list(self._differences.values())

    def missing(self) -> Iterator[tuple[int, int]]:
        """Yield the ranges of ids that only the archive has."""
        return self._ranges(is_seen=0)

    def not_in_archive(self) -> Iterator[tuple[int, int]]:
        """Yield the ranges of ids that only the topic has."""
        return self._ranges(is_seen=1)

    def _ranges(self, *, is_seen: int) -> Iterator[tuple[int, int]]:
        begin = None
        for place, (seen, expected) in enumerate(zip(self._seen, self._expected, strict=True)):
            is_one = seen == is_seen and (expected == ABSENT) == bool(is_seen)
            if is_one and begin is None:
                begin = place
            elif not is_one and begin is not None:
                yield self.first_id + begin, self.first_id + place - 1
                begin = None
        if begin is not None:
            yield self.first_id + begin, self.last_id


async def audit_against(
    options: settings.Kafka,
    archive: Archive,
    *,
    venue: str = SPOT,
    on_progress: OnProgress = lambda _read, _remaining: None,
) -> Certificate:
    """Compare a topic with an archive.

    Raises BadArchive, SinkUnavailable if the topic does not exist, or if the cluster cannot be
    reached or stops answering, and SinkRefused if it rejects our credentials.
    """
    is_verified = archive.check()
    comparison = Comparison(archive)
    topic = topic_name(options.topic, venue, archive.message_type)
    gap_topic = topic_name(options.topic, venue, "gap")
    announcements, read = Announcements(archive.message_type), 0
    async with TopicReader(options) as reader:
        bounds = await _bounds(reader, topic, archive)
        if not bounds:
            raise reader.absent(topic)
        async for _, records in reader.read(topic, bounds):
            comparison.observe(records)
            read += len(records)
            on_progress(read, reader.remaining)
        for record in await reader.read_whole(gap_topic):
            announcements.observe(record.value or b"")
    missing, announced = _by_announcement(comparison, announcements.of(archive.symbol))
    is_equal = not (comparison.different or comparison.repeated or missing.ids)
    not_in_archive = IdRanges()
    for ids in comparison.not_in_archive():
        not_in_archive.add(IdRange(*ids))
    return Certificate(
        version=metadata.version("tickbridge"),
        verdict="equal" if is_equal else "different",
        archive=archive.path.name,
        sha256=archive.sha256,
        checksum_verified=is_verified,
        topic=topic,
        message_type=archive.message_type,
        symbol=archive.symbol,
        day=archive.day.isoformat(),
        first_id=comparison.first_id,
        last_id=comparison.last_id,
        rows=comparison.rows,
        equal=comparison.equal,
        different=comparison.different,
        repeated=comparison.repeated,
        missing=missing,
        announced=announced,
        not_in_archive=not_in_archive,
        differences=comparison.differences(),
    )


async def _bounds(reader: TopicReader, topic: str, archive: Archive) -> list[Partition]:
    """Return the records of the day in the partition of the symbol, with the margin."""
    parts = await reader.between(topic, archive.begin_ms - MARGIN_MS, archive.end_ms + MARGIN_MS)
    key = archive.symbol.encode()
    wanted = partition_of_key(key, [part.partition for part in parts]) if parts else None
    return [part for part in parts if part.partition == wanted]


def _by_announcement(comparison: Comparison, said: Announced) -> tuple[IdRanges, IdRanges]:
    """Return the missing ids that no gap event announced, and those that one did."""
    missing, announced = IdRanges(), IdRanges()
    for first, last in comparison.missing():
        for begin, end, announcement in said.split(first, last):
            if announcement is None or announcement.state == "filled":
                missing.add(IdRange(begin, end, announcement and announcement.state))
            else:
                announced.add(IdRange(begin, end, announcement.state))
    return missing, announced


def _number_of(fields: Fields) -> int:
    """Return a number of 64 bits that stands for these fields; never ABSENT."""
    return hash(fields) or 1
