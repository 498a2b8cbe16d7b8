"""A Kafka cluster in memory: partitions, and what its brokers know of each producer.

Numbers as in KIP-98: a batch that was written is known again by its producer, epoch and number,
the last five of each partition; a number that is neither the next nor known is refused; of a
producer that has been forgotten any number is taken.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from aiokafka import TopicPartition
from aiokafka.errors import (
    NotLeaderForPartitionError,
    OutOfOrderSequenceNumber,
    ProducerFenced,
)

NODES = 2
KNOWN_BATCHES = 5
# A broker that wakes up works off what lay in its buffers within so long.
BACKLOG_S = 0.45

OUT_OF_ORDER: type[Exception] = OutOfOrderSequenceNumber
REFUSALS: tuple[type[Exception], ...] = (
    OUT_OF_ORDER,
    NotLeaderForPartitionError,
    ProducerFenced,
)


class Stored(NamedTuple):
    """A record in a partition; its offset is its place."""

    key: bytes
    value: bytes
    timestamp_ms: int


class Batch(NamedTuple):
    """Records as a producer sends them."""

    place: TopicPartition
    producer_id: int
    epoch: int
    sequence: int
    records: tuple[Stored, ...]


# An offset, or why the batch was not written.
Result = int | Exception
Answered = Callable[[list[Result] | None], None]


class _Known:
    """What a partition knows of one producer."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.next_sequence: int | None = None
        self.offsets: deque[tuple[int, int, int]] = deque(maxlen=KNOWN_BATCHES)


class Node:
    """One broker: requests are worked off, or wait while it is frozen, or go down with it."""

    def __init__(self) -> None:
        # Whoever has taken it down has to start it again.
        self.kills = 0
        self.awake = asyncio.Event()
        self.awake.set()
        self.spill_accounts: list[Callable[[], None]] = []

    @property
    def is_down(self) -> bool:
        return self.kills > 0


class Broker:
    """`loses` is how often a request gets lost with its connection, `mutes` how often its answer
    does, `refuses` how often a batch is refused.
    """

    def __init__(self, random: Random) -> None:
        self.random = random
        self.logs: dict[TopicPartition, list[Stored]] = {}
        self.nodes = [Node() for _ in range(NODES)]
        self.loses = self.mutes = self.refuses = 0.0
        self._known: defaultdict[TopicPartition, dict[int, _Known]] = defaultdict(dict)
        self._producers = 0
        self._awaited: dict[bytes, asyncio.Event] = {}

    def create(self, topic: str, partitions: int) -> None:
        for number in range(partitions):
            self.logs.setdefault(TopicPartition(topic, number), [])

    def partitions(self, topic: str) -> set[int]:
        return {place.partition for place in self.logs if place.topic == topic}

    def records(self, topic: str) -> list[tuple[TopicPartition, list[Stored]]]:
        return [(place, log) for place, log in self.logs.items() if place.topic == topic]

    def new_producer_id(self) -> int:
        self._producers += 1
        return self._producers

    def node_of(self, place: TopicPartition) -> int:
        """The leader of a partition."""
        return int(place.partition + len(place.topic)) % NODES

    def freeze(self, number: int) -> None:
        """It holds its connections and answers nothing."""
        self.nodes[number].awake.clear()

    def thaw(self, number: int) -> None:
        """Old requests and new ones come in any order: they lay in different buffers."""
        node = self.nodes[number]
        node.awake.set()
        spill_accounts, node.spill_accounts = node.spill_accounts, []
        for work in spill_accounts:
            self._later(BACKLOG_S, work)

    def kill(self, number: int) -> None:
        """What it had in its buffers is gone."""
        node = self.nodes[number]
        node.kills += 1
        node.spill_accounts.clear()
        self.thaw(number)

    def start(self, number: int) -> None:
        self.nodes[number].kills -= 1

    def forget(self) -> None:
        """What is known of all producers."""
        self._known.clear()

    async def written(self, words: bytes) -> None:
        """Return when a record with these words is written, and before anybody hears of it."""
        await self._awaited.setdefault(words, asyncio.Event()).wait()

    def produce(self, number: int, batches: list[Batch], answered: Answered) -> None:
        """Send a request on its way; `answered` gets the results, or None if the connection broke.
        It may never be called.
        """
        node = self.nodes[number]

        def arrive() -> None:
            if node.is_down:
                self._later(0.01, lambda: answered(None))
            elif node.awake.is_set():
                work()
            else:
                node.spill_accounts.append(work)

        def work() -> None:
            results = [self._write(batch) for batch in batches]
            lost = self.random.random() < self.mutes
            if lost and self.random.random() < 0.5:
                return
            self._later(0.05, lambda: answered(None if lost or node.is_down else results))

        if self.random.random() < self.loses:
            self._later(0.05, lambda: answered(None))
        else:
            self._later(0.05, arrive)

    def _write(self, batch: Batch) -> Result:
        log = self.logs[batch.place]
        if self.random.random() < self.refuses:
            refusal: type[Exception] = self.random.choice(REFUSALS)
            return refusal()
        known = self._known[batch.place].setdefault(batch.producer_id, _Known(batch.epoch))
        for sequence, count, offset in known.offsets:
            if (sequence, count) == (batch.sequence, len(batch.records)):
                return offset
        if known.next_sequence not in {None, batch.sequence}:
            return OUT_OF_ORDER()
        offset = len(log)
        log.extend(batch.records)
        for words in [w for w in self._awaited if any(w in r.value for r in batch.records)]:
            self._awaited.pop(words).set()
        known.next_sequence = batch.sequence + len(batch.records)
        known.offsets.append((batch.sequence, len(batch.records), offset))
        return offset

    def _later(self, within_s: float, work: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(self.random.uniform(0.001, within_s), work)
