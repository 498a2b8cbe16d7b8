"""Fixtures of all tests: the brokers (one pair per run), a unique name, the captures."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import settings

from bridge.tools.embedded import EmbeddedKafka, EmbeddedRedis
from tests.support.brokers import (
    Choice,
    Kafka,
    KafkaBroker,
    RedisAddress,
    RedisProcess,
    RedisServer,
    choose,
)
from tests.support.journal import Journal, journal_kept
from tests.support.programs import missing, output, program

pytest_plugins = ["tests.support.second_chance"]

ROOT = Path(__file__).parent.parent
BUILD_TIMEOUT_S = 600
BROKERS = pytest.StashKey[Choice]()


def pytest_configure(config: pytest.Config) -> None:
    # The duration of an example depends on the machine more than on the code.
    settings.register_profile("without_deadline", parent=settings(), deadline=None)
    settings.load_profile("without_deadline")
    # A shell that runs the tests in the background makes them ignore SIGINT. Programs that the
    # tests start would inherit that, and Ctrl-C would not stop them.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[BROKERS] = choose()


def pytest_report_header(config: pytest.Config) -> str:
    return str(config.stash[BROKERS])


@pytest.fixture(scope="session")
def brokers(pytestconfig: pytest.Config) -> Choice:
    """Return the choice of brokers: `brokers.kind` is "containers" or "embedded"."""
    return pytestconfig.stash[BROKERS]


@pytest.fixture(scope="session")
def kafka(brokers: Choice) -> Iterator[Kafka]:
    """Yield the Kafka that all tests share: use topics of your own (`unique`)."""
    with KafkaBroker() if brokers.kind == "containers" else EmbeddedKafka() as kafka:
        yield kafka


@pytest.fixture
def real_kafka(brokers: Choice, kafka: Kafka) -> Kafka:
    """Return the shared Kafka. Skip the test if it is the embedded one: that finds no offset by
    time, deletes no records and no topics, adds no partitions, and refuses no records.
    """
    if brokers.kind == "embedded":
        pytest.skip(f"needs a real Kafka; {brokers}")
    return kafka


@pytest.fixture(scope="session")
def redis(brokers: Choice) -> Iterator[RedisAddress]:
    """Yield the Redis that all tests share: use keys and channels of your own (`unique`)."""
    with RedisServer() if brokers.kind == "containers" else EmbeddedRedis() as redis:
        yield redis


@pytest.fixture
def own_kafka(brokers: Choice) -> Iterator[KafkaBroker]:
    """Yield a Kafka of this test alone, to pause, kill and restart."""
    if brokers.kind == "embedded":
        pytest.skip(f"needs a Kafka that can be killed; {brokers}")
    with KafkaBroker() as kafka:
        yield kafka


@pytest.fixture
def own_redis(brokers: Choice) -> Iterator[RedisServer | RedisProcess]:
    """Yield a Redis of this test alone, to pause, kill and restart."""
    with RedisServer() if brokers.kind == "containers" else RedisProcess() as redis:
        yield redis


@pytest.fixture(scope="session")
def image(brokers: Choice) -> str:
    """Build the image and return its name; with all layers in the cache it takes a second."""
    if brokers.kind == "embedded":
        missing(f"needs Docker; {brokers}")
    words = ("build", "--quiet", "--build-arg", "PIP_INDEX_URL")
    labels = ("--build-arg", "VERSION=0.0.0-test", "--build-arg", "REVISION=tested")
    return output(program("docker"), *words, *labels, str(ROOT), timeout_s=BUILD_TIMEOUT_S).strip()


@pytest.fixture
def unique() -> str:
    """Return a word that no other test has, for a venue, a topic or a key: `t3f9c…`."""
    return f"t{uuid4().hex[:12]}"


@pytest.fixture
def journal() -> Iterator[Journal]:
    """Yield what is logged during the test."""
    with journal_kept() as journal:
        yield journal


@pytest.fixture(scope="session")
def captures() -> Path:
    """Return the folder of recorded market data, which is not part of the project."""
    default = ROOT / ".." / "shared" / "data"
    folder = Path(os.environ.get("TICKBRIDGE_CAPTURES", default)).resolve()
    if not folder.is_dir():
        pytest.skip("no captures: put them in ../shared/data or point TICKBRIDGE_CAPTURES at them")
    return folder
