"""Kafka and Redis for the tests: containers where a Docker engine answers, else embedded ones.

A test that takes a broker away has one of its own (fixtures `own_kafka`, `own_redis`). It keeps
its address and its data while it is paused, killed and started again. The methods block: in a
coroutine call them with `asyncio.to_thread`.
"""

import asyncio
import gc
import os
import signal
from dataclasses import dataclass
from typing import Literal, Protocol, Self, get_args

import docker
import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from confluent_kafka.admin import AdminClient
from docker.errors import DockerException, ImageNotFound
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from bridge.tools.embedded import (
    LOOPBACK,
    free_port,
    redis_version,
    start_redis_server,
)

CHOICE = "TEST_BROKERS"
KAFKA_IMAGE = "apache/kafka:4.1.1"
REDIS_IMAGE = "redis:8.0"
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 10

Kind = Literal["containers", "embedded"]


class Kafka(Protocol):
    """What a test needs of a Kafka: `host:port`."""

    bootstrap_servers: str


class RedisAddress(Protocol):
    """What a test needs of a Redis: `redis://host:port/0`."""

    url: str


class Container:
    """One server in a container on a fixed port of the host, so that it comes back where it was."""

    def __init__(self, image: str, container_port: int) -> None:
        self._container = DockerContainer(image)
        self.host = self._container.get_docker_client().host().replace("localhost", LOOPBACK)
        self.port = free_port()
        self._container.with_bind_ports(container_port, self.port)

    def __enter__(self) -> Self:
        try:
            self._container.start()
            self.wait_until_ready()
        except BaseException:
            self._container.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._container.stop()

    def wait_until_ready(self) -> None:
        raise NotImplementedError

    def start(self) -> None:
        """Start it again after `stop` or `kill`; returns when it answers."""
        self._container.get_wrapped_container().start()
        self.wait_until_ready()

    def stop(self) -> None:
        self._container.get_wrapped_container().stop(timeout=STOP_TIMEOUT_S)

    def kill(self) -> None:
        self._container.get_wrapped_container().kill()

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers."""
        self._container.get_wrapped_container().pause()

    def unpause(self) -> None:
        self._container.get_wrapped_container().unpause()


class KafkaBroker(Container):
    """One broker, its own controller; topics are there only after somebody created them."""

    def __init__(self) -> None:
        super().__init__(KAFKA_IMAGE, 9092)
        self.bootstrap_servers = f"{self.host}:{self.port}"
        self._container.with_envs(
            KAFKA_NODE_ID="1",
            KAFKA_PROCESS_ROLES="broker,controller",
            KAFKA_LISTENERS="PLAINTEXT://:9092,CONTROLLER://:9093",
            KAFKA_ADVERTISED_LISTENERS=f"PLAINTEXT://{self.bootstrap_servers}",
            KAFKA_LISTENER_SECURITY_PROTOCOL_MAP="PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            KAFKA_CONTROLLER_LISTENER_NAMES="CONTROLLER",
            KAFKA_CONTROLLER_QUORUM_VOTERS="1@localhost:9093",
            KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR="1",
            KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR="1",
            KAFKA_TRANSACTION_STATE_LOG_MIN_ISR="1",
            KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS="0",
            KAFKA_AUTO_CREATE_TOPICS_ENABLE="false",
            # The tests' records are older than a week by their own times: a broker's default takes
            # them away 30 s after its start and every five minutes, whatever test is running.
            KAFKA_LOG_RETENTION_MS="-1",
            # After a kill the controller takes the broker back once its old session has run out.
            KAFKA_BROKER_SESSION_TIMEOUT_MS="2000",
            KAFKA_BROKER_HEARTBEAT_INTERVAL_MS="500",
        )

    def wait_until_ready(self) -> None:
        client = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
        client.list_topics(timeout=START_TIMEOUT_S)


class RedisServer(Container):
    """One Redis without persistence; `command` as for `redis-server` (`--maxmemory 10mb`)."""

    def __init__(self, *options: str) -> None:
        super().__init__(REDIS_IMAGE, 6379)
        self.url = f"redis://{self.host}:{self.port}/0"
        self._container.with_command(
            ["redis-server", "--protected-mode", "no", "--bind", "*", "--save", "", *options]
        )

    def wait_until_ready(self) -> None:
        redis_version(self.url)


class RedisProcess:
    """The same as RedisServer, from a `redis-server` on PATH."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._port = free_port()
        self.url = f"redis://{LOOPBACK}:{self._port}/0"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        self._process = start_redis_server(self._program, self._port)
        redis_version(self.url)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(STOP_TIMEOUT_S)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(STOP_TIMEOUT_S)

    def pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def unpause(self) -> None:
        self._process.send_signal(signal.SIGCONT)


@dataclass(frozen=True)
class Choice:
    """Which brokers this run uses, and why."""

    kind: Kind
    reason: str

    def __str__(self) -> str:
        return f"brokers: {self.kind} ({self.reason})"


def choose() -> Choice:
    """Follow TEST_BROKERS: containers, embedded, or auto (containers where they can be).

    Raises pytest.UsageError for another word, or where containers are asked for and cannot be had.
    """
    wish = os.environ.get(CHOICE, "auto")
    if wish not in ("auto", *get_args(Kind)):
        raise pytest.UsageError(f"{CHOICE}={wish}: say containers, embedded or auto")
    if wish == "embedded":
        return Choice("embedded", f"{CHOICE}=embedded")
    try:
        version = _docker_version()
    except DockerException as error:
        if wish == "containers":
            raise pytest.UsageError(f"{CHOICE}=containers, but no Docker: {error}") from error
    else:
        return Choice("containers", f"{KAFKA_IMAGE}, {REDIS_IMAGE}, Docker {version}")
    gc.collect()  # docker-py forgot an open socket: let it go before warnings are errors
    return Choice("embedded", "no Docker engine answers")


def _docker_version() -> str:
    client = docker.from_env(timeout=5)
    try:
        # The clean-up sidecar is for runs that are killed; not worth a failure where it is absent.
        client.images.get(testcontainers_config.ryuk_image)
    except ImageNotFound:
        testcontainers_config.ryuk_disabled = True
    try:
        return str(client.version()["Version"])
    finally:
        client.close()


async def read_topic(
    bootstrap_servers: str, topic: str, expected: int | None = None, timeout_s: float = 30
) -> list[ConsumerRecord]:
    """Read a topic from its beginning to its end, ordered by partition and offset.

    The end is where it is now; with `expected`, where it is once so many records have arrived: any
    that are too many are returned as well. Waits for a topic that does not exist yet.
    Raises TimeoutError, saying how many records there were.
    """
    records: list[ConsumerRecord] = []
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap_servers,
        auto_offset_reset="earliest",
        metadata_max_age_ms=1000,
        request_timeout_ms=round(timeout_s * 1000),
    )
    try:
        async with asyncio.timeout(timeout_s):
            await consumer.start()
            await _read(consumer, records, expected or 0)
    except TimeoutError as error:
        wanted = "all" if expected is None else expected
        raise TimeoutError(f"{topic}: {len(records)} of {wanted} after {timeout_s} s") from error
    finally:
        await consumer.stop()
    return sorted(records, key=lambda record: (record.partition, record.offset))


async def _read(consumer: AIOKafkaConsumer, records: list[ConsumerRecord], expected: int) -> None:
    positions = await consumer.beginning_offsets(consumer.assignment())

    async def take() -> None:
        for partition, batch in (await consumer.getmany(timeout_ms=1000)).items():
            records.extend(batch)
            positions[partition] = batch[-1].offset + 1

    while len(records) < expected:
        await take()
    ends = await consumer.end_offsets(consumer.assignment())
    while any(positions[partition] < end for partition, end in ends.items()):
        await take()
