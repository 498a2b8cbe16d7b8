"""Which records that were brought back from disk have landed: read from their topics."""

import asyncio

from bridge import settings
from bridge.core.restored import Restored
from bridge.sinks.kafka_reading import Partition, TopicReader
from bridge.sinks.kafka_start import MAX_ROUNDS
from bridge.sinks.kafka_tail import SETTLE_S


async def find_landed(options: settings.Kafka, restored: Restored) -> None:
    """Show `restored` what its topics hold since its oldest record, until the ends stand still:
    what the last process had sent may still be written. Raises SinkUnavailable.
    """
    async with TopicReader(options) as reader:
        for topic, first_ms in restored.first_ms.items():
            # By the records' own times: positions may be ahead of what has left the disk.
            tails = await reader.bounds(topic, first_ms)
            for _ in range(MAX_ROUNDS):
                await _see(reader, topic, tails, restored)
                await asyncio.sleep(SETTLE_S)
                ends = {part.partition: part.end_offset for part in tails}
                tails = [_behind(part, ends) for part in await reader.bounds(topic)]
                if not any(map(len, tails)):
                    break


async def _see(reader: TopicReader, topic: str, tails: list[Partition], restored: Restored) -> None:
    async for _, records in reader.read(topic, tails):
        for record in records:
            restored.see(topic, record.key or b"", record.value or b"")


def _behind(part: Partition, ends: dict[int, int]) -> Partition:
    begin = max(part.begin_offset, ends.get(part.partition, part.begin_offset))
    return Partition(part.partition, min(begin, part.end_offset), part.end_offset)
