"""A Kafka cluster in memory: partitions, and the state of each producer in its brokers.

Sequence numbers follow KIP-98. A broker recognises a written batch by its producer, epoch and
number; it remembers the last five of each partition. It refuses a number that is neither known nor
the next one. It accepts any number from a producer that it has forgotten.

A transactional id gives each producer that opens it a higher epoch. The markers of a transaction
take an offset each, and a partition refuses batches of epochs below that of its last marker.
"""

import asyncio
import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from functools import partial
from random import Random
from typing import NamedTuple

from aiokafka import TopicPartition
from aiokafka.errors import (
    InvalidProducerEpoch,
    MessageSizeTooLargeError,
    NotLeaderForPartitionError,
    OutOfOrderSequenceNumber,
    ProducerFenced,
)

from bridge.brokers.kafka_client import InvalidRecordError
from bridge.sinks.kafka.producer_state import ProducerId

NODES = 2
KNOWN_BATCHES = 5
# A broker that was frozen handles the requests in its buffers within this time.
BACKLOG_S = 0.45

OUT_OF_ORDER: type[Exception] = OutOfOrderSequenceNumber
OLD_EPOCH: type[Exception] = InvalidProducerEpoch
TOO_LARGE: type[Exception] = MessageSizeTooLargeError
REFUSALS: tuple[type[Exception], ...] = (
    OUT_OF_ORDER,
    NotLeaderForPartitionError,
    ProducerFenced,
)


class Stored(NamedTuple):
    """A record in a partition; its offset is its position in the log.

    `life` is the number of the process that sent it. `written_s` is the time at which the broker
    wrote it, 0 before.
    """

    key: bytes
    value: bytes
    timestamp_ms: int
    life: int
    written_s: float = 0.0


MARKER = Stored(b"", b"", 0, -1)


class Batch(NamedTuple):
    """Records as a producer sends them."""

    place: TopicPartition
    producer_id: int
    epoch: int
    sequence: int
    records: tuple[Stored, ...]

    @property
    def size(self) -> int:
        """Return how many bytes the values of the records have."""
        return sum(len(record.value) for record in self.records)


# An offset, or the error of a batch that was not written.
Result = int | Exception
Answered = Callable[[list[Result] | None], None]


class _Known:
    """The state of one producer in a partition."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.next_sequence: int | None = None
        self.offsets: deque[tuple[int, int, int]] = deque(maxlen=KNOWN_BATCHES)


class Node:
    """One broker. It handles requests, keeps them while it is frozen, or loses them when killed."""

    def __init__(self) -> None:
        # Kills may overlap: the broker is up again after as many starts.
        self.kills = 0
        self.awake = asyncio.Event()
        self.awake.set()
        self.delayed_requests: list[Callable[[], None]] = []

    @property
    def is_down(self) -> bool:
        return self.kills > 0


class Broker:
    """The cluster, with its faults as probabilities.

    `loses`: a request is lost with its connection. `mutes`: its answer is lost. `refuses`: a batch
    is refused. `is_invalid` says which records a rule refuses. Batches of several records with more
    than `max_batch_bytes` are too large. `leaderless` partitions are neither written nor read.
    """

    def __init__(self, random: Random) -> None:
        self.random = random
        self.logs: dict[TopicPartition, list[Stored]] = {}
        self.nodes = [Node() for _ in range(NODES)]
        self.loses = self.mutes = self.refuses = 0.0
        self.is_invalid: Callable[[Stored], bool] | None = None
        self.max_batch_bytes = math.inf
        self.leaderless: set[TopicPartition] = set()
        self._known: defaultdict[TopicPartition, dict[int, _Known]] = defaultdict(dict)
        self._producers = 0
        self._transactional_ids: dict[str, ProducerId] = {}
        # The partitions that wait for markers, of each transactional id.
        self._unmarked: defaultdict[str, set[TopicPartition]] = defaultdict(set)
        self._awaited: dict[bytes, asyncio.Event] = {}

    def create(self, topic: str, partitions: int) -> None:
        for number in range(partitions):
            self.logs.setdefault(TopicPartition(topic, number), [])

    def partitions(self, topic: str) -> set[int]:
        return {place.partition for place in self.logs if place.topic == topic}

    def records(self, topic: str) -> list[tuple[TopicPartition, list[Stored]]]:
        return [
            (place, [stored for stored in log if stored is not MARKER])
            for place, log in self.logs.items()
            if place.topic == topic
        ]

    def new_identity(self) -> ProducerId:
        self._producers += 1
        return ProducerId(self._producers, 0)

    async def open(self, transactional_id: str) -> ProducerId:
        """Return the identity of the next epoch of a transactional id."""
        await self._until_marked(transactional_id)
        known = self._transactional_ids.get(transactional_id)
        identity = known._replace(epoch=known.epoch + 1) if known else self.new_identity()
        self._transactional_ids[transactional_id] = identity
        return identity

    async def begin(self, transactional_id: str, identity: ProducerId) -> None:
        """Begin a transaction. Raises ProducerFenced if the identity is not the present one."""
        await self._until_marked(transactional_id)
        if identity != self._transactional_ids[transactional_id]:
            raise ProducerFenced

    def commit(self, transactional_id: str, places: Iterable[TopicPartition]) -> None:
        """Commit a transaction. Its markers are written later."""
        identity = self._transactional_ids[transactional_id]
        self._unmarked[transactional_id].update(places)
        for place in places:
            self._later(0.05, partial(self._mark, transactional_id, place, identity))

    async def expire(self) -> None:
        """Raise the epoch of a transactional id, as the coordinator does if a transaction takes too
        long.
        """
        for transactional_id in list(self._transactional_ids):
            await self.open(transactional_id)
            self.commit(transactional_id, self.logs)

    async def _until_marked(self, transactional_id: str) -> None:
        while self._unmarked[transactional_id]:  # noqa: ASYNC110 - as the clients do
            await asyncio.sleep(0.02)

    def _mark(self, transactional_id: str, place: TopicPartition, identity: ProducerId) -> None:
        node = self.nodes[self.node_of(place)]
        if node.is_down or not node.awake.is_set() or place in self.leaderless:
            self._later(0.05, partial(self._mark, transactional_id, place, identity))
            return
        self._unmarked[transactional_id].remove(place)
        self._known_of(place, identity)
        self.logs[place].append(MARKER)

    def node_of(self, place: TopicPartition) -> int:
        """Return the number of the broker that leads a partition."""
        return int(place.partition + len(place.topic)) % NODES

    def freeze(self, number: int) -> None:
        """Keep the connections of a broker open, and answer nothing."""
        self.nodes[number].awake.clear()

    def thaw(self, number: int) -> None:
        """Let a frozen broker work again.

        Old and new requests arrive in any order, because they were in different buffers.
        """
        node = self.nodes[number]
        node.awake.set()
        delayed_requests, node.delayed_requests = node.delayed_requests, []
        for work in delayed_requests:
            self._later(BACKLOG_S, work)

    def kill(self, number: int) -> None:
        """Take a broker down; the requests in its buffers are lost."""
        node = self.nodes[number]
        node.kills += 1
        node.delayed_requests.clear()
        self.thaw(number)

    def start(self, number: int) -> None:
        self.nodes[number].kills -= 1

    def forget(self) -> None:
        """Forget the sequence numbers of all producers. Their epochs are known by the markers."""
        for known in self._known.values():
            for state in known.values():
                state.next_sequence = None
                state.offsets.clear()

    async def written(self, words: bytes) -> None:
        """Return when a record that contains `words` is written, before any client knows of it."""
        await self._awaited.setdefault(words, asyncio.Event()).wait()

    def produce(self, number: int, batches: list[Batch], answered: Answered) -> None:
        """Send a request. `answered` gets the results, or None if the connection broke.

        It may never be called.
        """
        node = self.nodes[number]

        def arrive() -> None:
            if node.is_down:
                self._later(0.01, lambda: answered(None))
            elif node.awake.is_set():
                work()
            else:
                node.delayed_requests.append(work)

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
        if self.is_invalid and any(map(self.is_invalid, batch.records)):
            return InvalidRecordError()
        if len(batch.records) > 1 and batch.size > self.max_batch_bytes:
            return TOO_LARGE()
        known = self._known_of(batch.place, ProducerId(batch.producer_id, batch.epoch))
        if batch.epoch < known.epoch:
            return OLD_EPOCH()
        for sequence, count, offset in known.offsets:
            if (sequence, count) == (batch.sequence, len(batch.records)):
                return offset
        if known.next_sequence not in {None, batch.sequence}:
            return OUT_OF_ORDER()
        offset = len(log)
        now_s = asyncio.get_running_loop().time()
        log.extend(record._replace(written_s=now_s) for record in batch.records)
        for words in [w for w in self._awaited if any(w in r.value for r in batch.records)]:
            self._awaited.pop(words).set()
        known.next_sequence = batch.sequence + len(batch.records)
        known.offsets.append((batch.sequence, len(batch.records), offset))
        return offset

    def _known_of(self, place: TopicPartition, identity: ProducerId) -> _Known:
        """Return the state of a producer in a partition. With a higher epoch, sequence numbers
        start at 0 again.
        """
        known = self._known[place].setdefault(identity.producer_id, _Known(identity.epoch))
        if identity.epoch > known.epoch:
            known = self._known[place][identity.producer_id] = _Known(identity.epoch)
            known.next_sequence = 0
        return known

    def _later(self, within_s: float, work: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(self.random.uniform(0.001, within_s), work)
