"""Reads topics to find the records restored from disk that were already committed."""

import asyncio

from bridge import settings
from bridge.brokers.kafka_reader import Partition, TopicReader
from bridge.core.delivery.replay import ReplayMatcher
from bridge.sinks.kafka.recover_batches import SETTLE_S
from bridge.sinks.kafka.recover_positions import MAX_ROUNDS


async def find_committed(options: settings.Kafka, restored: ReplayMatcher) -> None:
    """Show `restored` the records of its topics since its oldest record.

    This reads until the ends of the partitions no longer move, because records that the previous
    process has sent may still be written. Raises SinkUnavailable.
    """
    async with TopicReader(options) as reader:
        # By the times of the records: positions may be ahead of the records that left the disk.
        moving = {
            topic: await reader.bounds(topic, first_ms)
            for topic, first_ms in restored.first_ms.items()
        }
        for _ in range(MAX_ROUNDS):
            for topic, tails in moving.items():
                await _show(reader, topic, tails, restored)
            await asyncio.sleep(SETTLE_S)
            now = {topic: await _since(reader, topic, tails) for topic, tails in moving.items()}
            moving = {topic: tails for topic, tails in now.items() if any(map(len, tails))}
            if not moving:
                break


async def _show(
    reader: TopicReader, topic: str, tails: list[Partition], restored: ReplayMatcher
) -> None:
    async for _, records in reader.read(topic, tails):
        for record in records:
            restored.see(topic, record.key or b"", record.value or b"")


async def _since(reader: TopicReader, topic: str, read: list[Partition]) -> list[Partition]:
    """Return the part of each partition after its last known end."""
    ends = {part.partition: part.end_offset for part in read}
    return [_from(part, ends) for part in await reader.bounds(topic)]


def _from(part: Partition, ends: dict[int, int]) -> Partition:
    begin = max(part.begin_offset, ends.get(part.partition, part.begin_offset))
    return Partition(part.partition, min(begin, part.end_offset), part.end_offset)
