"""What an export must have: the records of a topic, as rows."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from bridge import settings
from bridge.brokers.kafka_reader import TopicReader
from bridge.client.events import AnyEvent, decode_event
from bridge.core.model.events import EVENT_TYPES
from bridge.core.model.stream import SPOT
from bridge.core.records.record import topic_name

Row = tuple[Any, ...]


def as_row(event: AnyEvent) -> Row:
    """Return an event as polars returns a row: levels as dicts. Times stay integers."""
    return tuple(
        [dict(zip(("price", "volume"), level, strict=True)) for level in value]
        if isinstance(value, list)
        else value
        for value in msgspec.structs.astuple(event)
    )


def as_texts(kind: str, value: bytes) -> Row:
    """Return a record as the row of a CSV, read without this project's types."""
    fields = msgspec.json.decode(value)
    return tuple(_text(fields.get(name)) for name in EVENT_TYPES[kind].__struct_fields__)


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


async def records_of(options: settings.Kafka, kind: str) -> list[bytes]:
    """Return the values of a topic, in the order of partitions and offsets."""
    topic = topic_name(options.topic, SPOT, kind)
    async with TopicReader(options) as reader:
        records = await reader.read_whole(topic)
    return [r.value for r in sorted(records, key=lambda r: (r.partition, r.offset))]


def rows_of_parquet(folder: Path, kind: str) -> list[Row]:
    """Return the rows of an export, with times as integers."""
    frame = pl.read_parquet(folder / kind / "*.parquet")
    times = [name for name, of in frame.schema.items() if isinstance(of, pl.Datetime)]
    return frame.with_columns(pl.col(times).cast(pl.Int64)).rows()


def rows_of_csv(folder: Path, kind: str) -> list[Row]:
    """Return the rows of an export as texts."""
    return pl.read_csv(folder / kind / "*.csv", infer_schema=False).rows()


def expected_rows(values: Iterable[bytes]) -> list[Row]:
    """Return the rows that records are as parquet."""
    return [as_row(decode_event(value)) for value in values]
