"""Reads the tails of the partitions to find the records of failed batches that were committed.

A batch that the brokers have refused has lost its sequence number. Then only the tails show what to
send again.
"""

from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from aiokafka import ConsumerRecord

from bridge import settings
from bridge.brokers.kafka_reader import Partition, TopicReader
from bridge.core.sequencing.position import committed
from bridge.sinks.kafka.producer_state import ProducerState, topic_partition
from bridge.sinks.outbox.outbox import PartitionQueue

# The length of the tail to read if its begin is not known.
MAX_RECORDS = 50_000


async def find_committed(
    options: settings.Kafka, producer_state: ProducerState, queues: Sequence[PartitionQueue]
) -> list[list[int]]:
    """Return for each queue the offsets of its in-doubt records that are in the partition.

    Notes in `producer_state` the ends of the partitions. Raises SinkUnavailable.
    """
    async with TopicReader(options) as reader:
        tails = [await _read_tail(reader, producer_state, queue) for queue in queues]
    # Only after all tails are read: after a failure each is read again from the same offset.
    for queue, tail in zip(queues, tails, strict=True):
        if tail.end_offset is not None:
            producer_state.next_offsets[topic_partition(queue)] = tail.end_offset
    return [_offsets(queue, tail) for queue, tail in zip(queues, tails, strict=True)]


class _Tail(NamedTuple):
    """The last records of a partition, and its end; None if the partition no longer exists."""

    end_offset: int | None
    records: "list[ConsumerRecord[bytes, bytes]]"


async def _read_tail(
    reader: TopicReader, producer_state: ProducerState, queue: PartitionQueue
) -> _Tail:
    # Other partitions of the topic may have no leader to ask.
    for part in await reader.bounds(queue.topic, has=queue.partition.__eq__):
        bounds = [tail_of(part, producer_state.next_offsets.get(topic_partition(queue)))]
        records = [r async for _, batch in reader.read(queue.topic, bounds) for r in batch]
        return _Tail(part.end_offset, records)
    return _Tail(None, [])


def _offsets(queue: PartitionQueue, tail: _Tail) -> list[int]:
    waiting = [record.value for record in islice(queue.records, queue.in_doubt)]
    indexes = committed(waiting, [record.value or b"" for record in tail.records])
    return [tail.records[index].offset for index in indexes]


def tail_of(whole: Partition, begin: int | None) -> Partition:
    """Return the part of a partition that begins at an offset.

    If `begin` is None, or if the partition is now shorter because its topic was created again,
    return the last MAX_RECORDS offsets.
    """
    if begin is None or begin > whole.end_offset:
        begin = whole.end_offset - MAX_RECORDS
    return Partition(whole.partition, max(begin, whole.begin_offset), whole.end_offset)
