"""The events of a time range as one frame of polars (`tickbridge[export]`)."""

from datetime import datetime
from typing import TYPE_CHECKING

from bridge import settings
from bridge.brokers.kafka_reader import TopicReader
from bridge.client.columns import Columns
from bridge.client.events import microseconds_of
from bridge.client.message_types import Names, check_message_types, check_symbols
from bridge.client.time_range import RangeReader, TimeRange, partitions_of_range
from bridge.core.model.stream import SPOT
from bridge.core.records.record import topic_name

if TYPE_CHECKING:
    import polars as pl


async def to_polars(  # noqa: PLR0913 - each is an option of its own
    kafka: str | settings.Kafka,
    message_type: str,
    *,
    start: datetime,
    end: datetime,
    symbols: Names = (),
    venue: str = SPOT,
) -> "pl.DataFrame":
    """Return the events of a message type from `start` to `end`, which is excluded, in memory.

    The columns are the fields of the event: prices and volumes as Decimal, times as Datetime in
    UTC. The events of each symbol are in order. Events that were published more than an hour after
    their time are not found.

    `kafka` and `symbols` are as for KafkaFeed. Raises ValueError for an unknown message type, an
    empty time range or a time without a time zone, MissingExtra, TimeRemoved if Kafka no longer
    has the events, UnreadableEvent, and SinkUnavailable or SinkRefused as KafkaFeed does.
    """
    (kind,) = check_message_types(message_type)
    times = TimeRange(_microseconds("start", start), _microseconds("end", end))
    if start >= end:
        raise ValueError(f"start {start} is not before end {end}")
    names, columns = check_symbols(symbols), Columns(kind)
    if isinstance(kafka, str):
        kafka = settings.Kafka.model_validate({"bootstrap_servers": kafka})
    topic = topic_name(kafka.topic, venue, kind)
    async with TopicReader(kafka) as reader:
        partitions = await partitions_of_range(reader, topic, kind, times, names)
        events = RangeReader(reader, topic, columns, times, names)
        frames = [each.frame async for each in events.slices(partitions)]
    return columns.typed(columns.joined(frames))


def _microseconds(name: str, time: datetime) -> int:
    if time.tzinfo is None:
        raise ValueError(f"{name} {time} has no time zone; add one, for example datetime.UTC")
    return microseconds_of(time)
