"""What a standby says about itself in Kafka."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bridge import settings
from bridge.settings import Cluster
from bridge.sinks.kafka import producer_state
from bridge.sinks.kafka import standby as standby_module
from bridge.sinks.kafka.owner import STANDBY_PREFIX, is_about_owners
from bridge.sinks.kafka.producer import discard, ensure_topics, open_writer
from bridge.sinks.kafka.standby import Standby, StandbyBeat, decode_standby
from tests.sinks.kafka.test_sink import options_for, sink_for
from tests.support.brokers import Kafka, KafkaBroker, frozen, read_topic
from tests.support.journal import Journal
from tests.support.sinks import Feeder, at_work, trades

pytestmark = [pytest.mark.asyncio(loop_factories=["real"]), pytest.mark.timeout(60)]

REQUEST_TIMEOUT_MS = 3000
US = Standby("b", since=7, is_cut=False, lag_s=0.5)


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standby_module, "INTERVAL_S", 0.05)


@asynccontextmanager
async def beating(beat: StandbyBeat) -> AsyncIterator[None]:
    task = asyncio.create_task(beat.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def with_topic(kafka: Kafka, topic: str) -> settings.Kafka:
    """Create a topic, and return the settings of its Kafka."""
    options = settings.Kafka(
        bootstrap_servers=[kafka.bootstrap_servers], request_timeout_ms=REQUEST_TIMEOUT_MS
    )
    producer = await open_writer(options)
    await ensure_topics(producer, options, [topic], [topic])
    await discard(producer)
    return options


async def test_it_is_written_again_and_again(kafka: Kafka, unique: str) -> None:
    options = await with_topic(kafka, unique)
    async with beating(StandbyBeat(options, unique, "id.1-of-2", lambda: US)):
        records = await read_topic(kafka.bootstrap_servers, unique, expected=3)
    for record in records:
        assert record.key == STANDBY_PREFIX + b"id.1-of-2"
        assert is_about_owners(record.key)
        assert decode_standby(record.value) == US


async def test_one_that_does_not_stand_by_writes_nothing(kafka: Kafka, unique: str) -> None:
    looks = asyncio.Semaphore(0)

    def look() -> None:
        looks.release()

    options = await with_topic(kafka, unique)
    async with beating(StandbyBeat(options, unique, "id", look)):
        for _ in range(3):
            await looks.acquire()
    assert await read_topic(kafka.bootstrap_servers, unique) == []


async def test_it_goes_on_after_an_outage_of_kafka(
    own_kafka: KafkaBroker, unique: str, journal: Journal
) -> None:
    servers = own_kafka.bootstrap_servers
    options = await with_topic(own_kafka, unique)
    async with beating(StandbyBeat(options, unique, "id", lambda: US)):
        await read_topic(servers, unique, expected=1)
        async with frozen(own_kafka):
            await journal.until("standby_not_written")
        before = len(await read_topic(servers, unique))
        await read_topic(servers, unique, expected=before + 3)


async def test_a_standby_that_writes_that_it_stands_by_is_not_somebody_else(
    real_kafka: Kafka, unique: str, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer_state, "LATE_MARKERS_S", 0.0)
    servers, topic = real_kafka.bootstrap_servers, f"{unique}.position"
    sink = sink_for(servers, unique, cluster=Cluster(standby=1))
    beat = StandbyBeat(options_for(servers), topic, "id", lambda: US)
    async with at_work(sink), asyncio.timeout(30):
        await sink.fenced()
        feeder = Feeder(sink)
        async with beating(beat):
            for number in range(10):
                await read_topic(servers, topic, expected=2 * number)
                feeder.push(*trades(unique, [number]))
                await sink.drained()
    records = await read_topic(servers, topic)
    assert {record.key[:8] for record in records} >= {b"standby:", b"trade:BT"}
    assert journal.named("kafka_foreign_records") == []
    assert sink.counts.failures["foreign_records"] == 0
