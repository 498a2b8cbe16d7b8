"""aiokafka's producer for the broker in memory, as far as the bridge uses it.

It works as aiokafka's sender does: one request at a time to a node, with one batch of each
partition. A batch gets its sequence number once. Retriable errors are retried without limit.
"""

import asyncio
from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import (
    InvalidProducerEpoch,
    KafkaError,
    LeaderNotAvailableError,
    ProducerFenced,
    RequestTimedOutError,
    UnknownTopicOrPartitionError,
)
from aiokafka.producer.transaction_manager import TransactionManager
from aiokafka.structs import RecordMetadata

from bridge.sinks.kafka.producer_state import identity_of
from tests.simulation import process
from tests.simulation.broker import NODES, Batch, Broker, Result, Stored
from tests.simulation.kafka_clients import RETRY_BACKOFF_S, Client

RECORD_OVERHEAD_BYTES = 20


class BatchBuilder:
    """The records of a batch, up to a size."""

    def __init__(self, max_bytes: int) -> None:
        self.records: list[Stored] = []
        self._room = max_bytes

    def append(self, *, key: bytes, value: bytes, timestamp: int) -> object | None:
        self._room -= len(value) + RECORD_OVERHEAD_BYTES
        if self._room < 0:
            return None
        self.records.append(Stored(key, value, timestamp, process.current.get().number))
        return self

    def record_count(self) -> int:
        return len(self.records)

    def size(self) -> int:
        return sum(len(record.value) for record in self.records)


class _Sending:
    """A batch on its way, which keeps its sequence number."""

    def __init__(self, place: TopicPartition, records: list[Stored]) -> None:
        self.place = place
        self.records = tuple(records)
        self.sequence: int | None = None
        loop = asyncio.get_running_loop()
        self.begun_s = loop.time()
        self.future: asyncio.Future[RecordMetadata] = loop.create_future()


class Producer(Client):
    def __init__(self, broker: Broker, **options: Any) -> None:
        super().__init__(broker, **options)
        self._max_batch_size = options.get("max_batch_size", 16_384)
        self._transactional_id = options.get("transactional_id")
        self._txn_manager = TransactionManager(self._transactional_id, None)
        self._sender = SimpleNamespace(sender_task=None)
        self._closed = False
        self._is_cut = False
        self.client = SimpleNamespace(
            close=self._cut,
            set_topics=lambda _: self.ask(),
            force_metadata_update=self.ask,
            cluster=SimpleNamespace(
                leader_for_partition=self._leader,
                topics=self._topics,
                partitions_for_topic=self.broker.partitions,
            ),
        )
        self._waiting: list[list[_Sending]] = [[] for _ in range(NODES)]
        self._requests = [0] * NODES
        self._is_busy = [False] * NODES

    async def start(self) -> None:
        await self.ask()
        if not self._txn_manager.has_pid():
            await self.ask()
            if self._transactional_id:
                identity = await self.broker.open(self._transactional_id)
            else:
                identity = self.broker.new_identity()
            self._txn_manager.set_pid_and_epoch(*identity)

    async def begin_transaction(self) -> None:
        self._txn_manager.begin_transaction()

    async def commit_transaction(self) -> None:
        await self.ask()
        manager, broker = self._txn_manager, self.broker
        assert self._transactional_id is not None
        await broker.begin(self._transactional_id, identity_of(self))
        places = sorted(manager.partitions_to_add())
        for place in places:
            manager.partition_added(place)
        broker.commit(self._transactional_id, places)
        manager.committing_transaction()
        manager.complete_transaction()
        await process.pause(self.process, broker.random.uniform(0.001, 0.01))

    async def send_and_wait(self, topic: str, value: bytes, key: bytes) -> RecordMetadata:
        batch = self.create_batch()
        batch.append(key=key, value=value, timestamp=0)
        return await asyncio.shield(await self.send_batch(batch, topic, partition=0))

    async def partitions_for(self, topic: str) -> set[int]:
        if found := self.broker.partitions(topic):
            return found
        raise UnknownTopicOrPartitionError(topic)

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(self._max_batch_size)

    async def send_batch(
        self, batch: BatchBuilder, topic: str, *, partition: int
    ) -> "asyncio.Future[RecordMetadata]":
        sending = _Sending(TopicPartition(topic, partition), batch.records)
        node = self.broker.node_of(sending.place)
        self._waiting[node].append(sending)
        asyncio.get_running_loop().call_soon(self._send, node)
        return sending.future

    async def _cut(self) -> None:
        self._is_cut = True

    def _leader(self, place: TopicPartition) -> int:
        return -1 if place in self.broker.leaderless else self.broker.node_of(place)

    def _topics(self) -> set[str]:
        return {place.topic for place in self.broker.logs}

    def _send(self, node: int) -> None:
        """Send one request with all batches that wait for a node, if none is under way there."""
        if self._is_cut or self._is_busy[node] or not self._waiting[node]:
            return
        if not self.process.is_alive:
            return
        if self.process.has_no_kafka:
            asyncio.get_running_loop().call_later(RETRY_BACKOFF_S, self._send, node)
            return
        under_way = self._with_leader(node)
        if not under_way:
            return
        self._is_busy[node] = True
        batches = [self._numbered(sending) for sending in under_way]
        self._requests[node] += 1
        number = self._requests[node]

        def answered(results: list[Result] | None) -> None:
            if number == self._requests[node] and not self._is_cut:
                timer.cancel()
                self._requests[node] += 1
                self._finish(node, under_way, results)

        timer = asyncio.get_running_loop().call_later(self.timeout_s, answered, None)
        self.broker.produce(node, batches, answered)

    def _with_leader(self, node: int) -> list[_Sending]:
        """Take the batches out that can be sent to a node. The others wait, and expire at last."""
        loop, broker = asyncio.get_running_loop(), self.broker
        waiting, self._waiting[node] = self._waiting[node], []
        for sending in waiting:
            if sending.place not in broker.leaderless:
                continue
            if loop.time() - sending.begun_s > self.timeout_s:
                sending.future.set_exception(LeaderNotAvailableError())
            else:
                self._waiting[node].append(sending)
        if self._waiting[node]:
            loop.call_later(RETRY_BACKOFF_S, self._send, node)
        return [each for each in waiting if each.place not in broker.leaderless]

    def _numbered(self, sending: _Sending) -> Batch:
        manager = self._txn_manager
        if sending.sequence is None:
            sending.sequence = manager.sequence_number(sending.place)
            manager.increment_sequence_number(sending.place, len(sending.records))
        identity = (manager.producer_id, manager.producer_epoch)
        return Batch(sending.place, *identity, sending.sequence, sending.records)

    def _finish(self, node: int, under_way: list[_Sending], results: list[Result] | None) -> None:
        again: list[_Sending] = []
        for place, sending in enumerate(under_way):
            result = RequestTimedOutError() if results is None else results[place]
            if isinstance(result, int):
                answer = RecordMetadata(*sending.place, sending.place, result, -1, 0, 0)
                sending.future.set_result(answer)
            elif isinstance(result, KafkaError) and result.retriable:
                again.append(sending)
            else:
                is_fenced = isinstance(result, InvalidProducerEpoch)
                sending.future.set_exception(ProducerFenced() if is_fenced else result)
        self._waiting[node] = again + self._waiting[node]
        asyncio.get_running_loop().call_later(
            RETRY_BACKOFF_S if again else 0.0, self._finished, node
        )

    def _finished(self, node: int) -> None:
        self._is_busy[node] = False
        self._send(node)
