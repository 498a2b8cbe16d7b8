"""Publishes what the feed brings: continues where the previous process stopped, and fills holes."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import structlog

from bridge.app.subscriber import Positions, ShardFeed
from bridge.app.symbol_statuses import SymbolStatuses
from bridge.binance.rest import Rest
from bridge.brokers.kafka_client import has_symbol
from bridge.core.binance.stream_names import parse_stream, stream_of
from bridge.core.binance.subscription import Subscription
from bridge.core.delivery.open_gaps import OpenGaps
from bridge.core.model.stream import SPOT
from bridge.core.records.record import Router, topic_name
from bridge.core.sequencing.position import Position, StreamKey, where_to_continue
from bridge.core.sequencing.sequencers import NOWHERE, Continuity, Sequencers
from bridge.errors import FeedRefused, FeedUnavailable, SinkRefused, SinkUnavailable
from bridge.pipeline.gap_repair import Repairer
from bridge.pipeline.head_check import HeadCheck
from bridge.pipeline.pipeline import Pipeline
from bridge.retry import Backoff, forever
from bridge.settings import Settings
from bridge.sinks.kafka.recover_gaps import read_open_gaps
from bridge.sinks.kafka.recover_positions import read_start
from bridge.sinks.kafka.sink import KafkaSink
from bridge.sinks.redis.sink import RedisSink

# The bridge itself publishes these, whatever the streams are.
_OWN_MESSAGE_TYPES = ("gap", "invalid")

# A start waits at most this long for a slow Redis, so that it loses no message of the backlog.
REDIS_TIMEOUT_S = 5.0

# Some hosts lack their histories.
_HISTORIES = ("trade", "block_trade")

log = structlog.get_logger(__name__)


class Sinks(NamedTuple):
    """The sinks of a shard."""

    kafka: KafkaSink
    redis: RedisSink


class OnDisk(NamedTuple):
    """The positions of the last records on disk, and those of the streams that have ended there."""

    last: Positions = NOWHERE
    ends: Positions = NOWHERE

    def certain(self, in_topics: Positions | None) -> Positions:
        """Return the positions that are certain. If Kafka was not read, these are the ends."""
        return self.ends if in_topics is None else self.last


class Start(NamedTuple):
    """What a start has found: where the previous process stopped each stream (in the topics, if
    Kafka could be read, and on disk), and the gaps that it has left open. No event was missed since
    `whole_since`, in microseconds; None if some may be missing.
    """

    in_topics: Positions | None
    on_disk: OnDisk
    open_gaps: OpenGaps
    whole_since: int | None


class Ingestion:
    """The pipeline and the repair of one shard."""

    def __init__(self, feed: ShardFeed, rest: Rest, sinks: Sinks, start: Start) -> None:
        settings = feed.settings
        self.message_types = message_types(settings)
        self._feed = feed
        found = feed.subscription
        in_topics = start.in_topics or {}
        self.sequencers = Sequencers(
            found.streams,
            where_to_continue(in_topics.values(), start.on_disk.certain(start.in_topics).values()),
            Continuity(start.whole_since, feed.buffer.dropped),
        )
        self._settings = settings
        self._on_disk = start.on_disk
        self._open_gaps = start.open_gaps
        self._rest = rest
        self._kafka = kafka = sinks.kafka
        router = Router(found.streams, settings.kafka.topic)
        self.pipeline = Pipeline(SPOT, router, self.sequencers, sinks, feed.buffer.counts)
        self.pipeline.has_symbol = partial(has_symbol, feed.shard)
        self._repairer = Repairer(
            settings.repair, rest, self.pipeline.publish, given_up=kafka.given_up
        )
        self._late_repairer = Repairer(
            settings.repair,
            rest,
            kafka.publish,
            given_up=kafka.given_up,
            has_room=kafka.has_room,
        )
        self.pipeline.on_hole = self._repairer.notice
        self._head_check = HeadCheck(
            settings.repair.head_check_interval_s,
            rest,
            self.sequencers,
            notice=self._repairer.notice,
            # Positions of today would hide from the next start what this one could not read.
            resume=_ignore if start.in_topics is None else kafka.resume,
            counts=self.pipeline.counts,
        )
        feed.buffer.on_open = self._head_check.request
        feed.prepare, feed.on_change = self._prepare, self._change
        kafka.watch_losses(self._late_repairer.notice)
        self._take_back_gaps()
        self.statuses = SymbolStatuses(
            settings.status.interval_s,
            settings.kafka.topic,
            bundles=lambda: feed.bundles,
            sequencers=self.sequencers,
            kafka=kafka,
            redis=sinks.redis,
            knows_positions=start.in_topics is not None,
        )
        # The tasks that find holes.
        self._checks: list[asyncio.Task[None]] = []

    @property
    def repairer(self) -> Repairer:
        """Return what fills the holes that hold streams back."""
        return self._repairer

    async def run(self) -> None:
        """Run until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._repairer.run(), name="repair")
            group.create_task(self._late_repairer.run(), name="late repair")
            reporting = self.statuses.run(lambda: self._feed.subscription.unlisted)
            group.create_task(reporting, name="statuses")
            self._checks.append(group.create_task(self._check_history(), name="history check"))
            if self._settings.repair.head_check_interval_s:
                checking = self._head_check.run(lambda: self._feed.subscription.streams)
                self._checks.append(group.create_task(checking, name="head check"))

    async def end_repair(self, timeout_s: float) -> None:
        """Look for no more holes, and wait at most `timeout_s` for those that hold events back."""
        for task in self._checks:
            task.cancel()
        if self._checks:
            await asyncio.wait(self._checks)
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._repairer.filled()

    def give_up_holes(self) -> None:
        """Publish the events that are still held back. The next start fetches what is missing."""
        for sequencer in self.sequencers.held_back():
            while sequencer.held:
                self.pipeline.publish(sequencer.give_up("stopped"))

    async def _check_history(self) -> None:
        """Log at the start if the host has no old trades: the first hole is too late for that."""
        streams = self._feed.subscription.streams
        symbols = {s.message_type: s.symbol for s in streams if s.symbol}
        backoff = Backoff(self._settings.binance.reconnect_max_delay_s)
        for message_type in filter(symbols.get, _HISTORIES):
            with suppress(FeedRefused):  # the first repair logs it
                async for attempt in forever(backoff, FeedUnavailable, on_retry=_on_retry):
                    with attempt:
                        await self._rest.check_history(message_type, symbols[message_type])

    async def _prepare(self, settings: Settings) -> Positions:
        """Create the topics of changed settings, and return where streams of new message types
        stopped. Raises SinkUnavailable or SinkRefused if Kafka has no topic for them.
        """
        new_types = [each for each in message_types(settings) if each not in self.message_types]
        template = self._settings.kafka.topic
        await self._kafka.add_topics([topic_name(template, SPOT, each) for each in new_types])
        positions = await self._positions_of(new_types)
        self.message_types += new_types
        return positions

    def _change(self, found: Subscription, positions: Positions) -> None:
        """Replace the streams; `positions` are those of new message types."""
        self.pipeline.set_streams(found.streams, positions)
        self._take_back_gaps()

    def _take_back_gaps(self) -> None:
        """Close the gaps of the previous process whose ids the streams bring themselves."""
        streams = self._feed.subscription.streams
        keys = (StreamKey(stream.message_type, stream.symbol or "") for stream in streams)
        self._kafka.publish(self._open_gaps.taken_back(keys))

    async def _positions_of(self, new_types: Sequence[str]) -> dict[StreamKey, Position]:
        """Return where streams of message types stopped that are new to this process. For the other
        types this is known: no other process has published them since the start.
        """
        if not new_types:
            return {}
        found = await _read_positions(self._feed, self._kafka, new_types, self._on_disk)
        own = [p for p in (found or {}).values() if p.message_type in new_types]
        self._kafka.resume(own)
        on_disk = self._on_disk.certain(found).values()
        return where_to_continue(own, [p for p in on_disk if p.message_type in new_types])


async def start_ingestion(
    feed: ShardFeed, rest: Rest, sinks: Sinks, on_disk: OnDisk, whole_since: int | None
) -> Ingestion:
    """Find where the previous process stopped, and build the ingestion, which gets what has arrived
    since. See `Start`.

    Raises SinkRefused if the settings are wrong.
    """
    async with feed.changing:
        settings = feed.settings
        sinks.kafka.expect_topics(topics_of(settings))  # they may have changed since the start
        in_topics = await _read_positions(feed, sinks.kafka, message_types(settings), on_disk)
        gaps = OpenGaps()
        if in_topics and not sinks.kafka.records_on_disk:
            gaps = await _reopen_gaps(feed, in_topics, sinks.kafka)
        if in_topics:
            sinks.kafka.resume(in_topics.values())
        ingestion = Ingestion(feed, rest, sinks, Start(in_topics, on_disk, gaps, whole_since))
        await feed.buffer.release(ingestion.pipeline, _room_in(sinks.redis))
        ingestion.sequencers.end_replay()
    return ingestion


def _room_in(redis: RedisSink) -> Callable[[], Awaitable[None]]:
    """Return what waits until Redis has room, but not for longer than a start may take."""
    deadline_s = asyncio.get_running_loop().time() + REDIS_TIMEOUT_S

    async def room() -> None:
        await asyncio.sleep(0)
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline_s):
                await redis.room()

    return room


async def _read_positions(
    feed: ShardFeed, kafka: KafkaSink, types: Iterable[str], on_disk: OnDisk
) -> dict[StreamKey, Position] | None:
    """Return where the previous process stopped. Without Kafka return None: the feed starts all the
    same, so that Redis is served. Then only streams on disk know what they have missed.

    Raises SinkRefused if Kafka denies reading.
    """
    try:
        positions = await _read_fenced(feed, kafka, types)
    except SinkUnavailable as error:
        log.warning(
            "positions_unavailable",
            error=str(error),
            consequence="events missed before the first event of a stream are not detected",
            streams_on_disk=len(on_disk.ends),
        )
        return None
    log.info("positions_read", streams=len(positions))
    return positions


async def _read_fenced(
    feed: ShardFeed, kafka: KafkaSink, types: Iterable[str]
) -> dict[StreamKey, Position]:
    """Return where the previous process stopped. With standbys wait for Kafka as long as it takes:
    what both bridges have received would be published twice.
    """
    settings = feed.settings
    waits_for = (SinkUnavailable,) if settings.cluster.standby else ()
    backoff = Backoff(settings.binance.reconnect_max_delay_s)

    def on_retry(error: Exception, delay_s: float) -> None:
        log.info("start_waiting_for_kafka", error=str(error), retry_in_s=round(delay_s, 2))

    async for attempt in forever(backoff, *waits_for, on_retry=on_retry):
        with attempt:
            written = await kafka.fenced()
            return await read_start(settings.kafka, SPOT, types, feed.shard, written)
    raise AssertionError("forever has no end")


async def _reopen_gaps(feed: ShardFeed, positions: Positions, kafka: KafkaSink) -> OpenGaps:
    """Repair the gaps that the previous process has left open, and return them. Not if records wait
    on disk: they may be what is missing.
    """
    settings = feed.settings
    try:
        gaps = await read_open_gaps(settings.kafka, SPOT, positions, feed.shard)
        # Streams with open gaps may be left out now. Their topics must be known all the same.
        left_out = sorted(gaps.message_types.difference(message_types(settings)))
        await kafka.add_topics([topic_name(settings.kafka.topic, SPOT, each) for each in left_out])
    except (SinkRefused, SinkUnavailable) as error:
        log.warning("open_gaps_unavailable", error=str(error), consequence="they stay open")
        return OpenGaps()
    if gaps:
        log.info("gaps_reopened", gaps=len(gaps))
        kafka.reopen(gaps)
    return gaps


def message_types(settings: Settings) -> list[str]:
    """Return the message types that the settings lead to. Each has a topic."""
    streams = [stream_of("any", suffix) for suffix in settings.binance.streams]
    streams += [parse_stream(name) for name in settings.binance.extra_streams]
    return list(dict.fromkeys((*(s.message_type for s in streams), *_OWN_MESSAGE_TYPES)))


def topics_of(settings: Settings) -> list[str]:
    """Return the topics of all message types that the settings lead to."""
    return [topic_name(settings.kafka.topic, SPOT, each) for each in message_types(settings)]


def _ignore(_positions: Iterable[Position]) -> None:
    pass


def _on_retry(error: Exception, delay_s: float) -> None:
    log.debug("history_check_waiting", error=str(error), retry_in_s=round(delay_s, 2))
