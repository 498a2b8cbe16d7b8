"""Reads topics to find the records restored from disk that were already committed."""

from bridge import settings
from bridge.brokers.kafka_reader import TopicReader
from bridge.core.delivery.replay import ReplayMatcher


async def find_committed(options: settings.Kafka, restored: ReplayMatcher) -> None:
    """Show `restored` the records of its topics since its oldest record. Raises SinkUnavailable."""
    async with TopicReader(options) as reader:
        # By the times of the records: positions may be ahead of the records that left the disk.
        for topic, first_ms in restored.first_ms.items():
            async for _, records in reader.read(topic, await reader.bounds(topic, first_ms)):
                for record in records:
                    restored.see(topic, record.key or b"", record.value or b"")
