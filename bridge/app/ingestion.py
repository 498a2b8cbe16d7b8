"""The exchange's side of a bridge: finds the streams, keeps them coming, and changes them."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

import structlog

from bridge.binance.feed import Feed, find_streams
from bridge.binance.rate_limit import RateLimiter
from bridge.binance.rest import Rest
from bridge.core.binance.subscription import Change, Subscription, difference
from bridge.core.model.stream import SPOT, Stream, parse_stream, stream_of
from bridge.core.records.record import Router, topic_name
from bridge.core.sequencing.position import Name, Position, furthest
from bridge.core.sequencing.sequencers import Sequencers
from bridge.errors import SinkRefused, SinkUnavailable
from bridge.monitoring.status import Status
from bridge.pipeline.gap_repair import Repairer
from bridge.pipeline.pipeline import Pipeline
from bridge.pipeline.sink import Sink
from bridge.settings import Settings
from bridge.sinks.kafka.recover_gaps import read_open_gaps
from bridge.sinks.kafka.recover_positions import read_start
from bridge.sinks.kafka.sink import KafkaSink

# What the bridge itself has to say, whatever is subscribed to.
_OWN_MESSAGE_TYPES = ("gap", "invalid")

log = structlog.get_logger(__name__)


class Ingestion:
    """Feeds the sinks; `kept` says where the streams on disk end."""

    def __init__(
        self,
        settings: Settings,
        kafka: KafkaSink,
        sinks: Sequence[Sink],
        kept: Mapping[Name, Position],
        status: Status,
    ) -> None:
        self._settings = settings
        self._kafka = kafka
        self._sinks = sinks
        self._kept = kept
        self._status = status
        self._message_types = message_types(settings)
        self._streams: list[Stream] = []
        self._started = asyncio.Event()

    async def run(self) -> None:
        """Until it is cancelled. Raises SettingsError or FeedRefused where the settings are
        wrong.
        """
        options, repair = self._settings.binance, self._settings.repair
        rate_limiter = RateLimiter()
        async with Rest(options, rate_limiter, repair.weight_share) as self._rest:
            found = await find_streams(options, self._rest)
            positions = await self._positions(self._message_types)
            if positions and not self._kafka.on_disk:
                await self._reopen_gaps(found, positions)
            self._kafka.resume(positions.values())
            positions = furthest((*positions.values(), *self._kept.values()))
            sequencers = Sequencers(found.streams, positions)
            router = Router(found.streams, self._settings.kafka.topic)
            self._pipeline = pipeline = Pipeline(SPOT, router, sequencers, self._sinks)
            kafka = self._kafka
            repairer = Repairer(repair, self._rest, pipeline.publish, given_up=kafka.given_up)
            pipeline.on_hole = repairer.notice
            late = Repairer(
                repair,
                self._rest,
                kafka.publish,
                given_up=kafka.given_up,
                has_room=kafka.has_room,
            )
            kafka.watch_losses(late.notice)
            self._feed = Feed(options, found.streams, pipeline, rate_limiter)
            self._status.feed, self._status.sequencers = self._feed, sequencers
            self._status.counts, self._status.budget = pipeline.counts, self._rest.budget
            self._have(found)
            log.info(
                "feed_starting", streams=len(found.streams), connectors=len(self._feed.connectors)
            )
            async with asyncio.TaskGroup() as group:
                group.create_task(repairer.run(), name="repair")
                group.create_task(late.run(), name="late repair")
                group.create_task(self._feed.run(), name="connectors")
                self._started.set()

    async def set_streams(self, settings: Settings) -> Change:
        """Have the symbols and streams of these settings from now on. It is as with a start: topics
        are made, and streams go on behind what the topics have of them.

        Raises what `find_streams` does, and SinkUnavailable or SinkRefused where Kafka has no topic
        for them: nothing has changed then.
        """
        await self._started.wait()
        found = await find_streams(settings.binance, self._rest)
        new_types = [t for t in message_types(settings) if t not in self._message_types]
        template = self._settings.kafka.topic
        await self._kafka.add_topics([topic_name(template, SPOT, each) for each in new_types])
        positions = await self._positions_of_new(new_types)
        self._message_types += new_types
        change = difference(self._streams, found.streams)
        self._pipeline.set_streams(found.streams, positions)
        self._have(found)
        await self._feed.set_streams(found.streams)
        return change

    def _have(self, found: Subscription) -> None:
        self._streams = found.streams
        self._status.refused, self._status.message_types = found.refused, tuple(self._message_types)

    async def _positions(self, message_types: Iterable[str]) -> dict[Name, Position]:
        """Where the process before this one has stopped. Without Kafka the feed begins all the
        same: Redis wants it, and what was missed before is then known only of the streams on disk.
        """
        try:
            positions = await read_start(self._settings.kafka, SPOT, message_types)
        except (SinkUnavailable, SinkRefused) as error:
            log.warning(
                "positions_unavailable",
                error=str(error),
                consequence="what was missed before the first event of each stream is not noticed",
                streams_on_disk=len(self._kept),
            )
            return {}
        log.info("positions_read", streams=len(positions))
        return positions

    async def _reopen_gaps(self, found: Subscription, positions: Mapping[Name, Position]) -> None:
        """Go on with what the process before this one was still asking for when it ended. Not where
        something waits on disk: that may be what is missing.
        """
        ours = [(stream.message_type, stream.symbol or "") for stream in found.streams]
        try:
            gaps = await read_open_gaps(self._settings.kafka, SPOT, positions, ours)
        except (SinkUnavailable, SinkRefused) as error:
            log.warning("open_gaps_unavailable", error=str(error), consequence="they stay open")
            return
        if gaps:
            log.info("gaps_reopened", gaps=len(gaps))
            self._kafka.reopen(gaps)

    async def _positions_of_new(self, message_types: Sequence[str]) -> dict[Name, Position]:
        """Where streams have stopped that are of message types new to this process. Of the others
        it is known: nobody else has published any since the start.
        """
        found = await self._positions(message_types) if message_types else {}
        own = [position for name, position in found.items() if name[0] in message_types]
        self._kafka.resume(own)
        return furthest((*own, *(p for name, p in self._kept.items() if name[0] in message_types)))


def message_types(settings: Settings) -> list[str]:
    """The message types that may come of the settings, each of which has a topic."""
    streams = [stream_of("any", suffix) for suffix in settings.binance.streams]
    streams += [parse_stream(name) for name in settings.binance.extra_streams]
    return list(dict.fromkeys((*(s.message_type for s in streams), *_OWN_MESSAGE_TYPES)))
