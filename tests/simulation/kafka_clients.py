"""aiokafka's consumer and admin client for the broker in memory, as far as the bridge uses them."""

import asyncio
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka import errors as kafka_errors

from tests.simulation import process
from tests.simulation.broker import MARKER, NODES, Broker, Stored

RETRY_BACKOFF_S = 0.1
FETCH_MAX_RECORDS = 50

Fetched = dict[TopicPartition, "list[ConsumerRecord[bytes, bytes]]"]


class Client:
    """The common part of all clients: a connection that a broker may not answer."""

    def __init__(self, broker: Broker, **options: Any) -> None:
        self.broker = broker
        self.process = process.current.get()
        self.timeout_s = options["request_timeout_ms"] / 1000

    async def ask(self) -> None:
        """Send a request and wait for the answer. Raises KafkaError if there is none."""
        broker = self.broker
        await process.pause(self.process, broker.random.uniform(0.001, 0.01))
        for node in broker.nodes:
            is_lost = self.process.has_no_kafka or broker.random.random() < broker.loses / 4
            if node.is_down or is_lost:
                raise kafka_errors.KafkaConnectionError("no connection")
            try:
                async with asyncio.timeout(self.timeout_s):
                    await node.awake.wait()
            except TimeoutError:
                raise kafka_errors.RequestTimedOutError from None
        await process.pause(self.process, broker.random.uniform(0.001, 0.01))

    async def start(self) -> None:
        await self.ask()

    async def close(self) -> None:
        pass

    async def stop(self) -> None:
        pass


class Consumer(Client):
    def __init__(self, broker: Broker, **options: Any) -> None:
        super().__init__(broker, **options)
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._client = SimpleNamespace(add_topic=self._learn)

    async def _learn(self, _topic: str) -> None:
        """Ask for the leaders of a topic."""
        await self.ask()

    async def beginning_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        await self._ask_leaders(places)
        return dict.fromkeys(places, 0)

    async def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        await self._ask_leaders(places)
        return {place: len(self.broker.logs[place]) for place in places}

    async def offsets_for_times(
        self, times: dict[TopicPartition, int]
    ) -> dict[TopicPartition, Any]:
        await self._ask_leaders(times)
        return {place: self._first_since(place, time_ms) for place, time_ms in times.items()}

    async def _ask_leaders(self, places: Iterable[TopicPartition]) -> None:
        await self.ask()
        if not self.broker.leaderless.isdisjoint(places):
            await process.pause(self.process, self.timeout_s)
            raise kafka_errors.KafkaTimeoutError

    def _first_since(self, place: TopicPartition, time_ms: int) -> Any:
        for offset, stored in enumerate(self.broker.logs[place]):
            if stored.timestamp_ms >= time_ms:
                return SimpleNamespace(offset=offset)
        return None

    def assign(self, places: Iterable[TopicPartition]) -> None:
        self._positions = dict.fromkeys(places, 0)
        self._paused.clear()

    def seek(self, place: TopicPartition, offset: int) -> None:
        self._positions[place] = offset

    def pause(self, place: TopicPartition) -> None:
        self._paused.add(place)

    async def position(self, place: TopicPartition) -> int:
        return self._positions[place]

    async def getmany(self, *, timeout_ms: int) -> Fetched:
        """Return records of some partitions; none if none arrive in time."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + timeout_ms / 1000
        while loop.time() < end_s:
            try:
                await self.ask()
            except kafka_errors.KafkaError:
                await asyncio.sleep(RETRY_BACKOFF_S)
                continue
            if found := self._fetched():
                return found
            await asyncio.sleep(RETRY_BACKOFF_S)
        return {}

    def _fetched(self) -> Fetched:
        found: Fetched = {}
        for place, begin in self._positions.items():
            stored = self.broker.logs[place][begin : begin + FETCH_MAX_RECORDS]
            if place in self._paused or place in self.broker.leaderless:
                continue
            self._positions[place] = begin + len(stored)
            rows = enumerate(stored, begin)
            if records := [_record(place, n, row) for n, row in rows if row is not MARKER]:
                found[place] = records
        return found


class Admin(Client):
    async def describe_topics(self) -> list[dict[str, Any]]:
        await self.ask()
        topics = dict.fromkeys(place.topic for place in self.broker.logs)
        return [
            {
                "topic": topic,
                "partitions": [{"partition": n} for n in self.broker.partitions(topic)],
            }
            for topic in topics
        ]

    async def describe_cluster(self) -> dict[str, Any]:
        await self.ask()
        return {"controller_id": 0, "brokers": [{"node_id": n} for n in range(NODES)]}

    async def create_topics(self, topics: list[Any]) -> Any:
        await self.ask()
        for topic in topics:
            self.broker.create(topic.name, topic.num_partitions)
        return SimpleNamespace(topic_errors=[(topic.name, 0) for topic in topics])


def _record(place: TopicPartition, offset: int, row: Stored) -> "ConsumerRecord[bytes, bytes]":
    sizes = (len(row.key), len(row.value))
    return ConsumerRecord(*place, offset, row.timestamp_ms, 0, row.key, row.value, None, *sizes, ())
