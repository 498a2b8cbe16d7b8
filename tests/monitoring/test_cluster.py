"""Who owns each shard, and who stands by, by the records in Kafka."""

import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from bridge import settings
from bridge.core.model.shard import WHOLE, ShardId
from bridge.core.model.stream import SPOT
from bridge.core.records.record import topic_name
from bridge.core.sequencing.position import MESSAGE_TYPE
from bridge.errors import BridgeUnavailable
from bridge.monitoring.cluster import ClusterStatus, read_cluster
from bridge.settings import Cluster
from bridge.sinks.kafka.owner import OWNER_PREFIX, STANDBY_PREFIX, transactional_id_of
from bridge.sinks.kafka.producer import ensure_topics
from tests.support.brokers import Kafka

FIRST, SECOND = ShardId(0, 2), ShardId(1, 2)

pytestmark = pytest.mark.timeout(60)


class Bench:
    """Writes what bridges say, and reads it."""

    def __init__(self, options: settings.Kafka, producer: AIOKafkaProducer) -> None:
        self.options, self._producer = options, producer
        self.topic = topic_name(options.topic, SPOT, MESSAGE_TYPE)

    async def owner(self, shard: ShardId, name: str, age_s: float = 0.0, **fields: Any) -> None:
        said = {"host": "h", "process": 1, "started": 5, "instance_id": name, "since": 7}
        await self.say(OWNER_PREFIX, shard, said | fields, age_s)

    async def standby(self, shard: ShardId, name: str, age_s: float = 0.0, **fields: Any) -> None:
        said = {"name": name, "since": 8, "is_cut": False, "lag_s": 0.25}
        await self.say(STANDBY_PREFIX, shard, said | fields, age_s)

    async def say(self, prefix: bytes, shard: ShardId, said: object, age_s: float = 0.0) -> None:
        key = prefix + transactional_id_of(self.options, self.topic, shard).encode()
        await self.write(key, msgspec.json.encode(said), age_s)

    async def write(self, key: bytes | None, value: bytes | None, age_s: float = 0.0) -> None:
        timestamp_ms = round((time.time() - age_s) * 1000)
        await self._producer.send_and_wait(self.topic, value, key, timestamp_ms=timestamp_ms)

    async def read(self, **cluster: Any) -> ClusterStatus:
        return await read_cluster(self.options, Cluster(**cluster))


@pytest.fixture
async def bench(real_kafka: Kafka, unique: str) -> AsyncIterator[Bench]:
    options = settings.Kafka(
        bootstrap_servers=[real_kafka.bootstrap_servers], topic=unique + ".{venue}.{message_type}"
    )
    producer = AIOKafkaProducer(bootstrap_servers=real_kafka.bootstrap_servers)
    await producer.start()
    bench = Bench(options, producer)
    await ensure_topics(producer, options, [bench.topic], [bench.topic])
    yield bench
    await producer.stop()


async def test_each_shard_names_its_owner_and_its_standby(bench: Bench) -> None:
    await bench.owner(FIRST, "a", takeovers=3)
    await bench.standby(FIRST, "b")
    await bench.owner(SECOND, "b")
    await bench.standby(SECOND, "a", is_cut=True)
    found = await bench.read(standby=1)
    first, second = found.shards
    assert first.owner
    assert first.standby
    assert (first.name, first.owner.name, first.owner.state) == ("1-of-2", "a", "live")
    assert (first.owner.since, first.owner.takeovers) == (7, 3)
    assert (first.standby.name, first.standby.state) == ("b", "ready")
    assert (first.standby.since, first.standby.lag_s) == (8, 0.25)
    assert second.standby
    assert second.standby.state == "cut"
    assert found.wrong == ["2-of-2: the standby does not receive all streams"]


async def test_the_last_record_counts_but_none_of_an_earlier_opening(bench: Bench) -> None:
    await bench.owner(WHOLE, "new", epoch=2)
    await bench.owner(WHOLE, "old", epoch=1)
    await bench.owner(WHOLE, "new", epoch=2, state="cut")
    found = await bench.read()
    (shard,) = found.shards
    assert shard.owner
    assert (shard.owner.name, shard.owner.state) == ("new", "cut")
    assert found.wrong == ["1-of-1: the owner does not receive all streams"]


async def test_a_bridge_that_is_silent_or_has_stopped_is_wrong(bench: Bench) -> None:
    await bench.owner(FIRST, "a", age_s=30)
    await bench.standby(FIRST, "b", age_s=30)
    await bench.owner(SECOND, "b", state="released")
    assert (await bench.read(standby=1, takeover_ms=2000)).wrong == [
        "1-of-2: the owner is not heard of any more",
        "1-of-2: the standby is not heard of any more",
        "2-of-2: the owner has stopped",
        "2-of-2: no standby",
    ]


async def test_one_that_beats_more_slowly_is_not_silent(bench: Bench) -> None:
    await bench.owner(WHOLE, "a", age_s=30)
    assert (await bench.read(takeover_ms=60_000)).wrong == []


async def test_a_standby_that_has_become_the_owner_is_none_any_more(bench: Bench) -> None:
    await bench.standby(WHOLE, "b")
    await bench.owner(WHOLE, "b")
    (shard,) = (await bench.read()).shards
    assert shard.standby is None


async def test_without_the_setting_a_shard_needs_no_standby(bench: Bench) -> None:
    await bench.owner(WHOLE, "a")
    await bench.standby(WHOLE, "b", age_s=30)
    found = await bench.read()
    assert ([shard.name for shard in found.shards], found.wrong) == (["1-of-1"], [])


async def test_a_shard_of_which_nothing_was_heard_has_no_owner(bench: Bench) -> None:
    await bench.owner(FIRST, "a", age_s=400)
    await bench.owner(SECOND, "a")
    found = await bench.read()
    assert [shard.name for shard in found.shards] == ["1-of-2", "2-of-2"]
    assert found.wrong == ["1-of-2: no owner"]


async def test_while_the_number_of_shards_changes_both_are_shown(bench: Bench) -> None:
    await bench.owner(ShardId(0, 4), "old", age_s=1, state="released")
    await bench.owner(ShardId(1, 4), "old", age_s=1)
    for shard in (FIRST, SECOND):
        await bench.owner(shard, "new")
    assert [shard.name for shard in (await bench.read()).shards] == ["1-of-2", "2-of-2", "2-of-4"]


async def test_records_that_are_not_ours_are_passed_over(bench: Bench) -> None:
    await bench.owner(WHOLE, "a")
    for key in (b"trade:BTCUSDT", b"owner:other.1-of-2", b"owner:\xff", b"standby:"):
        await bench.write(key, b"{}")
    own = transactional_id_of(bench.options, bench.topic).encode()
    for prefix in (OWNER_PREFIX, STANDBY_PREFIX):
        await bench.write(prefix + own, b"no JSON")
        await bench.write(prefix + own, None)
    (shard,) = (await bench.read()).shards
    assert shard.owner
    assert (shard.owner.name, shard.standby) == ("a", None)


@pytest.mark.parametrize("has_records", [True, False])
async def test_topics_without_a_bridge_are_an_error_that_names_the_topic(
    bench: Bench, *, has_records: bool
) -> None:
    if has_records:
        await bench.owner(WHOLE, "a", age_s=400)
    with pytest.raises(
        BridgeUnavailable, match=f"no bridge has written to the topic {bench.topic}"
    ):
        await bench.read()
