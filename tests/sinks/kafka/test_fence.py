"""The fence that makes a sink the only writer of its topics, on real brokers."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from operator import itemgetter
from pathlib import Path
from unittest.mock import AsyncMock

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    ProducerFenced,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)

from bridge import settings
from bridge.brokers.kafka_reader import TopicReader
from bridge.core.model.shard import WHOLE, ShardId
from bridge.errors import Fenced, SinkRefused, SinkUnavailable, TopicsDenied
from bridge.settings import Cluster
from bridge.sinks.kafka import fence as fence_module
from bridge.sinks.kafka import producer as producer_module
from bridge.sinks.kafka import producer_session
from bridge.sinks.kafka import sink as kafka_sink
from bridge.sinks.kafka.fence import Fence
from bridge.sinks.kafka.owner import this_bridge
from bridge.sinks.kafka.producer import StateTopics, discard, ensure_topics, open_producer
from bridge.sinks.kafka.producer_state import ProducerState
from bridge.sinks.outbox.chunk_store import ChunkStore
from bridge.tools.embedded import LOOPBACK, free_port
from tests.sinks.kafka.test_sink import ids, options_for, sink_for
from tests.support.brokers import Choice, Kafka, read_topic
from tests.support.journal import Journal
from tests.support.sinks import Feeder, at_work, running, trades

pytestmark = [pytest.mark.asyncio(loop_factories=["real"]), pytest.mark.timeout(60)]

PARTITIONS = 6


@pytest.fixture
def fencing_kafka(brokers: Choice, kafka: Kafka) -> Kafka:
    if brokers.kind == "embedded":
        pytest.skip(f"needs a Kafka that fences; {brokers}")
    return kafka


async def test_a_second_bridge_takes_over_and_the_first_one_names_it(
    fencing_kafka: Kafka, unique: str, journal: Journal
) -> None:
    servers = fencing_kafka.bootstrap_servers
    first, second = (sink_for(servers, unique) for _ in range(2))
    feeder = Feeder(first)
    async with running(first) as ended, asyncio.timeout(30):
        feeder.push(*trades(unique, range(10)))
        await first.drained()
        async with at_work(second):
            await second.fenced()
            feeder.push(*trades(unique, range(10, 20)))
            Feeder(second).push(*trades(unique, range(10, 30)))
            with pytest.raises(Fenced, match=f"{second._fence.us}; stop one of the two"):
                await ended
            await second.drained()
    assert journal.named("kafka_unavailable") == []  # it has not tried again
    assert ids(await read_topic(servers, f"{unique}.trade")) == list(range(30))
    owners = [
        json.loads(record.value)
        for record in await read_topic(servers, f"{unique}.position")
        if record.key.startswith(b"owner:")
    ]
    assert max(owners, key=itemgetter("epoch"))["started"] == second._fence.us.started


async def test_what_waits_on_disk_is_removed_because_the_new_owner_has_it(
    fencing_kafka: Kafka, unique: str, tmp_path: Path
) -> None:
    """Otherwise the next start would publish it a second time."""
    servers = fencing_kafka.bootstrap_servers
    first = sink_for(servers, unique, store=ChunkStore(tmp_path, 2**30))
    second = sink_for(servers, unique)
    async with running(first) as ended, asyncio.timeout(30):
        await first.fenced()
        async with at_work(second):
            await second.fenced()
            Feeder(first).push(*trades(unique, range(10)))
            with pytest.raises(Fenced):
                await ended
            first.close()
    left = ChunkStore(tmp_path, 2**30)
    assert left.found == []
    left.close()


def state_topics(venue: str) -> StateTopics:
    return StateTopics(f"{venue}.position", f"{venue}.status")


async def raised(options: settings.Kafka, unique: str, shard: ShardId = WHOLE) -> ProducerState:
    """Raise a fence around the trades; return the state with its identity."""
    state = ProducerState()
    fence = Fence(options, state_topics(unique), state, this_bridge(Cluster()), shard=shard)
    await fence.raise_around([f"{unique}.trade", f"{unique}.position"])
    return state


async def test_a_fence_refuses_the_earlier_identity_in_every_partition(
    fencing_kafka: Kafka, unique: str
) -> None:
    """Also in partitions to which the new owner has written nothing."""
    options = options_for(fencing_kafka.bootstrap_servers, partitions=PARTITIONS)
    earlier, present = [await raised(options, unique) for _ in range(2)]
    for state, expected in ((earlier, ProducerFenced), (present, int)):
        producer = await open_producer(options, state)
        answers = [await answer(producer, f"{unique}.trade", n) for n in range(PARTITIONS)]
        assert {type(each) for each in answers} == {expected}
        await discard(producer)


async def test_no_marker_is_written_before_each_partition_has_a_leader(
    fencing_kafka: Kafka, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A marker that fails may hold up those of all transactional ids."""
    done: list[str] = []
    ends, commit = TopicReader.ends, fence_module._commit

    async def led(
        self: TopicReader, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, int]:
        found = await ends(self, partitions)
        done.append(f"led: {len(partitions)}")
        return found

    async def committed(producer: AIOKafkaProducer, places: Iterable[TopicPartition]) -> None:
        done.append(f"marked: {len([*places])}")
        await commit(producer, places)

    monkeypatch.setattr(TopicReader, "ends", led)
    monkeypatch.setattr(fence_module, "_commit", committed)
    await raised(options_for(fencing_kafka.bootstrap_servers, partitions=PARTITIONS), unique)
    count = PARTITIONS + 1
    assert done == [f"led: {count}", f"marked: {count}", f"marked: {count}"]


@pytest.mark.parametrize("shard", [ShardId(0, 2), ShardId(1, 2), ShardId(2, 3)])
async def test_a_shard_shuts_the_owner_of_another_number_out_of_its_own_partitions_once(
    fencing_kafka: Kafka, unique: str, shard: ShardId, journal: Journal
) -> None:
    options = options_for(fencing_kafka.bootstrap_servers, partitions=PARTITIONS)
    earlier = await raised(options, unique)
    for _ in range(2):
        await raised(options, unique, shard)
    producer = await open_producer(options, earlier)
    answers = [await answer(producer, f"{unique}.trade", n) for n in range(PARTITIONS)]
    refused = [n for n, each in enumerate(answers) if isinstance(each, ProducerFenced)]
    assert refused == [n for n in range(PARTITIONS) if shard.has(n)]
    await discard(producer)
    (entry,) = journal.named("kafka_shard_shut_out")
    assert entry["transactional_id"] == f"tickbridge.{unique}.position"


async def test_a_topic_that_the_shards_cannot_share_is_refused_with_its_name(
    fencing_kafka: Kafka, unique: str
) -> None:
    options = options_for(fencing_kafka.bootstrap_servers, partitions=PARTITIONS)
    await raised(options, unique)
    with pytest.raises(SinkRefused, match=rf"{unique}\.trade has 6 partitions.* by 4 shards"):
        await raised(options, unique, ShardId(1, 4))


async def answer(producer: AIOKafkaProducer, topic: str, partition: int) -> int | BaseException:
    batch = producer.create_batch()
    batch.append(key=b"k", value=b"v", timestamp=1)
    future = await producer.send_batch(batch, topic, partition=partition)
    await asyncio.wait((future,))
    result: int | BaseException = future.exception() or future.result().offset
    return result


async def test_a_producer_with_a_request_in_flight_is_discarded_at_once(
    kafka: Kafka, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer_module, "STOP_TIMEOUT_S", 60.0)
    options = options_for(kafka.bootstrap_servers)
    producer = await open_producer(options, ProducerState())
    await ensure_topics(producer, options, [unique], ())
    batch = producer.create_batch()
    batch.append(key=b"k", value=b"v", timestamp=None)
    await producer.send_batch(batch, unique, partition=0)
    while not producer._sender._in_flight:  # noqa: ASYNC110 - aiokafka tells nobody
        await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await discard(producer)


@pytest.mark.parametrize(
    "denied", [{"{}.trade", "{}.position"}, {"another"}], ids=["all", "none of them"]
)
async def test_a_fence_that_can_leave_out_nothing_is_not_taken_for_raised(
    fencing_kafka: Kafka, unique: str, monkeypatch: pytest.MonkeyPatch, denied: set[str]
) -> None:
    """Otherwise the next producer would have an identity that no other bridge can shut out."""
    topics = [f"{unique}.trade", f"{unique}.position"]
    fence = Fence(
        options_for(fencing_kafka.bootstrap_servers),
        state_topics(unique),
        ProducerState(),
        this_bridge(Cluster()),
    )
    await fence.raise_around(topics)
    fence.renew()
    error = TopicAuthorizationFailedError({name.format(unique) for name in denied})
    monkeypatch.setattr(Fence, "_mark", AsyncMock(side_effect=error))
    with pytest.raises(TopicsDenied):
        await fence.raise_around(topics)


async def test_a_renewed_fence_interrupts_nothing(
    kafka: Kafka, unique: str, monkeypatch: pytest.MonkeyPatch, journal: Journal
) -> None:
    monkeypatch.setattr(producer_session, "MAX_AGE_S", 0.2)
    sink = sink_for(kafka.bootstrap_servers, unique)
    feeder, pushed = Feeder(sink), 0
    async with at_work(sink), asyncio.timeout(30):
        while len(journal.named("kafka_connected")) < 4:
            feeder.push(*trades(unique, range(pushed, pushed + 10)))
            pushed += 10
            await asyncio.sleep(0.01)
        await sink.drained()
    assert ids(await read_topic(kafka.bootstrap_servers, f"{unique}.trade")) == list(range(pushed))
    for event in ("kafka_unavailable", "kafka_foreign_records", "kafka_producer_id_discarded"):
        assert journal.named(event) == []


async def test_a_bridge_that_nobody_has_replaced_takes_its_topics_back(
    fencing_kafka: Kafka, unique: str, journal: Journal
) -> None:
    """The coordinator raises the epoch by itself if a transaction takes too long."""
    servers = fencing_kafka.bootstrap_servers
    sink = sink_for(servers, unique)
    feeder = Feeder(sink)
    async with at_work(sink), asyncio.timeout(30):
        feeder.push(*trades(unique, range(10)))
        await sink.drained()
        await fence_without_owner(servers, unique)
        feeder.push(*trades(unique, range(10, 20)))
        await sink.drained()
    assert journal.named("kafka_producer_fenced")
    assert ids(await read_topic(servers, f"{unique}.trade")) == list(range(20))


async def fence_without_owner(servers: str, unique: str) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=servers, transactional_id=f"tickbridge.{unique}.position"
    )
    async with producer:
        for _ in range(2):
            places = [TopicPartition(f"{unique}.trade", n) for n in range(PARTITIONS)]
            await fence_module._commit(producer, places)


async def test_topics_that_are_added_later_are_fenced_under_the_same_identity(
    fencing_kafka: Kafka, unique: str
) -> None:
    servers, options = fencing_kafka.bootstrap_servers, options_for(fencing_kafka.bootstrap_servers)
    earlier = ProducerState()
    await Fence(options, state_topics(unique), earlier, this_bridge(Cluster())).raise_around(
        [f"{unique}.quote", f"{unique}.position"]
    )
    producer = await open_producer(options, earlier)
    sink = sink_for(servers, unique)
    async with at_work(sink), asyncio.timeout(30):
        Feeder(sink).push(*trades(unique, range(10)))
        await sink.drained()
        identity = sink._state.producer_state.identity
        assert await answer(producer, f"{unique}.quote", 0) == 2
        await sink.add_topics([f"{unique}.quote"])
        assert isinstance(await answer(producer, f"{unique}.quote", 0), ProducerFenced)
        assert sink._state.producer_state.identity == identity
    await discard(producer)


async def test_a_takeover_while_topics_are_added_ends_the_sink_and_not_what_adds_them(
    kafka: Kafka, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reload of the settings adds topics. It must not end the other shards."""
    sink = sink_for(kafka.bootstrap_servers, unique)
    async with running(sink) as ended, asyncio.timeout(30):
        await sink.fenced()
        Feeder(sink).push(*trades(unique, range(10)))
        await sink.drained()
        monkeypatch.setattr(Fence, "raise_around", failing(Fenced("the next owner")))
        await sink.add_topics([f"{unique}.quote"])
        with pytest.raises(Fenced, match="the next owner"):
            await ended


def failing(error: Exception) -> Callable[..., Awaitable[None]]:
    """Return a replacement that raises this error."""

    async def fail(*_: object) -> None:
        raise error

    return fail


async def test_where_transactions_are_refused_a_warning_says_what_is_missing(
    kafka: Kafka, unique: str, monkeypatch: pytest.MonkeyPatch, journal: Journal
) -> None:
    monkeypatch.setattr(
        fence_module, "start", failing(TransactionalIdAuthorizationFailed("tickbridge"))
    )
    sink = sink_for(kafka.bootstrap_servers, unique)
    async with at_work(sink):
        Feeder(sink).push(*trades(unique, range(10)))
        await sink.drained()
    (entry,) = journal.named("kafka_fence_refused")
    assert entry["transactional_id"] == f"tickbridge.{unique}.position"
    assert "grant Write and Describe" in entry["remedy"]
    assert ids(await read_topic(kafka.bootstrap_servers, f"{unique}.trade")) == list(range(10))


async def test_a_kafka_that_cannot_store_transactions_is_named_as_the_reason(
    kafka: Kafka, unique: str, monkeypatch: pytest.MonkeyPatch, journal: Journal
) -> None:
    monkeypatch.setattr(fence_module, "start", failing(TimeoutError("no answer within 10000 ms")))
    async with at_work(sink_for(kafka.bootstrap_servers, unique)):
        (entry,) = await journal.until("kafka_unavailable")
    assert "transaction.state.log.replication.factor" in entry["error"]
    assert "kafka.transactional_id" in entry["error"]


async def test_an_absent_kafka_is_not_waited_for_without_end(
    unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_sink, "FENCE_TIMEOUT_S", 0.5)
    server = f"{LOOPBACK}:{free_port()}"
    sink = sink_for(server, unique)
    async with at_work(sink):
        with pytest.raises(
            SinkUnavailable, match=rf"Kafka at {server} could not be reached within 0.5 s"
        ):
            await sink.fenced()
