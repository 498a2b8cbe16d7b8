"""Where the process before this one has stopped, read from Kafka before the feed begins.

The positions say where to look, the tail of each partition from there on what was really
published. A record of a killed process may still be written while we read: so read until the ends
stand still.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

import msgspec
import structlog
from aiokafka import ConsumerRecord

from bridge import settings
from bridge.brokers.kafka_reader import TopicReader
from bridge.core.records.record import topic_name
from bridge.core.sequencing.position import MESSAGE_TYPE, Name, Position, furthest
from bridge.errors import SinkUnavailable
from bridge.retry import Backoff, forever
from bridge.sinks.kafka.position_writer import NO_STREAMS
from bridge.sinks.kafka.recover_batches import SETTLE_S, tail_of

# How long the feed waits for a Kafka that is not there, and for one that is to be read.
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 60.0
# Whoever still writes after so many settled times is no process that has gone.
MAX_ROUNDS = 10
_MAX_DELAY_S = 1.0
_ID_FIELDS = {"trade": "trade_id", "agg_trade": "agg_trade_id"}

log = structlog.get_logger(__name__)


class _Interrupted(Exception):
    """Kafka went away, or changed, while it was being read."""


class _Row(msgspec.Struct, gc=False):
    """What the tail's records are read for."""

    symbol: str
    received: int
    timestamp: int | None = None
    trade_id: int = -1
    agg_trade_id: int = -1


async def read_start(
    options: settings.Kafka, venue: str, message_types: Iterable[str]
) -> dict[Name, Position]:
    """The last position of each stream: all that were written, and what the topics have behind
    them. A stream that began just before the end is known by its records alone.

    Raises SinkUnavailable where Kafka cannot be read in time, SinkRefused where it rejects us.
    """
    message_types = [
        message_type for message_type in message_types if message_type not in NO_STREAMS
    ]
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            backoff = Backoff(_MAX_DELAY_S)
            async for attempt in forever(backoff, _Interrupted, on_retry=_on_retry):
                with attempt:
                    return await _read_all(options, venue, message_types)
    except TimeoutError as error:
        raise SinkUnavailable(f"Kafka was not read in {READ_TIMEOUT_S:g} s") from error
    raise AssertionError("forever has no end")


async def _read_all(
    options: settings.Kafka, venue: str, message_types: Iterable[str]
) -> dict[Name, Position]:
    """Raises _Interrupted where Kafka was there, and SinkUnavailable where it is not."""
    async with _reader(options) as reader:
        try:
            topic = topic_name(options.topic, venue, MESSAGE_TYPE)
            written = [_written(record) for record in await _read(reader, topic)]
            positions = furthest(position for position in written if position)
            topics = {
                message_type: topic_name(options.topic, venue, message_type)
                for message_type in message_types
            }
            return await _read_tails(reader, topics, positions)
        except SinkUnavailable as error:
            raise _Interrupted(str(error)) from error


@asynccontextmanager
async def _reader(options: settings.Kafka) -> AsyncIterator[TopicReader]:
    """A reader, tried for a while: Kafka and the bridge may have been started together."""
    reader = TopicReader(options)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            backoff = Backoff(_MAX_DELAY_S)
            async for attempt in forever(backoff, SinkUnavailable, on_retry=_on_retry):
                with attempt:
                    await reader.__aenter__()
    except TimeoutError as error:
        servers = ", ".join(options.bootstrap_servers)
        raise SinkUnavailable(
            f"Kafka at {servers} was not there for {CONNECT_TIMEOUT_S:g} s"
        ) from error
    try:
        yield reader
    finally:
        await reader.__aexit__(None, None, None)


async def _read_tails(
    reader: TopicReader, topics: Mapping[str, str], positions: dict[Name, Position]
) -> dict[Name, Position]:
    """The positions, with what the topics (by message type) have behind them.

    All topics a round, so that a start waits once for them all, however many they are.
    """
    known = {
        message_type: _offsets_behind(positions.values(), message_type) for message_type in topics
    }
    moving = list(topics)
    for settled in range(MAX_ROUNDS):
        for message_type in tuple(moving):
            bounds = await reader.bounds(topics[message_type])
            tails = [tail_of(part, known[message_type].get(part.partition)) for part in bounds]
            async for partition, records in reader.read(topics[message_type], tails):
                rows = [position_of(message_type, partition, record) for record in records]
                positions = furthest([*positions.values(), *(row for row in rows if row)])
            known[message_type] = {part.partition: part.end_offset for part in bounds}
            # Also where ids prove nothing: what is late may be the first of its stream.
            if not bounds or (settled and not any(map(len, tails))):
                moving.remove(message_type)
        if not moving:
            return positions
        await asyncio.sleep(SETTLE_S)
    for message_type in moving:
        log.warning(
            "kafka_topic_in_use",
            topic=topics[message_type],
            remedy="end the other bridge that writes there",
        )
    return positions


async def _read(reader: TopicReader, topic: str) -> "list[ConsumerRecord[bytes, bytes]]":
    bounds = await reader.bounds(topic)
    return [record async for _, records in reader.read(topic, bounds) for record in records]


def _offsets_behind(positions: Iterable[Position], message_type: str) -> dict[int, int]:
    """The offset to read on from, by partition."""
    greatest: dict[int, int] = {}
    for position in positions:
        if position.message_type == message_type:
            begin = position.offset + 1
            greatest[position.partition] = max(begin, greatest.get(position.partition, begin))
    return greatest


def _written(record: "ConsumerRecord[bytes, bytes]") -> Position | None:
    try:
        return msgspec.json.decode(record.value or b"", type=Position)
    except msgspec.DecodeError:
        return None


def position_of(
    message_type: str, partition: int, record: "ConsumerRecord[bytes, bytes]"
) -> Position | None:
    """What a record of a contiguous stream says; None where it is not one of ours."""
    try:
        row = msgspec.json.decode(record.value or b"", type=_Row)
    except msgspec.DecodeError:
        return None
    identity: int = getattr(row, _ID_FIELDS[message_type]) if message_type in _ID_FIELDS else -1
    time = row.received if row.timestamp is None else row.timestamp
    return Position(message_type, row.symbol, identity, time, partition, record.offset)


def _on_retry(error: Exception, delay_s: float) -> None:
    log.info("start_waiting_for_kafka", error=str(error), retry_in_s=round(delay_s, 2))
