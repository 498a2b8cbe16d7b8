"""Reads the events of a time range from a topic, as frames, in the order of the topic.

Records have the time of their events. But an event that was fetched late lies after younger ones,
so a topic is read for a while beyond the end of the range.
"""

import time
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from aiokafka import ConsumerRecord

from bridge.brokers.kafka_client import partition_of_key
from bridge.brokers.kafka_reader import Partition, TopicReader
from bridge.client.columns import Columns
from bridge.client.events import ForeignMessage, UnreadableEvent, datetime_of, decode_event
from bridge.core.model.events import STATUS
from bridge.core.model.unreadable import UNREADABLE
from bridge.errors import TimeRemoved

if TYPE_CHECKING:
    import polars as pl

# An event that was published later than this after its time is not found.
LATE_MS = 3_600_000
# The oldest time that an error proposes is kept for so long.
RETRY_MS = 60_000


class TimeRange(NamedTuple):
    """A range of event times in microseconds; `end` is excluded. Without `begin` it has all times
    before `end`.
    """

    begin: int | None
    end: int


class Slice(NamedTuple):
    """Some events of one partition, and the offsets whose events these are."""

    offsets: Partition
    frame: "pl.DataFrame"


async def partitions_of_range(
    reader: TopicReader, topic: str, message_type: str, times: TimeRange, symbols: Sequence[str]
) -> list[Partition]:
    """Return the offsets of a time range, up to the present end, in the partitions of the symbols.

    Raises SinkUnavailable if the topic does not exist, and TimeRemoved.
    """
    begin_ms = None if times.begin is None else max(0, times.begin // 1000)
    found = await reader.between(topic, begin_ms, times.end // 1000 + LATE_MS)
    if not found:
        raise reader.absent(topic)
    numbers = [part.partition for part in found]
    # A bridge writes all statuses to one partition.
    is_all = not symbols or message_type == STATUS
    wanted = numbers if is_all else {partition_of_key(each.encode(), numbers) for each in symbols}
    chosen = [part for part in found if part.partition in wanted]
    if times.begin is not None:
        await _check_retention(reader, topic, times.begin, chosen)
    return chosen


async def _check_retention(
    reader: TopicReader, topic: str, begin: int, partitions: list[Partition]
) -> None:
    """Raise TimeRemoved if retention may have removed records since `begin`.

    A partition whose records begin later may be a quiet one that has lost nothing of that time. So
    the time for which Kafka keeps records decides, if it is known.
    """
    log_starts = {part.partition: part.begin_offset for part in await reader.bounds(topic)}
    cut = [part for part in partitions if part.begin_offset == log_starts[part.partition] > 0]
    if not cut:
        return
    retention_ms = await reader.retention_ms(topic)
    if retention_ms is None:
        first_ms = await _first_ms(reader, topic, cut)
        # Of the millisecond of the first record, others may have been removed.
        oldest_ms = None if first_ms is None else first_ms + 1
    else:
        kept_ms = time.time_ns() // 1_000_000 - retention_ms
        oldest_ms = kept_ms + RETRY_MS if begin < kept_ms * 1000 else None
    if oldest_ms is not None:
        oldest = datetime_of(oldest_ms * 1000).isoformat(timespec="milliseconds")
        raise TimeRemoved(topic, datetime_of(begin).isoformat(), oldest)


async def _first_ms(reader: TopicReader, topic: str, partitions: list[Partition]) -> int | None:
    """Return the latest time of a partition's first record; None if they have no records."""
    firsts = [
        Partition(part.partition, part.begin_offset, part.begin_offset + 1)
        for part in partitions
        if len(part)
    ]
    times = [r.timestamp async for _, records in reader.read(topic, firsts) for r in records]
    return max(times, default=None)


class RangeReader:
    """Reads the events of one message type and time range, of all symbols or of some."""

    def __init__(
        self,
        reader: TopicReader,
        topic: str,
        columns: Columns,
        times: TimeRange,
        symbols: Sequence[str],
    ) -> None:
        self._reader = reader
        self._topic = topic
        self._columns = columns
        self._times = times
        self._keys = frozenset(symbol.encode() for symbol in symbols)

    async def slices(self, partitions: Sequence[Partition]) -> AsyncGenerator[Slice, None]:
        """Yield the events, one partition after the other, and together all of its offsets.

        Raises UnreadableEvent, SinkUnavailable and SinkRefused.
        """
        for part in partitions:
            begin = part.begin_offset
            async for _, records in self._reader.read(self._topic, [part]):
                end = records[-1].offset + 1
                yield Slice(Partition(part.partition, begin, end), self._frame(records))
                begin = end
            if begin < part.end_offset:  # the last offsets may have no records
                rest = Partition(part.partition, begin, part.end_offset)
                yield Slice(rest, self._columns.texts())

    def _frame(self, records: "list[ConsumerRecord[bytes, bytes]]") -> "pl.DataFrame":
        begin, end = self._times.begin or 0, self._times.end
        rows = []
        for record in records:
            if self._keys and record.key not in self._keys:
                continue
            try:
                row = self._columns.decode(record.value or b"")
            except UNREADABLE as error:
                self._pass_over(record, error)
                continue
            if begin <= (row.received if row.timestamp is None else row.timestamp) < end:
                rows.append(row)
        return self._columns.texts(rows)

    def _pass_over(self, record: "ConsumerRecord[bytes, bytes]", error: Exception) -> None:
        """Log a record that no bridge can have written. Raises UnreadableEvent for another one."""
        try:
            decode_event(record.value or b"")
        except ForeignMessage:
            self._reader.pass_over(record)
            return
        except UnreadableEvent as unreadable:
            error = unreadable
        place = f"offset {record.offset} of {record.topic}:{record.partition}"
        kind = self._columns.message_type
        raise UnreadableEvent(f"{place} cannot be read as {kind}: {error}")
