"""A Kafka and a Redis inside this process, for the demo and for tests: `tickbridge[embedded]`.

Both listen on loopback, write nothing to disk and stop when their `with` block ends. They are not
made for load. The mock Kafka keeps 5 MB per partition, gives a topic four partitions, creates it on
first use, refuses CreateTopics, and delays the first member of a consumer group by 3 s. fakeredis
takes about 60 µs a message and does not support INFO.
"""

import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import metadata
from typing import TYPE_CHECKING, Any, ClassVar, Self

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from bridge.errors import TickbridgeError

if TYPE_CHECKING:
    from fakeredis import TcpFakeServer

LOOPBACK = "127.0.0.1"
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0


class MissingExtra(TickbridgeError):
    """A library that the embedded brokers need is not installed."""

    exit_code: ClassVar[int] = 2

    def __init__(self, library: str) -> None:
        super().__init__(
            f"the embedded brokers need {library}, which is not installed; "
            "run: pip install 'tickbridge[embedded]'"
        )


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
            raise MissingExtra("confluent-kafka") from error
        # log_level: the mock would log to stderr, in the middle of the table of the demo
        self._producer = Producer({"test.mock.num.brokers": 1, "log_level": 0})
        (broker,) = self._producer.list_topics(timeout=START_TIMEOUT_S).brokers.values()
        self.bootstrap_servers = f"{broker.host}:{broker.port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._producer.close()


class EmbeddedRedis:
    """A `redis-server` from PATH as a child process, or else fakeredis in a thread.

    `url` (`redis://host:port/0`) and `kind` (`redis-server 8.0.2`, `fakeredis 2.40.0`) are set
    inside the `with` block. Raises MissingExtra if neither is installed.
    """

    url: str
    kind: str

    def __enter__(self) -> Self:
        program = shutil.which("redis-server")
        server = _redis_server(program) if program else _fakeredis()
        self.url, self.kind = server.__enter__()
        self._server: AbstractContextManager[tuple[str, str]] = server
        return self

    def __exit__(self, *_: object) -> None:
        self._server.__exit__(None, None, None)


def free_port() -> int:
    """Return a loopback port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def start_redis_server(program: str, port: int) -> subprocess.Popen[bytes]:
    """Start a Redis without persistence, in its own session so that Ctrl-C does not reach it."""
    options = {"--bind": LOOPBACK, "--port": str(port), "--save": "", "--appendonly": "no"}
    return subprocess.Popen(
        [program, *(word for option in options.items() for word in option)],
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
    """Return the version of a starting Redis as soon as it answers.

    Raises redis.ConnectionError or redis.TimeoutError if it does not answer in START_TIMEOUT_S.
    """
    with Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=1) as client:
        information: Any = client.info("server")
    return str(information["redis_version"])


@contextmanager
def _redis_server(program: str) -> Iterator[tuple[str, str]]:
    port = free_port()
    process = start_redis_server(program, port)
    try:
        url = f"redis://{LOOPBACK}:{port}/0"
        yield url, f"redis-server {redis_version(url)}"
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _fakeredis() -> Iterator[tuple[str, str]]:
    try:
        import fakeredis
        import lupa  # noqa: F401  fakeredis cannot run scripts without it
    except ImportError as error:
        raise MissingExtra("fakeredis with Lua, or a redis-server on PATH") from error
    server = fakeredis.TcpFakeServer((LOOPBACK, 0))
    server.daemon_threads = True  # one thread per client, and a client may outlive the server
    _answer_errors(server)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield (
            f"redis://{LOOPBACK}:{server.server_address[1]}/0",
            f"fakeredis {metadata.version('fakeredis')}",
        )
    finally:
        server.shutdown()
        server.server_close()
        thread.join(STOP_TIMEOUT_S)


def _answer_errors(server: "TcpFakeServer") -> None:
    """Send an error (NOSCRIPT, WRONGTYPE) as a reply, as Redis does: fakeredis would disconnect."""
    from fakeredis._clients._tcp_server import TCPFakeRequestHandler

    class Handler(TCPFakeRequestHandler):
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            read_response = self.current_client.read_response

            def read_answer(**options: Any) -> Any:
                try:
                    return read_response(**options)
                except ResponseError as error:
                    return error

            self.current_client.read_response = read_answer  # type: ignore[method-assign]

    server.RequestHandlerClass = Handler
