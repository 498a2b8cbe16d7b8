"""The feed of the bridge, with an observer in place of Kafka and Redis."""

import asyncio
import time
from contextlib import suppress

from bridge.binance.connector import State
from bridge.binance.feed import Feed
from bridge.binance.listing import find_streams
from bridge.binance.rest import Rest
from bridge.core.binance.subscription import Subscription
from bridge.core.model.stream import SPOT
from bridge.core.records.record import Router
from bridge.core.sequencing.sequencers import Sequencers
from bridge.errors import FeedRefused, FeedUnavailable
from bridge.pipeline.gap_repair import Repairer
from bridge.pipeline.pipeline import Pipeline
from bridge.settings import Settings
from bridge.telemetry import FeedCounts
from bridge.tools.audit.rules import RULES
from bridge.tools.verify.observer import Observer, quantile_ms
from bridge.tools.verify.report import Clock, Connection, Messages, Observation


async def observe(settings: Settings, seconds: float, stopped: asyncio.Event) -> Observation:
    """Observe the feed of these settings for `seconds`, or until `stopped` is set.

    Raises SettingsError, or FeedRefused if the exchange refuses the streams of the settings.
    """
    live = _Live(settings)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(live.run(), name="feed")
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await stopped.wait()
        observation = live.observation()
        running.cancel()
    return observation


class _Live:
    """The observed feed. It has no streams until the exchange has sent its list of symbols."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._observer = Observer()
        self._found = Subscription()
        self._clock: Clock | None = None
        self._begun = time.time_ns() // 1000
        self._sequencers = Sequencers([])
        self._counts = FeedCounts()
        self._feed: Feed | None = None

    async def run(self) -> None:
        """Run the feed until cancelled."""
        options, repair = self._settings.binance, self._settings.repair
        async with Rest(options, repair.weight_share) as rest:
            self._found = await find_streams(options, rest)
            self._clock = await _compare_clocks(rest)
            self._sequencers = Sequencers(self._found.streams)
            router = Router(self._found.streams, self._settings.kafka.topic)
            pipeline = Pipeline(SPOT, router, self._sequencers, (self._observer,))
            repairer = Repairer(repair, rest, pipeline.publish)
            pipeline.on_hole = repairer.notice
            self._counts = pipeline.counts
            self._feed = Feed(options, self._found.streams, pipeline)
            self._begun = time.time_ns() // 1000
            async with asyncio.TaskGroup() as group:
                group.create_task(repairer.run(), name="repair")
                group.create_task(self._feed.run(), name="connectors")

    def observation(self) -> Observation:
        """Return the observation so far."""
        ended = time.time_ns() // 1000
        feed, streams = self._feed, self._found.streams
        return Observation(
            seconds=(ended - self._begun) / 1e6,
            asked=len(streams),
            symbols=len({stream.symbol for stream in streams} - {None}),
            refused=self._found.refused,
            never_heard=feed.without_data() if feed else [],
            connection=self._connection(),
            messages=self._messages((ended - self._begun) / 1e6),
            clock=self._clock,
            streams=self._observer.streams(self._begun, ended),
            proven=self._observer.proven(),
            findings=self._observer.findings(),
        )

    def _connection(self) -> Connection:
        options, connectors = self._settings.binance, self._feed.connectors if self._feed else []
        first = self._observer.first_received
        return Connection(
            websocket_url=options.websocket_url,
            rest_url=options.rest_url,
            transport=options.transport,
            compression=options.compression,
            connectors=len(connectors),
            open=sum(connector.state is State.OPEN for connector in connectors),
            first_message_s=(first - self._begun) / 1e6 if first else None,
            lost=dict(self._counts.reconnects),
        )

    def _messages(self, seconds: float) -> Messages:
        counts, observer, figures = self._counts, self._observer, self._sequencers.figures()
        events = sum(count for kind, count in counts.received.items() if kind in RULES)
        return Messages(
            frames=counts.frames,
            events=events,
            invalid=dict(counts.invalid),
            per_second=events / seconds,
            most_in_a_second=observer.most_in_a_second,
            duplicates=figures.duplicates.total(),
            fetched=counts.repaired.total(),
            held=figures.held,
            gaps=dict(counts.gaps),
            latency_p50_ms=quantile_ms(observer.latency, 0.5),
            latency_p99_ms=quantile_ms(observer.latency, 0.99),
        )


async def _compare_clocks(rest: Rest) -> Clock | None:
    """Return the difference of the clocks, or None if REST does not return the time."""
    asked_s = time.time()
    try:
        theirs_us = await rest.time_us()
    except (FeedUnavailable, FeedRefused):
        return None
    half_s = (time.time() - asked_s) / 2
    return Clock(theirs_us / 1000 - (asked_s + half_s) * 1000, half_s * 1000)
