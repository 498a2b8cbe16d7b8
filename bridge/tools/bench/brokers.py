"""Kafka and Redis for a benchmark: given ones, or containers that run until it is finished.

The containers use the host's network. With a published port, Docker passes every byte through one
more process, which would be measured as well.
"""

import asyncio
import logging
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from aiokafka import errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from redis import Redis
from redis.exceptions import RedisError
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from bridge.core.model.stream import SPOT
from bridge.core.records.latest_values import latest_key, prices_key
from bridge.tools.bench.errors import BenchFailed, BenchRefused
from bridge.tools.embedded import LOOPBACK, free_port, redis_version

KAFKA_IMAGE = "apache/kafka:4.1.1"
REDIS_IMAGE = "redis:8.0"
DOCKER_TIMEOUT_S = 120.0
START_TIMEOUT_S = 60.0
REQUEST_TIMEOUT_MS = 10_000
PARTITIONS = 6
# A run at 50,000 messages per second writes 5 MB per second.
_KEPT_BYTES = 256 * 2**20
# The library logs a warning for each attempt to connect while a broker starts.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
_NO_DOCKER = "start a Docker engine, or use --kafka HOST:PORT and --redis redis://HOST:PORT/0"


class Brokers(NamedTuple):
    """The addresses of the brokers, and a description of each one: an image or `given`."""

    kafka: str
    redis: str
    kafka_is: str
    redis_is: str


@asynccontextmanager
async def open_brokers(kafka: str | None, redis: str | None) -> AsyncIterator[Brokers]:
    """Use the given brokers, and start containers for those that are not given.

    Raises BenchRefused if Docker is not available, if a server does not answer, or if Redis holds
    the prices of a bridge, which the benchmark would overwrite.
    """
    with ExitStack() as stack:
        kafka_is, redis_is = "given", "given"
        if redis is None:
            redis = stack.enter_context(_redis_container())
            redis_is = REDIS_IMAGE
        if kafka is None:
            kafka = stack.enter_context(_kafka_container())
            kafka_is = KAFKA_IMAGE
        version = await asyncio.to_thread(_check_redis, redis)
        await _wait_for_kafka(kafka)
        yield Brokers(kafka, redis, kafka_is, f"{redis_is}, version {version}")


async def create_topics(kafka: str, topics: Sequence[str]) -> None:
    """Create the topics, so that listeners can subscribe before the bridge starts.

    Raises BenchFailed if Kafka does not answer.
    """
    async with _working(_admin(kafka)) as admin:
        await admin.create_topics([NewTopic(topic, PARTITIONS, -1, {}) for topic in topics])


async def remove_traces(brokers: Brokers, prefix: str, symbols: Sequence[str]) -> None:
    """Delete the topics of a run, and the latest values that it set.

    Raises BenchFailed if Kafka or Redis does not answer.
    """
    async with _working(_admin(brokers.kafka)) as admin:
        topics = [topic for topic in await admin.list_topics() if topic.startswith(prefix)]
        await admin.delete_topics(topics)
    await asyncio.to_thread(_forget_prices, brokers.redis, symbols)


def _forget_prices(url: str, symbols: Sequence[str]) -> None:
    if not symbols:
        return
    try:
        with Redis.from_url(url) as client:
            client.delete(*(latest_key(SPOT, symbol) for symbol in symbols))
            client.hdel(prices_key(SPOT), *symbols)
    except RedisError as error:
        raise BenchFailed(f"Redis at {_public(url)} does not answer: {error}") from error


@contextmanager
def _kafka_container() -> Iterator[str]:
    port, controller_port = free_port(), free_port()
    address = f"{LOOPBACK}:{port}"
    environment = {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_LISTENERS": f"PLAINTEXT://{address},CONTROLLER://{LOOPBACK}:{controller_port}",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://{address}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": f"1@{LOOPBACK}:{controller_port}",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_LOG_RETENTION_BYTES": str(_KEPT_BYTES),
        "KAFKA_LOG_SEGMENT_BYTES": str(_KEPT_BYTES // 4),
    }
    variables = [word for pair in environment.items() for word in ("--env", "=".join(pair))]
    with _container(*variables, KAFKA_IMAGE):
        yield address


@contextmanager
def _redis_container() -> Iterator[str]:
    port = free_port()
    options = ("--bind", LOOPBACK, "--port", str(port), "--save", "", "--appendonly", "no")
    with _container(REDIS_IMAGE, "redis-server", *options):
        yield f"redis://{LOOPBACK}:{port}/0"


@contextmanager
def _container(*words: str) -> Iterator[None]:
    name = _docker("run", "--detach", "--rm", "--network", "host", *words)
    try:
        yield
    finally:
        _docker("rm", "--force", "--volumes", name)


def _docker(*words: str) -> str:
    """Run a docker command and return its output. Raises BenchRefused if it fails."""
    try:
        done = subprocess.run(
            ["docker", *words],  # noqa: S607 - found on PATH
            capture_output=True,
            text=True,
            check=True,
            timeout=DOCKER_TIMEOUT_S,
        )
    except FileNotFoundError:
        raise BenchRefused("no brokers: no docker on PATH", _NO_DOCKER) from None
    except subprocess.CalledProcessError as error:
        said = (error.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise BenchRefused(f"no brokers: docker {words[0]}: {said}", _NO_DOCKER) from None
    except subprocess.TimeoutExpired:
        what = f"no brokers: docker {words[0]} has not finished in {DOCKER_TIMEOUT_S:g} s"
        raise BenchRefused(what, _NO_DOCKER) from None
    return done.stdout.strip()


def _check_redis(url: str) -> str:
    """Return the version of Redis. Raises BenchRefused if it does not answer or holds prices."""
    where = _public(url)
    try:
        version = redis_version(url)
        with Redis.from_url(url) as client:
            occupied = client.exists(prices_key(SPOT))
    except (RedisError, ValueError) as error:
        remedy = "correct --redis redis://HOST:PORT/0, or omit it to use a container"
        raise BenchRefused(f"no Redis at {where}: {error}", remedy) from error
    if occupied:
        what = f"Redis at {where} holds the prices of a bridge, which the benchmark would overwrite"
        raise BenchRefused(what, "use an empty database: --redis redis://HOST:PORT/1")
    return version


async def _wait_for_kafka(servers: str) -> None:
    attempts = AsyncRetrying(
        retry=retry_if_exception_type((kafka_errors.KafkaError, OSError, TimeoutError)),
        stop=stop_after_delay(START_TIMEOUT_S),
        wait=wait_fixed(0.5),
        reraise=True,
    )
    try:
        async for attempt in attempts:
            with attempt:
                async with _admin(servers):
                    pass
    except (kafka_errors.KafkaError, OSError, ValueError) as error:
        remedy = "correct --kafka HOST:PORT, or omit it to use a container"
        what = str(error) or type(error).__name__
        raise BenchRefused(f"no Kafka at {servers}: {what}", remedy) from error


@asynccontextmanager
async def _admin(servers: str) -> AsyncIterator[Any]:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers, request_timeout_ms=REQUEST_TIMEOUT_MS)
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


@asynccontextmanager
async def _working(admin: AbstractAsyncContextManager[Any]) -> AsyncIterator[Any]:
    """Raise BenchFailed on errors of Kafka: it has answered before, so the run has failed."""
    try:
        async with admin as client:
            yield client
    except (kafka_errors.KafkaError, OSError) as error:
        raise BenchFailed(f"Kafka does not answer: {error or type(error).__name__}") from error


def _public(url: str) -> str:
    """Return the URL without user and password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port}{parts.path}"
