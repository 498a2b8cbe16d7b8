"""Which records of failed batches have been written after all: read from the partitions' tails.

Where the brokers have refused a batch, its number is gone, and this alone says what to send again.
"""

import asyncio
from collections.abc import Sequence
from itertools import islice

from aiokafka import ConsumerRecord, TopicPartition

from bridge import settings
from bridge.core.position import landed
from bridge.outbox import Lane
from bridge.sinks.kafka_ledger import Ledger
from bridge.sinks.kafka_reading import Partition, TopicReader

# What a client had sent when it went may still be written: until the broker has worked off what
# the closed connection held.
SETTLE_S = 0.5
# How far back to look where it is not known from where on.
MAX_RECORDS = 50_000


async def find_landed(
    options: settings.Kafka, ledger: Ledger, lanes: Sequence[Lane]
) -> list[list[int]]:
    """For each lane the offsets of those of its unsure records that are in the partition.

    The ledger learns where the partitions end. Raises SinkUnavailable.
    """
    if not ledger.is_continued:
        await asyncio.sleep(SETTLE_S)
    async with TopicReader(options) as reader:
        return [await _offsets(reader, ledger, lane) for lane in lanes]


async def _offsets(reader: TopicReader, ledger: Ledger, lane: Lane) -> list[int]:
    place = TopicPartition(lane.topic, lane.partition)
    bounds = [part for part in await reader.bounds(lane.topic) if part.partition == lane.partition]
    tails = [tail_of(part, ledger.next_offsets.get(place)) for part in bounds]
    tail = [r async for _, records in reader.read(lane.topic, tails) for r in records]
    for part in bounds:
        ledger.next_offsets[place] = part.end_offset
    return _places(lane, tail)


def _places(lane: Lane, tail: "list[ConsumerRecord[bytes, bytes]]") -> list[int]:
    waiting = [record.value for record in islice(lane.records, lane.unsure)]
    return [tail[place].offset for place in landed(waiting, [r.value or b"" for r in tail])]


def tail_of(whole: Partition, begin: int | None) -> Partition:
    """The part of a partition that begins at an offset, or not too far back where none is known or
    the partition has become shorter: a topic made anew.
    """
    if begin is None or begin > whole.end_offset:
        begin = whole.end_offset - MAX_RECORDS
    return Partition(whole.partition, max(begin, whole.begin_offset), whole.end_offset)
