"""Reads where the previous process has stopped, from Kafka, before the feed starts.

The positions show where to begin. From there, the tail of each partition shows what was published.
The fence has been raised before, so the tails are final.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple

import msgspec
import structlog
from tenacity import AsyncRetrying

from bridge import settings
from bridge.brokers.kafka_client import has_symbol
from bridge.brokers.kafka_reader import TopicReader
from bridge.core.model.shard import WHOLE, ShardId
from bridge.core.model.unreadable import decode_ours
from bridge.core.records.record import topic_name
from bridge.core.records.recorded import position_of
from bridge.core.sequencing.position import MESSAGE_TYPE, Position, StreamKey, Tails, furthest
from bridge.errors import SinkUnavailable
from bridge.retry import Backoff, forever
from bridge.sinks.kafka.owner import Owners, is_about_owners
from bridge.sinks.kafka.position_writer import NO_STREAMS
from bridge.sinks.kafka.recover_batches import tail_of

# The feed waits this long for a connection to Kafka, and for the read.
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 60.0
_MAX_DELAY_S = 1.0

_decode = msgspec.json.Decoder(Position).decode

log = structlog.get_logger(__name__)


class _Interrupted(Exception):
    """Kafka became unavailable, or a topic changed, during the read."""


class Written(NamedTuple):
    """What the position topic has of a shard: its owners, and the written positions of its streams.

    `ends` are the offsets up to which it was read, by partition.
    """

    owners: Owners
    positions: dict[StreamKey, Position]
    ends: dict[int, int]


async def read_written(
    reader: TopicReader,
    options: settings.Kafka,
    topic: str,
    shard: ShardId,
    earlier: Written | None = None,
) -> Written:
    """Read the position topic, or what was written to it after an earlier read. Raises
    SinkUnavailable.
    """
    owners, positions = Owners(options, topic, shard), []
    bounds = await reader.bounds(topic)
    for part in bounds:
        begin_offset = earlier.ends.get(part.partition, 0) if earlier else 0
        if begin_offset <= part.end_offset:  # otherwise the topic was created again
            part.begin_offset = max(part.begin_offset, begin_offset)
    records = [each async for _, batch in reader.read(topic, bounds) for each in batch]
    for record in records:
        if is_about_owners(record.key):
            owners.see(record.key, record.value)
        elif (position := decode_ours(_decode, record.value)) is None:
            reader.pass_over(record)
        elif has_symbol(shard, position.symbol):
            positions.append(position)
    ends = {part.partition: part.end_offset for part in bounds}
    return Written(owners, furthest(positions), ends)


async def read_start(
    options: settings.Kafka,
    venue: str,
    message_types: Iterable[str],
    shard: ShardId = WHOLE,
    written: Written | None = None,
) -> dict[StreamKey, Position]:
    """Return the last position of each stream of a shard, from the written positions and the
    records after them. A stream that started just before the end is known only by its records.

    If written positions are given, only what was written after them is read.

    Raises SinkUnavailable if Kafka cannot be read in time, and SinkRefused if it rejects us.
    """
    message_types = [
        message_type for message_type in message_types if message_type not in NO_STREAMS
    ]
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            async for attempt in _attempts(_Interrupted):
                with attempt:
                    return await _read_all(options, venue, message_types, shard, written)
    except TimeoutError as error:
        raise SinkUnavailable(f"Kafka was not read within {READ_TIMEOUT_S:g} s") from error
    raise AssertionError("forever has no end")


async def _read_all(
    options: settings.Kafka,
    venue: str,
    message_types: Iterable[str],
    shard: ShardId,
    written: Written | None,
) -> dict[StreamKey, Position]:
    """Read everything once. Raises SinkUnavailable if Kafka cannot be reached, and _Interrupted if
    it fails later.
    """
    async with _reader(options) as reader:
        try:
            topic = topic_name(options.topic, venue, MESSAGE_TYPE)
            later = await read_written(reader, options, topic, shard, written)
            earlier = written.positions.values() if written else ()
            found = Tails(furthest((*earlier, *later.positions.values())))
            # Also of streams that the settings leave out now: gaps may be open there.
            left_out = (key.message_type for key in found.positions)
            topics = {
                message_type: topic_name(options.topic, venue, message_type)
                for message_type in dict.fromkeys((*message_types, *left_out))
            }
            await _read_tails(reader, topics, found, shard)
        except SinkUnavailable as error:
            raise _Interrupted(str(error)) from error
        return found.positions


@asynccontextmanager
async def _reader(options: settings.Kafka) -> AsyncIterator[TopicReader]:
    """Open a reader, with retries: Kafka and the bridge may have been started together."""
    reader = TopicReader(options)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            async for attempt in _attempts(SinkUnavailable):
                with attempt:
                    await reader.__aenter__()
    except TimeoutError as error:
        servers = ", ".join(options.bootstrap_servers)
        raise SinkUnavailable(
            f"Kafka at {servers} could not be reached within {CONNECT_TIMEOUT_S:g} s"
        ) from error
    try:
        yield reader
    finally:
        await reader.__aexit__(None, None, None)


async def _read_tails(
    reader: TopicReader, topics: Mapping[str, str], found: Tails, shard: ShardId
) -> None:
    """Continue the positions with the records after them. `topics` is by message type."""
    for message_type, topic in topics.items():
        known = _offsets_after(found.positions.values(), message_type)
        parts = await reader.bounds(topic, has=shard.has)
        tails = [tail_of(part, known.get(part.partition)) for part in parts]
        async for partition, records in reader.read(topic, tails):
            for record in records:
                if row := position_of(message_type, record.value, partition, record.offset):
                    found.see(row)
                else:
                    reader.pass_over(record)


def _offsets_after(positions: Iterable[Position], message_type: str) -> dict[int, int]:
    """Return the offset to continue from, by partition."""
    greatest: dict[int, int] = {}
    for position in positions:
        if position.message_type == message_type and position.offset >= 0:
            begin = position.offset + 1
            greatest[position.partition] = max(begin, greatest.get(position.partition, begin))
    return greatest


def _attempts(error_type: type[Exception]) -> AsyncRetrying:
    backoff = Backoff(_MAX_DELAY_S)

    def on_retry(error: Exception, delay_s: float) -> None:
        if backoff.should_log(error):
            log.info("start_waiting_for_kafka", error=str(error), retry_in_s=round(delay_s, 2))

    return forever(backoff, error_type, on_retry=on_retry)
