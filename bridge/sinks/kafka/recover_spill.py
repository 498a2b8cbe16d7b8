"""Which records that were brought back from disk have committed: read from their topics."""

import asyncio

from bridge import settings
from bridge.brokers.kafka_reader import Partition, TopicReader
from bridge.core.delivery.replay import ReplayMatcher
from bridge.sinks.kafka.recover_batches import SETTLE_S
from bridge.sinks.kafka.recover_positions import MAX_ROUNDS


async def find_committed(options: settings.Kafka, restored: ReplayMatcher) -> None:
    """Show `restored` what its topics hold since its oldest record, until the ends stand still:
    what the last process had sent may still be written. Raises SinkUnavailable.
    """
    async with TopicReader(options) as reader:
        # By the records' own times: positions may be ahead of what has left the disk.
        moving = {
            topic: await reader.bounds(topic, first_ms)
            for topic, first_ms in restored.first_ms.items()
        }
        for _ in range(MAX_ROUNDS):
            for topic, tails in moving.items():
                await _see(reader, topic, tails, restored)
            await asyncio.sleep(SETTLE_S)
            now = {topic: await _behind(reader, topic, tails) for topic, tails in moving.items()}
            moving = {topic: tails for topic, tails in now.items() if any(map(len, tails))}
            if not moving:
                break


async def _see(
    reader: TopicReader, topic: str, tails: list[Partition], restored: ReplayMatcher
) -> None:
    async for _, records in reader.read(topic, tails):
        for record in records:
            restored.see(topic, record.key or b"", record.value or b"")


async def _behind(reader: TopicReader, topic: str, read: list[Partition]) -> list[Partition]:
    """What has come since: each partition from where it ended then."""
    ends = {part.partition: part.end_offset for part in read}
    return [_from(part, ends) for part in await reader.bounds(topic)]


def _from(part: Partition, ends: dict[int, int]) -> Partition:
    begin = max(part.begin_offset, ends.get(part.partition, part.begin_offset))
    return Partition(part.partition, min(begin, part.end_offset), part.end_offset)
