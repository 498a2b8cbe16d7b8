"""Which records of failed batches have been written after all: read from the partitions' tails.

Where the brokers have refused a batch, its number is gone, and this alone says what to send again.
"""

import asyncio
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from aiokafka import ConsumerRecord, TopicPartition

from bridge import settings
from bridge.brokers.kafka_reader import Partition, TopicReader
from bridge.core.sequencing.position import committed
from bridge.sinks.kafka.producer_state import ProducerState
from bridge.sinks.outbox.outbox import PartitionQueue

# What a client had sent when it went may still be written: until the broker has worked off what
# the closed connection held.
SETTLE_S = 0.5
# How far back to look where it is not known from where on.
MAX_RECORDS = 50_000


async def find_committed(
    options: settings.Kafka, producer_state: ProducerState, queues: Sequence[PartitionQueue]
) -> list[list[int]]:
    """For each queue the offsets of those of its in_doubt records that are in the partition.

    The producer_state learns where the partitions end. Raises SinkUnavailable.
    """
    if not producer_state.is_continued:
        await asyncio.sleep(SETTLE_S)
    async with TopicReader(options) as reader:
        tails = [await _read_tail(reader, producer_state, queue) for queue in queues]
    # Not before all are read: after a failure under way each is read again from the same place on.
    for queue, tail in zip(queues, tails, strict=True):
        if tail.end_offset is not None:
            producer_state.next_offsets[_place(queue)] = tail.end_offset
    return [_offsets(queue, tail) for queue, tail in zip(queues, tails, strict=True)]


class _Tail(NamedTuple):
    """The last records of a partition, and where it ends; None where it is gone."""

    end_offset: int | None
    records: "list[ConsumerRecord[bytes, bytes]]"


async def _read_tail(
    reader: TopicReader, producer_state: ProducerState, queue: PartitionQueue
) -> _Tail:
    for part in await reader.bounds(queue.topic):
        if part.partition == queue.partition:
            bounds = [tail_of(part, producer_state.next_offsets.get(_place(queue)))]
            records = [r async for _, batch in reader.read(queue.topic, bounds) for r in batch]
            return _Tail(part.end_offset, records)
    return _Tail(None, [])


def _offsets(queue: PartitionQueue, tail: _Tail) -> list[int]:
    waiting = [record.value for record in islice(queue.records, queue.in_doubt)]
    places = committed(waiting, [record.value or b"" for record in tail.records])
    return [tail.records[place].offset for place in places]


def _place(queue: PartitionQueue) -> TopicPartition:
    return TopicPartition(queue.topic, queue.partition)


def tail_of(whole: Partition, begin: int | None) -> Partition:
    """The part of a partition that begins at an offset, or not too far back where none is known or
    the partition has become shorter: a topic made anew.
    """
    if begin is None or begin > whole.end_offset:
        begin = whole.end_offset - MAX_RECORDS
    return Partition(whole.partition, max(begin, whole.begin_offset), whole.end_offset)
