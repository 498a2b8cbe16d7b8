"""The feed of the bridge, with an observer in place of Kafka and Redis."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from bridge.binance.connector import State
from bridge.binance.feed import Feed
from bridge.binance.listing import find_streams
from bridge.binance.rest import Rest
from bridge.core.binance.stream_names import streams_path
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
from bridge.tools.verify.handshake import shake_hands
from bridge.tools.verify.observer import Observer
from bridge.tools.verify.report import Clock, Connection, Handshake, Messages, Observation
from bridge.tools.verify.statistics import latency_of

# The longest wait for a handshake at the end of the time.
HANDSHAKE_TIMEOUT_S = 10.0
# How often the progress is told.
PROGRESS_INTERVAL_S = 0.2
# Takes the seconds that have passed since the feed began, and the events so far.
OnProgress = Callable[[float, int], None]


async def observe(
    settings: Settings,
    seconds: float,
    stopped: asyncio.Event,
    on_progress: OnProgress | None = None,
) -> Observation:
    """Observe the feed of these settings for `seconds`, or until `stopped` is set.

    If the feed does not begin within `seconds`, the observation says so. Calls `on_progress` every
    PROGRESS_INTERVAL_S. Raises SettingsError, or FeedRefused if the exchange refuses the streams of
    the settings.
    """
    live, loop = _Live(settings), asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(live.run(), name="feed")
        telling = group.create_task(live.tell(on_progress), name="progress")
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds) as deadline:
                live.on_begin = lambda: deadline.reschedule(loop.time() + seconds)
                await stopped.wait()
        await live.handshake_ended()
        observation = live.observation()
        running.cancel()
        telling.cancel()
    return observation


class _Live:
    """The observed feed. It has no streams until the exchange has sent its list of symbols."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._observer = Observer()
        self._found = Subscription()
        self._clock: Clock | None = None
        self._handshake: Handshake | None = None
        self._handshake_error = "the exchange was not reached"
        self._shaking: asyncio.Task[None] | None = None
        self._begun = time.time_ns() // 1000
        self._sequencers = Sequencers([])
        self._counts = FeedCounts()
        self._feed: Feed | None = None
        self.on_begin: Callable[[], None] = lambda: None

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
            self._feed = Feed(options)
            self._feed.add(pipeline, self._found.streams)
            self._begun = time.time_ns() // 1000
            self.on_begin()
            async with asyncio.TaskGroup() as group:
                group.create_task(repairer.run(), name="repair")
                group.create_task(self._feed.run(), name="connectors")
                self._shaking = group.create_task(self._shake_hands(), name="handshake")

    async def tell(self, on_progress: OnProgress | None) -> None:
        """Call `on_progress` until cancelled."""
        while on_progress:
            elapsed_s = time.time() - self._begun / 1e6 if self._feed else 0.0
            on_progress(elapsed_s, sum(self._counts.received.values()))
            await asyncio.sleep(PROGRESS_INTERVAL_S)

    async def handshake_ended(self) -> None:
        """Wait for a handshake that has begun. Its steps have timeouts."""
        if self._shaking:
            await asyncio.wait((self._shaking,), timeout=HANDSHAKE_TIMEOUT_S)

    async def _shake_hands(self) -> None:
        """Shake hands once the feed has a message, or has had the time for one."""
        options = self._settings.binance
        with suppress(TimeoutError):
            async with asyncio.timeout(options.connect_timeout_s):
                while not self._observer.first_received:  # noqa: ASYNC110 - it is no event
                    await asyncio.sleep(PROGRESS_INTERVAL_S)
        if not self._found.streams:
            return
        try:
            self._handshake = await shake_hands(options, streams_path(self._found.streams[:1]))
            self._handshake_error = ""
        except (FeedUnavailable, FeedRefused) as error:
            self._handshake_error = str(error)

    def observation(self) -> Observation:
        """Return the observation so far."""
        ended = time.time_ns() // 1000
        feed, streams = self._feed, self._found.streams
        return Observation(
            begun=self._begun,
            seconds=(ended - self._begun) / 1e6,
            asked=len(streams),
            symbols=len({stream.symbol for stream in streams} - {None}),
            refused=self._found.refused,
            never_heard=feed.without_data() if feed else [],
            handshake=self._handshake,
            handshake_error=self._handshake_error,
            connection=self._connection(),
            messages=self._messages((ended - self._begun) / 1e6),
            clock=self._clock,
            streams=self._observer.streams(self._begun, ended),
            proven=self._observer.proven(),
            findings=self._observer.findings(),
            moments=self._observer.moments(),
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
            problems=observer.problems(),
            per_second=events / seconds,
            most_in_a_second=observer.most_in_a_second,
            duplicates=figures.duplicates.total(),
            fetched=counts.repaired.total(),
            held=figures.held,
            gaps=dict(counts.gaps),
            latency=latency_of(observer.latency),
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
