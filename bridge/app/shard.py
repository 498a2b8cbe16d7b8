"""One shard of the bridge: it receives its streams, becomes the owner of its topics, and publishes.

A shard ends when the bridge stops, or when another bridge has become the owner. After that it does
not begin again: the service makes a new one.
"""

import asyncio
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from bridge.app.ingestion import (
    Ingestion,
    OnDisk,
    Sinks,
    message_types,
    start_ingestion,
    topics_of,
)
from bridge.app.subscriber import ShardFeed, Subscriber
from bridge.binance.rest import Rest
from bridge.core.model.shard import WHOLE, ShardId, parse_shard
from bridge.core.model.stream import SPOT
from bridge.errors import Fenced, Problem, SettingsError, first_of_ours
from bridge.monitoring.dashboard import Dashboard
from bridge.monitoring.shards import ShardStatus
from bridge.monitoring.status import Status
from bridge.pipeline.sink import Sink
from bridge.settings import Settings
from bridge.settings.room import room_bytes
from bridge.sinks.kafka.owner import Role
from bridge.sinks.kafka.owner_watch import OwnerWatch
from bridge.sinks.kafka.sink import KafkaSink
from bridge.sinks.kafka.standby import Standby, StandbyBeat
from bridge.sinks.outbox.chunk_store import FILE, ChunkStore
from bridge.sinks.redis.sink import Heartbeat, RedisSink
from bridge.telemetry import now_us

# The part of `shutdown_timeout_s` that holes may still hold events back.
REPAIR_SHARE = 0.5
# The shards of a bridge share its buffers, but each has at least so much.
MIN_OUTBOX_BYTES, MIN_SPILL_BYTES = 2**20, 64 * 2**20
# For a look at records that wait on disk.
MAX_SPILL_BYTES = 2**44

log = structlog.get_logger(__name__)


class Stop:
    """Tells the shards to drain, and then not to wait any more."""

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self.forced = asyncio.Event()

    def request(self) -> None:
        """Start to drain. Called again, stop draining."""
        if self.requested.is_set():
            self.forced.set()
        self.requested.set()


class Shard:
    """A shard of a process, with what the group wants of this bridge for it. With `was_fenced`
    another bridge has just taken it over from here.
    """

    def __init__(  # noqa: PLR0913 (what it needs to know)
        self,
        shard: ShardId,
        settings: Settings,
        status: Status,
        dashboard: Dashboard | None = None,
        *,
        role: Role | None = None,
        was_fenced: bool = False,
    ) -> None:
        self._id = shard
        self._role = role or Role()
        self._settings = settings = _share(settings, shard)
        types, topics = message_types(settings), topics_of(settings)
        store = _open_store(settings, shard)
        # Records on disk may belong to streams, or to a topic template, of earlier settings.
        topics += sorted({row.topic for row in store.found}.difference(topics)) if store else []
        self._on_disk = OnDisk(store.positions(), store.ends()) if store else OnDisk()
        kafka = KafkaSink(
            settings.kafka,
            topics,
            SPOT,
            store,
            settings.cluster,
            shard=shard,
            role=self._role,
            counts=status.kafka.counts,
        )
        heartbeat = Heartbeat(kafka.owner, settings.status.interval_s)
        redis = RedisSink(settings.redis, SPOT, heartbeat, types, counts=status.redis.counts)
        self.sinks = Sinks(kafka, redis)
        self.status = ShardStatus(shard, self._role, self.sinks)
        self._bridge_status = status
        self._dashboard = dashboard
        self._was_fenced = was_fenced
        self._feed: ShardFeed | None = None
        self._ingestion: Ingestion | None = None

    @property
    def may_publish(self) -> bool:
        """Return whether this bridge may publish the shard: it does not stand by."""
        return self.status.is_owner

    async def run(self, subscriber: Subscriber, rest: Rest, stop: Stop) -> None:
        """Run until it is told to stop, and drained.

        Raises Fenced if another bridge has become the owner, SettingsError or SinkRefused if the
        settings are wrong. A shard that stands by may be cancelled.
        """
        try:
            await self._run(subscriber, rest, stop)
        except (Fenced, asyncio.CancelledError):
            self.status.leave_records()
            raise
        finally:
            if self.sinks.kafka.spiller:
                await asyncio.to_thread(self.sinks.kafka.close)

    async def _run(self, subscriber: Subscriber, rest: Rest, stop: Stop) -> None:
        """Run until everything is drained, or something fails. Leave the feed then."""
        try:
            async with asyncio.TaskGroup() as group:
                draining = [
                    group.create_task(self._run_sink(sink), name=sink.name) for sink in self.sinks
                ]
                if spiller := self.sinks.kafka.spiller:
                    draining.append(group.create_task(spiller.run(), name="spill"))
                ingesting = group.create_task(self._ingest(subscriber, rest), name="ingestion")
                await stop.requested.wait()
                await self._drain(subscriber, stop, ingesting, draining)
        except BaseExceptionGroup as errors:
            raise first_of_ours(errors) or errors from errors
        finally:
            await self._leave(subscriber)

    async def _run_sink(self, sink: Sink) -> None:
        """Run a sink as soon as this bridge may publish."""
        await self.status.publishes.wait()
        await sink.run()

    async def _ingest(self, subscriber: Subscriber, rest: Rest) -> None:
        """Receive the streams, become the owner of the topics, and publish."""
        cluster = self._settings.cluster
        if not cluster.has_group and cluster.if_owned == "take_over":
            self.status.publishes.set()
        self._feed = feed = await subscriber.join(self._id)
        async with asyncio.TaskGroup() as group:
            whole_since = None
            if not self.status.is_owner:
                whole_since = await self._become_owner(feed, group)
            await self._publish(feed, rest, whole_since)

    async def _publish(self, feed: ShardFeed, rest: Rest, whole_since: int | None) -> None:
        """Continue where the last owner stopped, until cancelled. No event was missed since
        `whole_since`.
        """
        status = self.status
        ingestion = await start_ingestion(feed, rest, self.sinks, self._on_disk, whole_since)
        self._ingestion = ingestion
        status.sequencers, status.repairer = ingestion.sequencers, ingestion.repairer
        status.symbols = ingestion.statuses.latest
        self._bridge_status.message_types = ingestion.message_types
        if self._dashboard:
            self._dashboard.watch(ingestion.pipeline, self.sinks.kafka)
        await ingestion.run()

    async def _become_owner(self, feed: ShardFeed, group: asyncio.TaskGroup) -> int | None:
        """Wait until this bridge may publish. Return since when it and those before it have missed
        no event, in microseconds; None if some may be missing.

        Raises Fenced if another bridge publishes, and the settings do not allow to replace it or to
        wait for it.
        """
        settings, kafka = self._settings, self.sinks.kafka
        watch = OwnerWatch(
            settings.kafka,
            settings.cluster,
            shard=self._id,
            role=self._role,
            reception=feed,
            is_patient=self._was_fenced,
            has_records=bool(kafka.records_on_disk),
        )
        self.status.owner_watch = watch
        beat = StandbyBeat(settings.kafka, watch.topic, watch.transactional_id, self._as_standby)
        beating = group.create_task(beat.run(), name="standby")
        try:
            reason = await watch.until_free()
        except Fenced:
            kafka.note_fenced()
            raise
        finally:
            beating.cancel()
        self.status.owner_watch = None
        self._bridge_status.takeovers[reason] += 1
        if (whole_since := watch.missed_nothing_since()) is not None:
            feed.buffer.whole_since = whole_since
        log.info("taking_over", reason=reason, owner=str(watch.owner) if watch.owner else None)
        kafka.become_owner(watch.owner, feed)
        self.status.publishes.set()
        return whole_since

    def _as_standby(self) -> Standby | None:
        """Return what to say about this bridge while it stands by."""
        feed, watch = self._feed, self.status.owner_watch
        if feed is None or watch is None or not (watch.standing_since and watch.is_reading):
            return None
        lag_s = (now_us() - feed.buffer.received) / 1e6
        name = self.sinks.kafka.owner
        return Standby(name, watch.standing_since, is_cut=feed.is_cut, lag_s=lag_s)

    async def _drain(
        self,
        subscriber: Subscriber,
        stop: Stop,
        ingesting: asyncio.Task[None],
        draining: list[asyncio.Task[None]],
    ) -> None:
        """Stop the ingestion, drain the sinks, and stop their tasks."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._settings.shutdown_timeout_s
        forced = asyncio.ensure_future(stop.forced.wait())
        closing = asyncio.ensure_future(self._close_feed(subscriber))
        await asyncio.wait((closing, forced), return_when=asyncio.FIRST_COMPLETED)
        await cancel(closing)
        await cancel(ingesting)
        if self._ingestion:
            if not self._settings.cluster.standby:
                self._ingestion.give_up_holes()
            self._ingestion.statuses.end()
        drained = asyncio.gather(self._release_topics(), self.sinks.redis.drained())
        await asyncio.wait(
            (drained, forced),
            timeout=max(0.0, deadline_s - loop.time()),
            return_when=asyncio.FIRST_COMPLETED,
        )
        waiting: tuple[asyncio.Future[Any], ...] = (drained, forced, *draining)
        for future in waiting:
            await cancel(future)

    async def _close_feed(self, subscriber: Subscriber) -> None:
        """Close the connections, and wait for the holes that hold events back. If bridges stand by,
        the next owner fills them, and publishes the events after them.
        """
        await self._leave(subscriber)
        if self._ingestion:
            share = 0.0 if self._settings.cluster.standby else REPAIR_SHARE
            await self._ingestion.end_repair(share * self._settings.shutdown_timeout_s)

    async def _leave(self, subscriber: Subscriber) -> None:
        """Close the connections, if there are any."""
        feed, self._feed = self._feed, None
        if feed:
            await subscriber.leave(feed)

    async def _release_topics(self) -> None:
        """Deliver everything to Kafka, and let the next owner begin."""
        if self.status.is_owner:
            await self.sinks.kafka.drained()
            await self.sinks.kafka.release()


def _share(settings: Settings, shard: ShardId) -> Settings:
    """Return the settings of one shard: the shards share the bounds of the buffers."""
    if shard == WHOLE:
        return settings
    kafka, redis = settings.kafka, settings.redis
    outbox_max_bytes = max(MIN_OUTBOX_BYTES, kafka.outbox_max_bytes // shard.count)
    publish_max_records = max(1, redis.publish_max_records // shard.count)
    return settings.model_copy(
        update={
            "kafka": kafka.model_copy(update={"outbox_max_bytes": outbox_max_bytes}),
            "redis": redis.model_copy(update={"publish_max_records": publish_max_records}),
            "spill_max_bytes": max(MIN_SPILL_BYTES, settings.spill_max_bytes // shard.count),
        }
    )


def _open_store(settings: Settings, shard: ShardId) -> ChunkStore | None:
    """Open the store for records on disk; None without `data_dir`."""
    if settings.data_dir is None:
        return None
    folder = _folder(settings.data_dir, shard)
    try:
        folder.mkdir(exist_ok=True, parents=True)
        _check_room(folder, settings.spill_max_bytes)
        _check_other_counts(settings.data_dir, shard)
        return ChunkStore(folder, settings.spill_max_bytes)
    except BlockingIOError:
        what, remedy = "is in use by another bridge", "give each bridge a folder of its own"
    except (OSError, sqlite3.Error) as error:
        what, remedy = f"cannot be used ({error})", "name a folder this user may write to"
    raise SettingsError([Problem("data_dir", str(folder), what, remedy)])


def _folder(data_dir: Path, shard: ShardId) -> Path:
    return data_dir if shard == WHOLE else data_dir / f"shard-{shard}"


def _check_other_counts(data_dir: Path, shard: ShardId) -> None:
    """Raise SettingsError if records wait on disk for shards of another number."""
    names = [path.name.removeprefix("shard-") for path in data_dir.glob("shard-*-of-*")]
    for other in (WHOLE, *filter(None, map(parse_shard, names))):
        folder = _folder(data_dir, other)
        if other.count == shard.count or not (folder / FILE).exists():
            continue
        store = ChunkStore(folder, MAX_SPILL_BYTES)
        try:
            records = sum(row.count for row in store.found)
        finally:
            store.close()
        if records:
            what = f"{records} records wait in {folder} for shards of another number"
            remedy = f"start once with cluster.shards: {other.count}, until they are delivered"
            raise SettingsError([Problem("cluster.shards", str(shard.count), what, remedy)])


def _check_room(folder: Path, max_bytes: int) -> None:
    """Warn if the disk is too full for the records that may come. It may have room by then."""
    if (room := room_bytes(folder)) < max_bytes:
        log.warning(
            "spill_room_short",
            data_dir=str(folder),
            room_bytes=room,
            spill_max_bytes=max_bytes,
            remedy="free some space, or set spill_max_bytes lower",
        )


async def cancel(task: "asyncio.Future[Any]") -> None:
    """Cancel a task, and wait until it has ended."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
