"""The service in this process, between a simulated exchange and shared brokers."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path
from types import NoneType
from typing import Any, NoReturn
from unittest import mock

import pytest

from bridge.app import ingestion
from bridge.app import service as service_module
from bridge.app.ingestion import message_types
from bridge.app.service import Service
from bridge.binance import frame_buffer
from bridge.binance.connector import State
from bridge.binance.rest import Rest
from bridge.core.model.shard import ShardId
from bridge.core.policy.roles import Roles
from bridge.errors import FeedRefused, FeedUnavailable, SettingsError, UndeliveredRecords
from bridge.monitoring.status import Status
from bridge.settings import Cluster, Settings, load_settings
from bridge.sinks.kafka import sink as kafka_sink
from bridge.sinks.kafka.fence import Fence
from bridge.sinks.kafka.owner import this_bridge
from bridge.sinks.kafka.producer import StateTopics
from bridge.sinks.kafka.producer_state import ProducerState
from bridge.sinks.kafka.recover_positions import read_start
from bridge.tools.embedded import LOOPBACK, free_port
from bridge.tools.simulator import FaultPlan, Market, SimulatedExchange, Skip
from tests.support.brokers import Choice, Kafka, RedisAddress, read_topic
from tests.support.exchange import Answer, FakeRest
from tests.support.journal import Journal, journal_kept

pytestmark = pytest.mark.timeout(60)

BEGIN_MS = 1_790_000_000_000


def settings_for(
    kafka: str, redis_url: str, topic: str, websocket_url: str = "ws://127.0.0.1:9", **others: Any
) -> Settings:
    overrides: dict[str, Any] = {
        "binance": {
            "symbols": ["BTCUSDT"],
            "streams": ["trade"],
            "websocket_url": websocket_url,
            "rest_url": others.pop("rest_url", websocket_url.replace("ws://", "http://")),
            "proxy": "none",
        },
        "kafka": {"bootstrap_servers": kafka, "topic": f"{topic}.{{message_type}}"},
        "redis": {"url": redis_url},
        "http": {"port": 0},
    }
    return load_settings(environment={}, overrides=overrides | others)


@asynccontextmanager
async def exchange(faults: FaultPlan | None = None) -> AsyncIterator[SimulatedExchange]:
    market = Market(("BTCUSDT",), seed=7, begin_ms=BEGIN_MS, trades_per_second=200)
    async with SimulatedExchange(market, speed=20, faults=faults) as exchange:
        yield exchange


async def received_some(service: Service, journal: Journal, count: int = 50) -> None:
    """Wait until the feed has received `count` trades, and the sinks have got them."""
    await journal.until("connection_open")
    status = service.status
    while not _publishes(status) or status.counts.received["trade"] < count:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def _publishes(status: Status) -> bool:
    return any(shard.sequencers for shard in status.shards)


@asynccontextmanager
async def without_kafka(
    redis: RedisAddress, unique: str, journal: Journal, **options: Any
) -> AsyncIterator[tuple[Service, asyncio.Task[None]]]:
    """Yield a service that has received trades and cannot reach Kafka, and its task."""
    async with exchange() as market:
        nowhere = f"{LOOPBACK}:{free_port()}"
        service = Service(settings_for(nowhere, redis.url, unique, market.websocket_url, **options))
        running = asyncio.create_task(service.run())
        await received_some(service, journal)
        yield service, running


async def test_it_publishes_from_the_start_and_drains_when_stopped(
    kafka: Kafka, redis: RedisAddress, unique: str
) -> None:
    with journal_kept() as journal:
        async with exchange() as market:
            service = Service(
                settings_for(kafka.bootstrap_servers, redis.url, unique, market.websocket_url)
            )
            running = asyncio.create_task(service.run())
            await journal.until("kafka_connected")
            await journal.until("redis_connected")
            await received_some(service, journal)
            assert service.status.unready() == []
            assert service.status.connectors()[State.OPEN.value,] == 1
            service.stop()
            await running
        received = service.status.counts.received["trade"]
        assert service.status.draining
        for sink in service.status.sinks:
            assert sink.counts.published["trade"] == received
            assert sink.counts.dropped == {}
        assert journal.named("stopped")
    records = await read_topic(kafka.bootstrap_servers, f"{unique}.trade", received)
    ids = [json.loads(record.value)["trade_id"] for record in records]
    assert ids == list(range(ids[0], ids[0] + received))


async def test_a_slow_redis_loses_no_message_of_what_arrived_before_the_start(
    kafka: Kafka, redis: RedisAddress, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backlog is decoded faster than Redis takes it, and larger than the queue."""
    monkeypatch.setattr(frame_buffer, "SLICE_BYTES", 2**10)

    async def read_late(*arguments: Any) -> Any:
        found = await read_start(*arguments)
        while service.status.counts.frames < 5000:  # noqa: ASYNC110 - a counter has no event
            await asyncio.sleep(0.01)
        return found

    monkeypatch.setattr(ingestion, "read_start", read_late)
    with journal_kept() as journal:
        async with exchange() as market:
            service = Service(
                settings_for(
                    kafka.bootstrap_servers,
                    redis.url,
                    unique,
                    market.websocket_url,
                    redis={"url": redis.url, "publish_max_records": 1000, "flush_max_records": 20},
                )
            )
            running = asyncio.create_task(service.run())
            await received_some(service, journal)
            service.stop()
            await running
    assert service.status.redis.counts.dropped == {}
    assert service.status.redis.counts.published["trade"] > 5000


@asynccontextmanager
async def holding_trades_back(
    kafka: Kafka, redis: RedisAddress, unique: str, journal: Journal, **options: Any
) -> AsyncIterator[tuple[Service, asyncio.Task[None]]]:
    """Yield a service that holds trades back, because one is missing and REST is away."""

    async def fetch(*_: Any) -> NoReturn:
        raise FeedUnavailable("REST is away")

    with mock.patch.object(Rest, "fetch", fetch):
        async with exchange(FaultPlan()) as market:
            servers = kafka.bootstrap_servers
            service = Service(
                settings_for(servers, redis.url, unique, market.websocket_url, **options)
            )
            running = asyncio.create_task(service.run())
            await journal.until("kafka_connected")
            await received_some(service, journal)
            market.inject(Skip())
            while service.status.sequencer_stats().held < 50:  # noqa: ASYNC110 - counters only
                await asyncio.sleep(0.01)
            yield service, running


async def test_trades_held_back_by_a_hole_are_delivered_at_the_end_and_the_hole_is_announced(
    kafka: Kafka, redis: RedisAddress, unique: str, journal: Journal
) -> None:
    holding = holding_trades_back(kafka, redis, unique, journal, shutdown_timeout_s=6)
    async with holding as (service, running):
        service.stop()
        await running
    (gap,) = (gap for gap in journal.named("gap") if gap["message_type"] == "trade")
    assert (gap["cause"], gap["state"]) == ("stopped", "open")
    received = service.status.counts.received["trade"]
    records = await read_topic(kafka.bootstrap_servers, f"{unique}.trade", received)
    ids = [json.loads(record.value)["trade_id"] for record in records]
    missing = range(gap["first_id"], gap["last_id"] + 1)
    assert ids == [i for i in range(ids[0], ids[-1] + 1) if i not in missing]
    assert service.status.sequencer_stats().held == 0


async def test_a_second_stop_does_not_wait_for_missing_trades_and_accounts_for_those_held_back(
    kafka: Kafka, redis: RedisAddress, unique: str, journal: Journal
) -> None:
    holding = holding_trades_back(kafka, redis, unique, journal, shutdown_timeout_s=3600)
    async with holding as (service, running):
        service.stop()
        await journal.until("draining")
        service.stop()
        async with asyncio.timeout(20):
            (ended,) = await asyncio.gather(running, return_exceptions=True)
    assert len(journal.named("gap")) == 1
    assert service.status.sequencer_stats().held == 0
    (sink,) = (sink for sink in service.status.sinks if sink.name == "kafka")
    received, pending = service.status.counts.received["trade"], sink.pending()
    assert sink.counts.published["trade"] + pending["trade"] == received
    assert isinstance(ended, UndeliveredRecords if pending.total() else NoneType)


async def test_records_no_sink_has_at_the_deadline_are_counted_in_the_error(
    redis: RedisAddress, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_sink, "FENCE_TIMEOUT_S", 0.2)
    with journal_kept() as journal:
        async with without_kafka(redis, unique, journal, shutdown_timeout_s=0.2) as (
            service,
            running,
        ):
            service.stop()
            with pytest.raises(UndeliveredRecords) as caught:
                await running
        received = service.status.counts.received["trade"]
        assert caught.value.count == received
        assert caught.value.exit_code == 3
        assert journal.named("positions_unavailable")
        (entry,) = journal.named("records_undelivered")
        assert (entry["kafka"], entry["redis"]) == (received, 0)


async def test_with_a_folder_they_are_kept_on_disk_and_it_is_a_good_end(
    kafka: Kafka,
    redis: RedisAddress,
    unique: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kafka_sink, "FENCE_TIMEOUT_S", 0.2)
    kept: dict[str, Any] = {"data_dir": str(tmp_path), "shutdown_timeout_s": 0.2}
    with journal_kept() as journal:
        async with without_kafka(redis, unique, journal, **kept) as (service, running):
            service.stop()
            await running
        received = service.status.counts.received["trade"]
        (entry,) = journal.named("records_kept")
        assert (entry["count"], entry["data_dir"]) == (received, str(tmp_path))
        assert not journal.named("records_undelivered")

        kept["shutdown_timeout_s"] = 30
        service = Service(settings_for(kafka.bootstrap_servers, redis.url, unique, **kept))
        running = asyncio.create_task(service.run())
        service.stop()
        await running
        counts = service.status.sinks[0].counts
        assert counts.restored == counts.published == {"trade": received}
    records = await read_topic(kafka.bootstrap_servers, f"{unique}.trade", received)
    ids = [json.loads(record.value)["trade_id"] for record in records]
    assert ids == list(range(ids[0], ids[0] + received))


async def test_a_second_stop_ends_the_draining(
    redis: RedisAddress, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_sink, "FENCE_TIMEOUT_S", 0.2)
    with journal_kept() as journal:
        async with without_kafka(redis, unique, journal, shutdown_timeout_s=3600) as (
            service,
            running,
        ):
            service.stop()
            await journal.until("draining")
            service.stop()
            async with asyncio.timeout(10):
                with pytest.raises(UndeliveredRecords):
                    await running


async def test_a_stop_before_anything_came_is_a_good_end(
    kafka: Kafka, redis: RedisAddress, unique: str
) -> None:
    service = Service(settings_for(kafka.bootstrap_servers, redis.url, unique))
    started: list[int] = []
    running = asyncio.create_task(service.run(started.append))
    service.stop()
    await running
    assert started[0] > 0


async def test_a_bridge_goes_on_with_its_other_shards_if_one_is_taken_over(
    brokers: Choice, kafka: Kafka, redis: RedisAddress, unique: str, journal: Journal
) -> None:
    if brokers.kind == "embedded":
        pytest.skip(f"needs a Kafka that fences; {brokers}")
    market = Market(("BTCUSDT", "ETHUSDT"), seed=7, begin_ms=BEGIN_MS, trades_per_second=200)
    async with SimulatedExchange(market) as exchange:
        url = exchange.websocket_url
        settings = settings_for(kafka.bootstrap_servers, redis.url, unique, url)
        binance = settings.binance.model_copy(update={"symbols": ["BTCUSDT", "ETHUSDT"]})
        cluster = settings.cluster.model_copy(
            update={"shards": 2, "group": unique, "takeover_ms": 60_000}
        )
        service = Service(settings.model_copy(update={"binance": binance, "cluster": cluster}))
        running = asyncio.create_task(service.run())
        await journal.until("positions_read", 2)
        await received_some(service, journal)
        names = StateTopics(f"{unique}.position", f"{unique}.status")
        us, shard = this_bridge(Cluster()), ShardId(0, 2)
        fence = Fence(settings.kafka, names, ProducerState(), us, shard=shard)
        await fence.raise_around([f"{unique}.trade", *names])
        await journal.until("taken_over")
        published = service.status.kafka.counts.published
        before = published["trade"]
        while published["trade"] < before + 100:  # noqa: ASYNC110 - a counter has no event
            await asyncio.sleep(0.01)
        service.stop()
        await running
    records = await read_topic(kafka.bootstrap_servers, f"{unique}.trade", published["trade"])
    symbols = [record.key for record in records]
    assert set(symbols[-100:]) == {b"ETHUSDT"}
    for sink in service.status.sinks:
        dropped = sum(sink.counts.dropped.values())
        assert set(sink.counts.dropped) <= {("trade", "taken_over")}
        received = service.status.counts.received["trade"]
        assert sink.counts.published["trade"] + dropped == received


async def test_a_symbol_nobody_lists_ends_it_with_an_error_of_the_settings(
    kafka: Kafka, redis: RedisAddress, unique: str
) -> None:
    async with FakeRest({"ETHUSDT": "TRADING"}).serving() as rest:
        service = Service(
            settings_for(kafka.bootstrap_servers, redis.url, unique, rest_url=rest.url)
        )
        with pytest.raises(SettingsError, match="BTCUSDT"):
            await service.run()


def test_the_first_line_of_the_log_names_the_build_and_the_settings(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TICKBRIDGE_REVISION", "0d68331")
    overrides: dict[str, Any] = {
        "binance": {
            "symbols": ["BTCUSDT", "ETHUSDT", "*EUR"],
            "streams": ["trade", "bookTicker"],
            "extra_streams": ["!miniTicker@arr"],
            "redundancy": 2,
        },
        "kafka": {"bootstrap_servers": "k1:9092,k2:9092", "topic": "md.{venue}.{message_type}"},
        "redis": {"url": "redis://reader:hush@cache:6379/3"},
        "data_dir": str(tmp_path),
    }
    Service(load_settings(environment={}, overrides=overrides))
    first = dict(journal.entries[0])
    assert first.pop("python").startswith("3.")
    assert first == {
        "event": "starting",
        "version": metadata.version("tickbridge"),
        "revision": "0d68331",
        "symbols": 2,
        "patterns": ["*EUR"],
        "streams": ["trade", "bookTicker"],
        "extra_streams": 1,
        "redundancy": 2,
        "kafka": ["k1:9092", "k2:9092"],
        "topic": "md.{venue}.{message_type}",
        "redis": "redis://cache:6379/3",
        "data_dir": str(tmp_path),
    }


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "EXCHANGE_TIMEOUT_S", 0.0)
    monkeypatch.setattr(kafka_sink, "FENCE_TIMEOUT_S", 0.1)


@pytest.mark.usefixtures("impatient")
async def test_without_an_exchange_the_log_names_a_way_to_try_it_without_internet(
    unique: str, journal: Journal
) -> None:
    nowhere = [f"{LOOPBACK}:{free_port()}" for _ in range(3)]
    settings = settings_for(nowhere[0], f"redis://{nowhere[1]}/0", unique, f"ws://{nowhere[2]}")
    service = Service(settings)
    running = asyncio.create_task(service.run())
    (entry,) = await journal.until("exchange_unreachable")
    assert nowhere[2] in entry["url"]
    assert "tickbridge demo" in entry["remedy"]
    service.stop()
    service.stop()
    await running


@pytest.mark.usefixtures("impatient")
async def test_an_exchange_that_answers_is_not_called_unreachable(
    redis: RedisAddress, unique: str, journal: Journal
) -> None:
    async with without_kafka(redis, unique, journal) as (service, running):
        service.stop()
        service.stop()
        with pytest.raises(UndeliveredRecords):
            await running
    assert journal.named("exchange_unreachable") == []


async def test_an_exchange_that_refuses_us_ends_it_with_a_remedy(
    kafka: Kafka, redis: RedisAddress, unique: str
) -> None:
    async with FakeRest(Answer(451)).serving() as rest:
        service = Service(
            settings_for(kafka.bootstrap_servers, redis.url, unique, rest_url=rest.url)
        )
        with pytest.raises(FeedRefused) as caught:
            await service.run()
    assert "data-stream.binance.vision" in caught.value.remedy


def test_there_is_a_topic_for_all_that_the_settings_may_bring() -> None:
    binance = {
        "symbols": ["BTCUSDT"],
        "streams": ["trade", "ticker", "ticker_1h", "depth20@100ms"],
        "extra_streams": ["!miniTicker@arr"],
    }
    settings = load_settings(environment={}, overrides={"binance": binance})
    assert message_types(settings) == ["trade", "ticker", "book", "mini_ticker", "gap", "invalid"]


async def test_a_bridge_of_a_group_leaves_the_others_their_part_of_the_connections() -> None:
    service = Service(settings_for("kafka:9092", "redis://redis", "unused", "ws://exchange"))
    member = mock.Mock(roles=Roles(bridges=6), generation=1, changed=asyncio.Event())
    shards, feed, shared = mock.AsyncMock(), mock.Mock(), asyncio.Event()
    feed.share_limits.side_effect = lambda _bridges: shared.set()
    following = asyncio.create_task(service._follow(member, shards, feed))
    member.changed.set()
    await shared.wait()
    feed.share_limits.assert_called_once_with(6)
    following.cancel()
    await asyncio.wait((following,))
