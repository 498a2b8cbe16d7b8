"""The service: builds everything, runs it in one task group, and drains it at the end.

SIGTERM or SIGINT: readiness goes off, the connectors close, the sinks drain until a deadline. A
second signal ends the waiting. Whatever is then left is counted, and the exit code says so.
"""

import asyncio
import signal
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog

from bridge.app.ingestion import Ingestion, message_types
from bridge.app.reload import Reloader, Source
from bridge.core.model.stream import SPOT
from bridge.core.records.record import topic_name
from bridge.core.sequencing.position import MESSAGE_TYPE as POSITION
from bridge.errors import Problem, SettingsError, TickbridgeError, UndeliveredRecords
from bridge.monitoring.loop_lag import lag_observed
from bridge.monitoring.server import serve
from bridge.monitoring.status import Status
from bridge.pipeline.sink import Sink
from bridge.settings import Settings
from bridge.sinks.kafka.sink import KafkaSink
from bridge.sinks.outbox.chunk_store import ChunkStore
from bridge.sinks.redis.sink import RedisSink

log = structlog.get_logger(__name__)


class Service:
    """One bridge. `source` says when the settings have changed."""

    def __init__(self, settings: Settings, source: Source | None = None) -> None:
        self._settings = settings
        self._source = source
        types = message_types(settings)
        topics = [topic_name(settings.kafka.topic, SPOT, message_type) for message_type in types]
        position_topic = topic_name(settings.kafka.topic, SPOT, POSITION)
        spill = _open_spill(settings)
        # What waits on disk may be of streams, or of a template, that the settings had then.
        topics += sorted({row.topic for row in spill.found}.difference(topics)) if spill else []
        self._kafka = KafkaSink(settings.kafka, topics, position_topic, SPOT, spill)
        # Where the streams on disk end: the sink forgets it as soon as Kafka tells more.
        self._kept = spill.positions() if spill else {}
        self.sinks: tuple[Sink, ...] = (self._kafka, RedisSink(settings.redis, SPOT))
        self.status = Status(types, self.sinks)
        self._stop = asyncio.Event()
        self._force_stop = asyncio.Event()

    def stop(self) -> None:
        """Begin to drain; called again, stop draining."""
        (self._force_stop if self._stop.is_set() else self._stop).set()

    async def run(self, on_started: Callable[[int], None] = lambda _port: None) -> None:
        """Run until `stop`, or a signal. `on_started` gets the HTTP port.

        Raises SettingsError, FeedRefused or SinkRefused where the settings are wrong, and
        UndeliveredRecords when records are left at the end.
        """
        _handle_signals(self.stop)
        try:
            with lag_observed(self.status.lag):
                await self._run(on_started)
        except BaseExceptionGroup as errors:
            raise _first_of(errors) from errors
        finally:
            if self._kafka.spiller:
                await asyncio.to_thread(self._kafka.close)
        self._check_undelivered()

    async def _run(self, on_started: Callable[[int], None]) -> None:
        async with (
            serve(self._settings.http, self.status) as port,
            asyncio.TaskGroup() as group,
        ):
            on_started(port)
            draining = [group.create_task(sink.run(), name=sink.name) for sink in self.sinks]
            if self._kafka.spiller:
                draining.append(group.create_task(self._kafka.spiller.run(), name="spill"))
            feed = group.create_task(self._feed(), name="feed")
            await self._stop.wait()
            await self._end(feed, draining)

    async def _feed(self) -> None:
        """Keep the streams coming that the settings name, and those they name later."""
        ingestion = Ingestion(self._settings, self._kafka, self.sinks, self._kept, self.status)
        async with asyncio.TaskGroup() as group:
            group.create_task(ingestion.run(), name="ingestion")
            if self._source is not None:
                reloads = self.status.reloads
                reloader = Reloader(self._settings, self._source, ingestion.set_streams, reloads)
                group.create_task(reloader.run(), name="settings")

    async def _end(self, feed: asyncio.Task[None], draining: list[asyncio.Task[None]]) -> None:
        """Close the connectors, empty the sinks, stop their tasks."""
        log.info("draining", pending=self._pending())
        self.status.draining = True
        await _cancel(feed)
        drained = asyncio.gather(*(sink.drained() for sink in self.sinks))
        hurried = asyncio.ensure_future(self._force_stop.wait())
        await asyncio.wait(
            (drained, hurried),
            timeout=self._settings.shutdown_timeout_s,
            return_when=asyncio.FIRST_COMPLETED,
        )
        waiting: tuple[asyncio.Future[Any], ...] = (drained, hurried, *draining)
        for future in waiting:
            await _cancel(future)

    def _pending(self) -> dict[str, int]:
        return {sink.name: sink.pending().total() for sink in self.sinks}

    def _check_undelivered(self) -> None:
        pending = self._pending()
        if kept := self._kafka.on_disk:
            pending[self._kafka.name] = max(0, pending[self._kafka.name] - kept)
            log.info("records_kept", count=kept, data_dir=str(self._settings.data_dir))
        if any(pending.values()):
            log.error("records_undelivered", **pending)
            raise UndeliveredRecords(sum(pending.values()))
        log.info("stopped")


def _open_spill(settings: Settings) -> ChunkStore | None:
    """Open the store for records on disk; None without `data_dir`."""
    folder = settings.data_dir
    if folder is None:
        return None
    try:
        return ChunkStore(folder, settings.spill_max_bytes)
    except BlockingIOError:
        what, remedy = "is in use by another bridge", "give each bridge a folder of its own"
    except (OSError, sqlite3.Error) as error:
        what, remedy = f"cannot be used ({error})", "name a folder this user may write to"
    raise SettingsError([Problem("data_dir", str(folder), what, remedy)])


def _handle_signals(stop: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)


async def _cancel(task: "asyncio.Future[Any]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _first_of(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error of ours that says why everything ended, or else the group itself."""
    ours, _ = errors.split(TickbridgeError)
    while ours is not None:
        first = ours.exceptions[0]
        if not isinstance(first, BaseExceptionGroup):
            return first
        ours = first
    return errors
