"""Kafka and Redis for the tests: containers if a Docker engine answers, otherwise embedded ones.

A test that stops a broker has one of its own (fixtures `own_kafka`, `own_redis`). The broker keeps
its address and its data when it is paused, killed and restarted. The methods block: in a coroutine,
call them with `asyncio.to_thread`.
"""

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal, Protocol, Self, get_args

import docker
import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient
from confluent_kafka.admin import AdminClient
from docker.errors import APIError, DockerException, ImageNotFound
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from bridge.tools.embedded import (
    LOOPBACK,
    free_port,
    redis_version,
    start_redis,
)

CHOICE = "TEST_BROKERS"
KAFKA_IMAGE = "apache/kafka:4.1.1"
REDIS_IMAGE = "redis:8.0"
LISTENER_PORTS = {"TESTS": 9092, "CONTROLLER": 9093, "INSIDE": 9094, "PROXIED": 9095}
INSIDE_ADDRESS = f"localhost:{LISTENER_PORTS['INSIDE']}"
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 10

Kind = Literal["containers", "embedded"]


class Kafka(Protocol):
    """The part of a Kafka that a test needs: `host:port`."""

    bootstrap_servers: str


class RedisAddress(Protocol):
    """The part of a Redis that a test needs: `redis://host:port/0`."""

    url: str


class Freezable(Protocol):
    """A server that a test may freeze."""

    def pause(self) -> None: ...
    def unpause(self) -> None: ...


@asynccontextmanager
async def frozen(server: Freezable) -> AsyncIterator[None]:
    """Freeze a server until the context is left."""
    await asyncio.to_thread(server.pause)
    try:
        yield
    finally:
        await asyncio.to_thread(server.unpause)


class Container:
    """One server in a container. Its port is fixed, so that its address survives a restart."""

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
        """Start the server again after `stop` or `kill`; return when it answers."""
        self._container.get_wrapped_container().start()
        self.wait_until_ready()

    def stop(self) -> None:
        self._container.get_wrapped_container().stop(timeout=STOP_TIMEOUT_S)

    def kill(self) -> None:
        self._container.get_wrapped_container().kill()

    @retry(
        retry=retry_if_exception_type(APIError),
        wait=wait_fixed(0.1),
        stop=stop_after_delay(STOP_TIMEOUT_S),
        reraise=True,
    )
    def pause(self) -> None:
        """Freeze the server: connections stay open, and nothing answers.

        The engine may fail to freeze a server that is busy.
        """
        self._container.get_wrapped_container().pause()

    def unpause(self) -> None:
        self._container.get_wrapped_container().unpause()


def listeners(protocol: str = "PLAINTEXT", **advertised: str) -> dict[str, str]:
    """Return the variables that make a broker listen at the ports of LISTENER_PORTS, and name these
    addresses to its clients. `protocol` is that of TESTS.

    Brokers talk to each other at INSIDE. A broker talks to itself there too, to complete a
    transaction, and it may not reach the addresses that it names to the tests.
    """
    names = [*advertised, "CONTROLLER"]
    return {
        "KAFKA_LISTENERS": ",".join(f"{name}://:{LISTENER_PORTS[name]}" for name in names),
        "KAFKA_ADVERTISED_LISTENERS": ",".join(f"{n}://{at}" for n, at in advertised.items()),
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": ",".join(
            f"{name}:{protocol if name == 'TESTS' else 'PLAINTEXT'}" for name in names
        ),
        "KAFKA_INTER_BROKER_LISTENER_NAME": "INSIDE",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
    }


class KafkaBroker(Container):
    """One broker, which is its own controller. It does not create topics by itself."""

    def __init__(self) -> None:
        super().__init__(KAFKA_IMAGE, LISTENER_PORTS["TESTS"])
        self.bootstrap_servers = f"{self.host}:{self.port}"
        self._container.with_envs(
            # A broker that lives for seconds is ready a quarter sooner without the second compiler,
            # and takes half as much of the processor.
            KAFKA_OPTS="-XX:TieredStopAtLevel=1",
            KAFKA_NODE_ID="1",
            KAFKA_PROCESS_ROLES="broker,controller",
            **listeners(TESTS=self.bootstrap_servers, INSIDE=INSIDE_ADDRESS),
            KAFKA_CONTROLLER_QUORUM_VOTERS="1@localhost:9093",
            KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR="1",
            KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR="1",
            KAFKA_TRANSACTION_STATE_LOG_MIN_ISR="1",
            KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS="0",
            KAFKA_AUTO_CREATE_TOPICS_ENABLE="false",
            # The tests' records are older than a week by their own times. By default a broker
            # deletes such records 30 s after its start, and then every five minutes.
            KAFKA_LOG_RETENTION_MS="-1",
            # After a kill, the controller accepts the broker only when its old session has expired.
            KAFKA_BROKER_SESSION_TIMEOUT_MS="2000",
            KAFKA_BROKER_HEARTBEAT_INTERVAL_MS="500",
        )

    def wait_until_ready(self) -> None:
        client = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
        client.list_topics(timeout=START_TIMEOUT_S)

    def run_inside(self, program: str, *words: str) -> None:
        """Run a program of Kafka in the container, where it needs no login, until it succeeds."""
        container = self._container.get_wrapped_container()
        command = [f"/opt/kafka/bin/{program}", "--bootstrap-server", INSIDE_ADDRESS, *words]
        for _ in range(30):
            code, output = container.exec_run(command)
            if code == 0:
                return
        raise TimeoutError(output.decode())


class RedisServer(Container):
    """One Redis without persistence; `options` of `redis-server` (`--maxmemory 10mb`)."""

    def __init__(self, *options: str) -> None:
        super().__init__(REDIS_IMAGE, 6379)
        self.url = f"redis://{self.host}:{self.port}/0"
        self._container.with_command(
            ["redis-server", "--protected-mode", "no", "--bind", "*", "--save", "", *options]
        )

    def wait_until_ready(self) -> None:
        redis_version(self.url)


class RedisProcess:
    """Like RedisServer, but runs the embedded server."""

    def __init__(self, *options: str) -> None:
        self._options = options
        self._port = free_port()
        self.url = f"redis://{LOOPBACK}:{self._port}/0"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        self._process = start_redis(self._port, *self._options)
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
    """The brokers of this run, and the reason for the choice."""

    kind: Kind
    reason: str

    def __str__(self) -> str:
        return f"brokers: {self.kind} ({self.reason})"


def choose() -> Choice:
    """Follow TEST_BROKERS: containers, embedded, or auto (containers if possible).

    Raises pytest.UsageError for another word, or if containers are required and not possible.
    """
    wish = os.environ.get(CHOICE, "auto")
    if wish not in ("auto", *get_args(Kind)):
        raise pytest.UsageError(f"{CHOICE}={wish}: give containers, embedded or auto")
    if wish == "embedded":
        return Choice("embedded", f"{CHOICE}=embedded")
    try:
        version = _docker_version()
    except DockerException as error:
        if wish == "containers":
            raise pytest.UsageError(f"{CHOICE}=containers, but no Docker: {error}") from error
    else:
        return Choice("containers", f"{KAFKA_IMAGE}, {REDIS_IMAGE}, Docker {version}")
    gc.collect()  # docker-py left a socket open: close it before warnings become errors
    return Choice("embedded", "no Docker engine answers")


def _docker_version() -> str:
    client = docker.from_env(timeout=5)
    try:
        # The clean-up sidecar helps only if a run is killed; its absence is not worth a failure.
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

    The end is the end at this moment; with `expected`, the end once that many records have arrived,
    so surplus records are returned too. Waits for a topic that does not exist yet.
    Raises TimeoutError with the number of records read.
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


@asynccontextmanager
async def never_answering() -> AsyncIterator[str]:
    """Yield the address of a server that accepts connections and never answers."""

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gone.wait()
        writer.close()

    gone = asyncio.Event()
    async with await asyncio.start_server(hang, LOOPBACK, 0) as server:
        yield f"{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
        gone.set()


@asynccontextmanager
async def administration(kafka: Kafka) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def wrongly_advertised(kafka: Kafka) -> AsyncIterator[tuple[str, str]]:
    """Yield the address of a Kafka, and the one that it advertises, at which nothing listens.

    A proxy replaces the port in the answers.
    """
    host, port = kafka.bootstrap_servers.split(":")
    nobody = free_port()
    told, wrong = (host.encode() + number.to_bytes(4, "big") for number in (int(port), nobody))

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**16):
            writer.write(data.replace(told, wrong))
        writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_connection(host, port)
        await asyncio.gather(copy(reader, requests), copy(answers, writer))

    async with await asyncio.start_server(connect, LOOPBACK, 0) as server:
        yield f"{LOOPBACK}:{server.sockets[0].getsockname()[1]}", f"{host}:{nobody}"


async def _read(consumer: AIOKafkaConsumer, records: list[ConsumerRecord], expected: int) -> None:
    async def take() -> None:
        for batch in (await consumer.getmany(timeout_ms=50)).values():
            records.extend(batch)

    while len(records) < expected:
        await take()
    # Markers of transactions may come last. They move the position, but are no records.
    for partition, end in (await consumer.end_offsets(consumer.assignment())).items():
        while await consumer.position(partition) < end:
            await take()
