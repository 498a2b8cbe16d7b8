"""Reads the gaps that the previous process has left open, before the feed starts."""

import asyncio
from collections.abc import Mapping

import msgspec

from bridge import settings
from bridge.brokers.kafka_reader import TopicReader
from bridge.core.delivery.open_gaps import OpenGaps
from bridge.core.model.events import Gap
from bridge.core.model.shard import WHOLE, ShardId
from bridge.core.model.unreadable import decode_ours
from bridge.core.records.record import topic_name
from bridge.core.records.recorded import position_of
from bridge.core.sequencing.position import Position, StreamKey
from bridge.errors import SinkUnavailable
from bridge.sinks.kafka.recover_batches import tail_of
from bridge.sinks.kafka.recover_positions import READ_TIMEOUT_S

# Records fetched for a gap lie after it. If more than this many records of a topic lie after its
# gaps, they are not read, and the gaps stay open. An audit reads a million records in 2.6 s
# (docs/reference/audit.md).
MAX_RECORDS = 1_000_000
# Trade times increase with the ids, except for small steps of the exchange's clocks.
MARGIN_MS = 1_000

_decode = msgspec.json.Decoder(Gap).decode


async def read_open_gaps(
    options: settings.Kafka,
    venue: str,
    positions: Mapping[StreamKey, Position],
    shard: ShardId = WHOLE,
) -> OpenGaps:
    """Return the open gaps of a shard, with their ids that are already in the topics.

    The streams continue after `positions`. Raises SinkUnavailable if Kafka cannot be read in time,
    and SinkRefused if it rejects us.
    """
    gaps = OpenGaps()
    try:
        async with asyncio.timeout(READ_TIMEOUT_S), TopicReader(options) as reader:
            await _read_gaps(reader, topic_name(options.topic, venue, "gap"), gaps, shard)
            gaps.go_back(positions)
            for message_type in ("trade", "agg_trade"):
                topic = topic_name(options.topic, venue, message_type)
                await _read_brought(reader, topic, message_type, gaps, shard)
    except TimeoutError as error:
        raise SinkUnavailable(f"open gaps were not read within {READ_TIMEOUT_S:g} s") from error
    return gaps


async def _read_gaps(reader: TopicReader, topic: str, gaps: OpenGaps, shard: ShardId) -> None:
    tails = [tail_of(part, None) for part in await reader.bounds(topic, has=shard.has)]
    async for _, records in reader.read(topic, tails):
        for record in records:
            if gap := decode_ours(_decode, record.value):
                gaps.see(gap)
            else:
                reader.pass_over(record)


async def _read_brought(
    reader: TopicReader, topic: str, message_type: str, gaps: OpenGaps, shard: ShardId
) -> None:
    since, bounds = gaps.since(message_type), []
    if since is not None:
        bounds = await reader.bounds(topic, since // 1000 - MARGIN_MS, has=shard.has)
    if not bounds or sum(map(len, bounds)) > MAX_RECORDS:
        gaps.forget(message_type)
        return
    async for partition, records in reader.read(topic, bounds):
        for record in records:
            if position := position_of(message_type, record.value, partition, record.offset):
                gaps.brought(position.stream_key, position.last_id)
