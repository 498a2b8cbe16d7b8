"""The service: it builds everything, runs it in one task group, and drains it at the end.

On SIGTERM or SIGINT the bridge becomes unready, closes its connections, fetches what holds events
back, and drains the sinks until a deadline. A second signal stops the draining. Records that are
left then are counted, and the exit code reports them.
"""

import asyncio
import os
import platform
import signal
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from bridge.app.ingestion import Ingestion, Sinks, message_types, start_ingestion
from bridge.app.reload import Reloader, Source
from bridge.app.subscriber import Subscriber, find_subscriber
from bridge.binance.rest import Rest
from bridge.core.binance.subscription import Change, is_pattern
from bridge.core.model.stream import SPOT
from bridge.core.records.record import topic_name
from bridge.errors import Fenced, Problem, SettingsError, UndeliveredRecords, first_of_ours
from bridge.monitoring.dashboard import Dashboard
from bridge.monitoring.loop_lag import lag_observed
from bridge.monitoring.server import serve
from bridge.monitoring.status import Status, version
from bridge.pipeline.sink import Sink
from bridge.settings import Settings
from bridge.settings.environment import REVISION_VARIABLE
from bridge.settings.room import room_bytes
from bridge.sinks.kafka.owner_watch import OwnerWatch
from bridge.sinks.kafka.sink import KafkaSink
from bridge.sinks.outbox.chunk_store import ChunkStore
from bridge.sinks.redis.sink import Heartbeat, RedisSink

# The part of `shutdown_timeout_s` that holes may still hold events back.
REPAIR_SHARE = 0.5
# The exchange may need this long to answer after the start, before the log warns.
EXCHANGE_TIMEOUT_S = 10.0

log = structlog.get_logger(__name__)


class Service:
    """One bridge. `source` reports when the settings have changed.

    With `was_fenced` another bridge has just taken over from this process.
    """

    def __init__(
        self, settings: Settings, source: Source | None = None, *, was_fenced: bool = False
    ) -> None:
        _log_start(settings)
        self._settings = settings
        self._source = source
        types = message_types(settings)
        topics = [topic_name(settings.kafka.topic, SPOT, message_type) for message_type in types]
        store = _open_store(settings)
        # Records on disk may belong to streams, or to a topic template, of earlier settings.
        topics += sorted({row.topic for row in store.found}.difference(topics)) if store else []
        # Where the streams on disk end. The sink forgets it as soon as Kafka knows more.
        self._on_disk = store.positions() if store else {}
        kafka = KafkaSink(settings.kafka, topics, SPOT, store, settings.cluster)
        heartbeat = Heartbeat(kafka.owner, settings.status.interval_s)
        self.sinks = Sinks(kafka, RedisSink(settings.redis, SPOT, heartbeat, types))
        self.status = Status(types, self.sinks)
        self._dashboard = Dashboard(self.status) if settings.http.dashboard else None
        self._stop = asyncio.Event()
        self._force_stop = asyncio.Event()
        # Set when the streams are known, and when this bridge may publish.
        self._connected = asyncio.Event()
        self._may_publish = asyncio.Event()
        self._was_fenced = was_fenced
        self._subscriber: Subscriber | None = None
        self._feeding: asyncio.Task[None] | None = None
        self._ingestion: Ingestion | None = None

    @property
    def is_stopping(self) -> bool:
        """Return whether it was told to stop."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Start to drain. Called again, stop draining."""
        if self._stop.is_set():
            self._force_stop.set()
        self._stop.set()

    async def run(self, on_started: Callable[[int], None] = lambda _port: None) -> None:
        """Run until `stop`, or a signal. `on_started` gets the HTTP port.

        Raises SettingsError, FeedRefused or SinkRefused if the settings are wrong, and
        UndeliveredRecords if records are left at the end.
        """
        _handle_signals(self.stop)
        try:
            with lag_observed(self.status.lag):
                await self._run(on_started)
        except BaseExceptionGroup as errors:
            raise first_of_ours(errors) or errors from errors
        finally:
            if self.sinks.kafka.spiller:
                await asyncio.to_thread(self.sinks.kafka.close)
        self._check_undelivered()

    async def _run(self, on_started: Callable[[int], None]) -> None:
        async with (
            serve(self._settings.http, self.status, self._dashboard) as port,
            asyncio.TaskGroup() as group,
        ):
            on_started(port)
            draining = [
                group.create_task(self._run_sink(sink), name=sink.name) for sink in self.sinks
            ]
            if spiller := self.sinks.kafka.spiller:
                draining.append(group.create_task(spiller.run(), name="spill"))
            draining.append(group.create_task(self.status.recent.run(), name="rates"))
            if dashboard := self._dashboard:
                draining.append(group.create_task(dashboard.run(), name="dashboard"))
            ingesting = [
                group.create_task(self._run_feed(), name="feed"),
                group.create_task(self._warn_if_unreachable(), name="exchange check"),
            ]
            if self._source is not None:
                reloader = Reloader(
                    self._settings, self._source, self._set_streams, self.status.reloads
                )
                ingesting.append(group.create_task(reloader.run(), name="settings"))
            await self._stop.wait()
            await self._drain(ingesting, draining)

    async def _run_sink(self, sink: Sink) -> None:
        """Run a sink as soon as this bridge may publish."""
        await self._may_publish.wait()
        await sink.run()

    async def _run_feed(self) -> None:
        """Receive the streams, become the owner of the topics, and publish."""
        settings, status = self._settings, self.status
        async with (
            Rest(settings.binance, settings.repair.weight_share) as rest,
            asyncio.TaskGroup() as group,
        ):
            if not settings.cluster.standby and settings.cluster.if_owned == "take_over":
                self._may_publish.set()
            self._subscriber = subscriber = await find_subscriber(settings, rest)
            status.feed, status.rest = subscriber.feed, rest
            status.counts = subscriber.buffer.counts
            status.subscription = lambda: subscriber.subscription
            self._feeding = group.create_task(subscriber.run(), name="streams")
            self._connected.set()
            if not self._may_publish.is_set():
                await self._become_owner(subscriber)
            ingestion = await start_ingestion(subscriber, rest, self.sinks, self._on_disk)
            self._ingestion = ingestion
            status.sequencers, status.message_types = ingestion.sequencers, ingestion.message_types
            status.repairer, status.symbols = ingestion.repairer, ingestion.statuses.latest
            if self._dashboard:
                self._dashboard.watch(ingestion.pipeline, self.sinks.kafka)
            await ingestion.run()

    async def _become_owner(self, subscriber: Subscriber) -> None:
        """Wait until this bridge may publish. Raises Fenced if another one publishes, and the
        settings do not allow to replace it or to wait for it.
        """
        settings, kafka, feed = self._settings, self.sinks.kafka, subscriber.feed
        watch = OwnerWatch(
            settings.kafka,
            settings.cluster,
            can_replace=lambda: bool(feed.connectors) and not feed.is_cut,
            is_patient=self._was_fenced,
            has_records=bool(kafka.records_on_disk),
        )
        self.status.owner_watch = watch
        try:
            reason = await watch.until_free()
        except Fenced:
            kafka.note_fenced()
            raise
        self.status.owner_watch = None
        log.info("taking_over", reason=reason, owner=str(watch.owner) if watch.owner else None)
        template = settings.kafka.topic
        types = message_types(subscriber.settings)
        await kafka.add_topics([topic_name(template, SPOT, each) for each in types])
        kafka.is_cut = lambda: feed.is_cut
        self._may_publish.set()

    async def _warn_if_unreachable(self) -> None:
        """Log once if the exchange has not answered since the start."""
        await asyncio.sleep(EXCHANGE_TIMEOUT_S)
        await self._connected.wait()
        if self._subscriber and not self._subscriber.has_reached_exchange:
            log.warning(
                "exchange_unreachable",
                url=self._settings.binance.websocket_url,
                waited_s=EXCHANGE_TIMEOUT_S,
                remedy="check the network and binance.proxy; to try the bridge without internet, "
                "run `docker compose --profile simulator up` or `tickbridge demo`",
            )

    async def _set_streams(self, settings: Settings) -> Change:
        """Put changed streams into effect, as soon as the feed has started."""
        await self._connected.wait()
        assert self._subscriber is not None  # noqa: S101 - it is connected
        return await self._subscriber.set_streams(settings)

    async def _drain(
        self, ingesting: list[asyncio.Task[None]], draining: list[asyncio.Task[None]]
    ) -> None:
        """Stop the ingestion, drain the sinks, and stop their tasks."""
        log.info("draining", pending=self._pending())
        self.status.draining = True
        deadline_s = asyncio.get_running_loop().time() + self._settings.shutdown_timeout_s
        forced = asyncio.ensure_future(self._force_stop.wait())
        await self._stop_ingestion(ingesting, forced)
        drained = asyncio.gather(self._release_topics(), self.sinks.redis.drained())
        await asyncio.wait(
            (drained, forced),
            timeout=max(0.0, deadline_s - asyncio.get_running_loop().time()),
            return_when=asyncio.FIRST_COMPLETED,
        )
        waiting: tuple[asyncio.Future[Any], ...] = (drained, forced, *draining)
        for future in waiting:
            await _cancel(future)

    async def _stop_ingestion(
        self, ingesting: list[asyncio.Task[None]], forced: "asyncio.Future[Any]"
    ) -> None:
        """Close the connections, and let the sinks have all events that have arrived."""
        feed, *others = ingesting
        for task in others:
            await _cancel(task)
        closing = asyncio.ensure_future(self._close_feed())
        await asyncio.wait((closing, forced), return_when=asyncio.FIRST_COMPLETED)
        await _cancel(closing)
        await _cancel(feed)
        if self._ingestion:
            if not self._settings.cluster.standby:
                self._ingestion.give_up_holes()
            self._ingestion.statuses.end()

    async def _close_feed(self) -> None:
        """Close the connections, and wait for the holes that hold events back. If bridges stand by,
        the next owner fills them, and publishes the events after them.
        """
        if self._feeding:
            self._feeding.cancel()
            await asyncio.wait((self._feeding,))
        if self._ingestion:
            share = 0.0 if self._settings.cluster.standby else REPAIR_SHARE
            await self._ingestion.end_repair(share * self._settings.shutdown_timeout_s)

    async def _release_topics(self) -> None:
        """Deliver everything to Kafka, and let the next owner begin."""
        if self._may_publish.is_set():
            await self.sinks.kafka.drained()
            await self.sinks.kafka.release()

    def _pending(self) -> dict[str, int]:
        return {sink.name: sink.pending().total() for sink in self.sinks}

    def _check_undelivered(self) -> None:
        pending = self._pending()
        kafka = self.sinks.kafka
        if on_disk := kafka.records_on_disk:
            pending[kafka.name] = max(0, pending[kafka.name] - on_disk)
            log.info("records_kept", count=on_disk, data_dir=str(self._settings.data_dir))
        if any(pending.values()):
            log.error("records_undelivered", **pending)
            raise UndeliveredRecords(sum(pending.values()))
        log.info("stopped")


async def run_bridge(settings: Settings, source: Source) -> None:
    """Run a bridge until a signal stops it. If another one takes over, stand by for that one if the
    settings say so.

    Raises what `Service.run` raises.
    """
    was_fenced = False
    while True:
        service = Service(settings, source, was_fenced=was_fenced)
        try:
            return await service.run()
        except Fenced as error:
            if not settings.cluster.standby or service.is_stopping:
                raise
            log.warning("taken_over", error=str(error))
            was_fenced = True
            settings = await source.read()


def _log_start(settings: Settings) -> None:
    """Log which build starts with which settings: the first line of each log."""
    binance, kafka = settings.binance, settings.kafka
    patterns = [symbol for symbol in binance.symbols if is_pattern(symbol)]
    log.info(
        "starting",
        version=version("tickbridge"),
        revision=os.environ.get(REVISION_VARIABLE, "unknown"),
        python=platform.python_version(),
        symbols=len(binance.symbols) - len(patterns),
        patterns=patterns,
        streams=binance.streams,
        extra_streams=len(binance.extra_streams),
        redundancy=binance.redundancy,
        kafka=kafka.bootstrap_servers,
        topic=kafka.topic,
        redis=settings.redis.url.without_user(),
        data_dir=str(settings.data_dir) if settings.data_dir else None,
    )


def _open_store(settings: Settings) -> ChunkStore | None:
    """Open the store for records on disk; None without `data_dir`."""
    folder = settings.data_dir
    if folder is None:
        return None
    try:
        folder.mkdir(exist_ok=True)
        _check_room(folder, settings.spill_max_bytes)
        return ChunkStore(folder, settings.spill_max_bytes)
    except BlockingIOError:
        what, remedy = "is in use by another bridge", "give each bridge a folder of its own"
    except (OSError, sqlite3.Error) as error:
        what, remedy = f"cannot be used ({error})", "name a folder this user may write to"
    raise SettingsError([Problem("data_dir", str(folder), what, remedy)])


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


def _handle_signals(stop: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)


async def _cancel(task: "asyncio.Future[Any]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
