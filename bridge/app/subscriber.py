"""Keeps the feed on the streams of the settings and of the exchange's listing."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from bridge.binance.connector import State
from bridge.binance.feed import Feed
from bridge.binance.frame_buffer import FrameBuffer
from bridge.binance.listing import Listing
from bridge.binance.rest import Rest
from bridge.core.binance.subscription import Change, Subscription, difference
from bridge.core.sequencing.position import Position, StreamKey
from bridge.core.sequencing.sequencers import NOWHERE
from bridge.settings import Settings

Positions = Mapping[StreamKey, Position]

log = structlog.get_logger(__name__)


class Subscriber:
    """The feed, and what arrives while there is no pipeline.

    The feed begins with `found`. `settings` are those that the streams follow. `prepare` is awaited
    before changed settings take effect, and returns the positions of new message types. `on_change`
    gets the changed streams with these positions. `changing` is locked during a change.
    """

    def __init__(self, settings: Settings, listing: Listing, found: Subscription) -> None:
        self.settings = settings
        self.listing = listing
        self.subscription = found
        self.buffer = FrameBuffer()
        self.feed = Feed(settings.binance, found.streams, self.buffer)
        self.prepare: Callable[[Settings], Awaitable[Positions]] = _prepare_nothing
        self.on_change: Callable[[Subscription, Positions], None] = _ignore
        self.changing = asyncio.Lock()

    @property
    def has_reached_exchange(self) -> bool:
        """Return whether the exchange has answered over REST, or a connection is open."""
        is_open = any(connector.state is State.OPEN for connector in self.feed.connectors)
        return is_open or self.listing.has_answer

    async def run(self) -> None:
        """Run the feed until cancelled. Raises FeedRefused if the settings are wrong."""
        streams, connectors = len(self.subscription.streams), len(self.feed.connectors)
        log.info("feed_starting", streams=streams, connectors=connectors)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.feed.run(), name="connectors")
            group.create_task(self._follow_listing(), name="listing")

    async def set_streams(self, settings: Settings) -> Change:
        """Put the symbols and streams of these settings into effect. Raises what `Listing.find` and
        `prepare` raise. Then nothing has changed.
        """
        async with self.changing:
            found = await self.listing.find(settings.binance)
            positions = await self.prepare(settings)
            self.settings = settings
            return await self._subscribe(found, positions)

    async def _follow_listing(self) -> None:
        """Let the streams follow what the exchange lists."""
        while True:
            await self.listing.next()
            async with self.changing:
                change = await self._subscribe(self.listing.streams_of(self.settings.binance))
            if any(change):
                log.info("streams_changed", **change.summary())

    async def _subscribe(self, found: Subscription, positions: Positions = NOWHERE) -> Change:
        """Replace the streams; `positions` are those of new message types."""
        change = difference(self.subscription.streams, found.streams)
        self.subscription = found
        if any(change) or positions:
            self.on_change(found, positions)
            await self.feed.set_streams(found.streams)
        return change


async def find_subscriber(settings: Settings, rest: Rest) -> Subscriber:
    """Find the streams, and return their subscriber, which does not run yet.

    Raises SettingsError or FeedRefused if the settings are wrong.
    """
    listing = Listing(rest, settings.binance.reconnect_max_delay_s)
    return Subscriber(settings, listing, await listing.find(settings.binance))


async def _prepare_nothing(_settings: Settings) -> Positions:
    return NOWHERE


def _ignore(_found: Subscription, _positions: Positions) -> None:
    pass
