"""When a standby may take over, by the heartbeats of another bridge in Kafka."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from msgspec.structs import replace

from bridge.brokers.kafka_consumer import partitions_of_topics
from bridge.core.model.stream import SPOT
from bridge.core.records.record import topic_name
from bridge.core.sequencing.position import MESSAGE_TYPE
from bridge.errors import Fenced
from bridge.settings import Cluster, load_settings
from bridge.settings import Kafka as KafkaSettings
from bridge.sinks.kafka.owner import (
    Role,
    State,
    encode,
    owner_key,
    this_bridge,
    transactional_id_of,
)
from bridge.sinks.kafka.owner_watch import CLOCK_BEATS, PATIENCE, OwnerWatch, Reason
from bridge.sinks.kafka.producer import ensure_topics
from tests.support.brokers import Kafka
from tests.support.journal import Journal
from tests.support.receiving import STREAMS, Receiving

pytestmark = [pytest.mark.asyncio(loop_factories=["real"]), pytest.mark.timeout(60)]

TAKEOVER_MS = 1000
PATIENCE_S = PATIENCE * TAKEOVER_MS / 1000
WHOLE_SINCE = 1_700_000_000_000_000


class Bench:
    """Another bridge that writes to the position topic, and a watch that reads it."""

    def __init__(self, options: KafkaSettings, producer: AIOKafkaProducer) -> None:
        self.options = options
        self.topic = topic_name(options.topic, SPOT, MESSAGE_TYPE)
        self.owner = this_bridge(Cluster())
        # The last one that was begun.
        self.owner_watch: OwnerWatch | None = None
        self._producer = producer
        self._has_topic = False

    async def beat(
        self,
        state: State = "live",
        *,
        group: str = "tickbridge",
        epoch: int = 0,
        generation: int = -1,
        ahead_s: float = 0.0,
        **fields: Any,
    ) -> None:
        owner = replace(
            self.owner,
            group=group,
            state=state,
            producer_id=1,
            epoch=epoch,
            generation=generation,
            **fields,
        )
        key = owner_key(transactional_id_of(self.options, self.topic))
        if not self._has_topic:
            await ensure_topics(self._producer, self.options, [self.topic], [self.topic])
            self._has_topic = True
        await self._producer.send_and_wait(
            self.topic,
            encode(owner),
            key,
            partition=0,
            timestamp_ms=round((time.time() + ahead_s) * 1000),
        )

    @asynccontextmanager
    async def beating(self, **fields: Any) -> AsyncIterator[None]:
        """Write heartbeats all the time."""

        async def run() -> None:
            while True:
                await self.beat(**fields)
                await asyncio.sleep(TAKEOVER_MS / 4000)

        task = asyncio.create_task(run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait((task,))

    async def watch(
        self,
        *,
        reception: Receiving | None = None,
        is_patient: bool = False,
        has_records: bool = False,
        role: Role | None = None,
        **cluster: Any,
    ) -> Reason:
        options = Cluster.model_validate({"standby": 1, "takeover_ms": TAKEOVER_MS} | cluster)
        self.owner_watch = watch = OwnerWatch(
            self.options,
            options,
            reception=reception or Receiving(),
            is_patient=is_patient,
            has_records=has_records,
            role=role,
        )
        return await watch.until_free()


@pytest.fixture
async def bench(kafka: Kafka, unique: str) -> AsyncIterator[Bench]:
    overrides = {
        "binance": {"symbols": ["BTCUSDT"]},
        "kafka": {
            "bootstrap_servers": kafka.bootstrap_servers,
            "topic": unique + ".{venue}.{message_type}",
        },
    }
    options = load_settings(environment={}, overrides=overrides).kafka
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
    await producer.start()
    yield Bench(options, producer)
    await producer.stop()


async def test_topics_without_an_owner_are_free(bench: Bench) -> None:
    assert await bench.watch() == "none"


async def test_topics_that_an_owner_has_released_are_free_at_once(bench: Bench) -> None:
    await bench.beat()
    await bench.beat("released")
    assert await bench.watch() == "released"


async def test_a_standby_waits_until_the_owner_releases_them(
    bench: Bench, journal: Journal
) -> None:
    await bench.beat()
    async with bench.beating():
        watching = asyncio.create_task(bench.watch())
        await journal.until("standing_by")
        await asyncio.sleep(2 * TAKEOVER_MS / 1000)
        assert not watching.done()
    await bench.beat("released")
    assert await watching == "released"


async def test_a_late_heartbeat_of_an_earlier_owner_does_not_count(bench: Bench) -> None:
    await bench.beat("released", epoch=2)
    await bench.beat("live", epoch=1)
    assert await bench.watch() == "released"


async def test_an_owner_without_heartbeats_is_replaced(bench: Bench) -> None:
    await bench.beat()
    began_s = asyncio.get_running_loop().time()
    assert await bench.watch() == "silent"
    assert asyncio.get_running_loop().time() - began_s >= TAKEOVER_MS / 1000


@pytest.mark.parametrize(
    ("owner", "standby", "takes_over"),
    [
        ({"state": "cut"}, Receiving(), True),
        ({"state": "cut"}, Receiving(is_cut=True), False),
        ({"silent_s": 3.0}, Receiving(silent_s=1.5), True),
        ({"silent_s": 3.0}, Receiving(silent_s=2.5), False),
        ({"silent_s": 3.0}, Receiving(is_cut=True), False),
        ({"silent_s": 3.0}, Receiving(has_frames=False), False),
        ({"silent_s": 0.1}, Receiving(), False),
    ],
    ids=[
        *("cut", "both cut", "silent", "both silent", "silent and cut"),
        *("silent and without a frame", "both well"),
    ],
)
async def test_an_owner_that_has_lost_the_exchange_is_replaced_by_one_that_has_not(
    bench: Bench,
    journal: Journal,
    *,
    owner: dict[str, Any],
    standby: Receiving,
    takes_over: bool,
) -> None:
    """Its connections may be open, and bring nothing."""
    await bench.beat()
    async with bench.beating(**owner):
        watching = asyncio.create_task(bench.watch(reception=standby))
        await journal.until("standing_by")
        await asyncio.wait((watching,), timeout=3 * TAKEOVER_MS / 1000)
        assert watching.done() == takes_over
        if takes_over:
            assert await watching == "cut"
    watching.cancel()


@pytest.mark.parametrize(("ahead_s", "is_named"), [(0.0, False), (2.0, True), (-3.0, True)])
async def test_clocks_that_are_far_apart_are_named_once(
    bench: Bench, journal: Journal, *, ahead_s: float, is_named: bool
) -> None:
    await bench.beat()
    async with bench.beating(ahead_s=ahead_s):
        watching = asyncio.create_task(bench.watch())
        await journal.until("standing_by")
        await asyncio.wait((watching,), timeout=4 * CLOCK_BEATS * TAKEOVER_MS / 4000)
        assert not watching.done()
    watching.cancel()
    told = [entry["owner_ahead_s"] for entry in journal.named("clocks_apart")]
    assert told == pytest.approx([ahead_s] if is_named else [], abs=0.8)


async def test_an_owner_of_another_group_is_replaced_at_once(bench: Bench) -> None:
    async with bench.beating(group="others"):
        await bench.beat(group="others")
        assert await bench.watch() == "foreign"


async def test_after_such_an_owner_has_taken_over_it_is_replaced_only_if_it_is_silent(
    bench: Bench,
) -> None:
    await bench.beat(group="others")
    assert await bench.watch(is_patient=True) == "silent"


@pytest.mark.parametrize("options", [{"group": "others"}, {"standby": 0}])
async def test_a_start_is_refused_next_to_a_bridge_that_it_does_not_stand_by_for(
    bench: Bench, options: dict[str, Any]
) -> None:
    await bench.beat()
    async with bench.beating():
        with pytest.raises(Fenced, match=f"process {bench.owner.process} on {bench.owner.host}"):
            await bench.watch(if_owned="refuse", **options)


async def test_a_start_is_not_refused_if_the_owner_is_dead(bench: Bench) -> None:
    await bench.beat()
    assert await bench.watch(if_owned="refuse", standby=0) == "silent"


async def test_records_on_disk_are_outdated_if_another_bridge_is_alive(bench: Bench) -> None:
    await bench.beat()
    async with bench.beating():
        with pytest.raises(Fenced):
            await bench.watch(has_records=True)


@pytest.mark.parametrize(
    ("role", "generation", "reception", "takes_over"),
    [
        (Role("owner", generation=7), 6, Receiving(), True),
        (Role("owner", generation=7), 7, Receiving(), True),
        (Role("owner", generation=7), 8, Receiving(), False),
        (Role("owner", generation=7), 6, Receiving(is_cut=True), False),
        (Role("owner", generation=7), 6, Receiving(silent_s=3.0, has_frames=False), False),
        (Role("standby", generation=7), 6, Receiving(), False),
    ],
)
async def test_the_owner_of_a_later_division_takes_over_from_one_that_is_alive(
    bench: Bench,
    journal: Journal,
    *,
    role: Role,
    generation: int,
    reception: Receiving,
    takes_over: bool,
) -> None:
    """It must receive all streams, and the other one must know of no later division."""
    await bench.beat(generation=generation)
    async with bench.beating(generation=generation):
        watching = asyncio.create_task(bench.watch(role=role, reception=reception))
        await journal.until("standing_by")
        await asyncio.wait((watching,), timeout=None if takes_over else 2 * PATIENCE_S)
        assert watching.done() == takes_over
        if takes_over:
            assert watching.result() == "assigned"
        watching.cancel()


@pytest.mark.parametrize(
    ("owner", "is_whole"),
    [
        ({}, True),
        ({"lag_s": 60.0}, False),
        ({"streams": "others"}, False),
        ({"whole_since": 0}, False),
        ({"state": "cut"}, False),
    ],
    ids=["both whole", "late", "other streams", "unknown", "cut"],
)
async def test_a_standby_misses_nothing_if_the_owner_has_published_all_until_it_received_all(
    bench: Bench, *, owner: dict[str, Any], is_whole: bool
) -> None:
    reception = Receiving()
    await bench.beat()
    beat: dict[str, Any] = {"streams": STREAMS, "whole_since": WHOLE_SINCE, **owner}
    async with bench.beating(**beat):
        watching = asyncio.create_task(bench.watch(reception=reception))
        while not (  # noqa: ASYNC110
            (watch := bench.owner_watch) and (watch.is_settled or watching.done())
        ):
            await asyncio.sleep(0.01)
        assert watch.missed_nothing_since() == (WHOLE_SINCE if is_whole else None)
        reception.whole_since = round(time.time() * 1e6)
        assert watch.missed_nothing_since() is None
    watching.cancel()


async def test_an_owner_that_is_alive_is_not_replaced_before_it_is_proven_that_nothing_is_missed(
    bench: Bench,
) -> None:
    async def waited_s(**beat: Any) -> float:
        began_s = asyncio.get_running_loop().time()
        async with bench.beating(generation=6, **beat):
            assert await bench.watch(role=Role("owner", generation=7)) == "assigned"
        return asyncio.get_running_loop().time() - began_s

    await bench.beat(generation=6)
    assert await waited_s() >= PATIENCE_S
    assert await waited_s(streams=STREAMS, whole_since=WHOLE_SINCE) >= TAKEOVER_MS / 1000
    assert bench.owner_watch is not None
    assert bench.owner_watch.missed_nothing_since() == WHOLE_SINCE


async def test_an_owner_of_another_group_is_not_replaced_by_the_division(
    bench: Bench, journal: Journal
) -> None:
    role = Role("owner", generation=7)
    await bench.beat(group="others")
    async with bench.beating(group="others"):
        watching = asyncio.create_task(bench.watch(role=role, is_patient=True))
        await journal.until("standing_by")
        await asyncio.wait((watching,), timeout=3 * TAKEOVER_MS / 1000)
        assert not watching.done()
        watching.cancel()


async def test_a_standby_leaves_free_topics_to_the_owner_that_the_group_wants(
    bench: Bench,
) -> None:
    """Both may start at one moment. If that one does not come, the standby takes over."""
    await bench.beat("released")
    began_s = asyncio.get_running_loop().time()
    assert await bench.watch(role=Role("standby")) == "released"
    assert asyncio.get_running_loop().time() - began_s >= TAKEOVER_MS / 1000


async def test_a_standby_creates_no_topic(bench: Bench) -> None:
    watching = asyncio.create_task(bench.watch(role=Role("standby")))
    await asyncio.sleep(2 * TAKEOVER_MS / 1000)
    assert bench.topic not in await partitions_of_topics(bench.options)
    await bench.beat("released")
    assert await watching == "released"
