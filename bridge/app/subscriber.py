"""Keeps the feed on the streams of the settings and of the exchange's listing."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import blake2b

import structlog
from msgspec.structs import replace

from bridge.binance.connector import Connector, State
from bridge.binance.feed import Feed
from bridge.binance.frame_buffer import FrameBuffer
from bridge.binance.listing import Listing
from bridge.binance.rest import Rest
from bridge.brokers.kafka_client import has_symbol
from bridge.core.binance.subscription import Change, Subscription, difference
from bridge.core.model.shard import ShardId
from bridge.core.sequencing.position import Position, StreamKey
from bridge.core.sequencing.sequencers import NOWHERE
from bridge.settings import Settings
from bridge.telemetry import FeedCounts, now_us

Positions = Mapping[StreamKey, Position]
# Two bridges have the same streams if these digests of their names are equal.
DIGEST_BYTES = 8

log = structlog.get_logger(__name__)


class Subscriber:
    """The feed of this process, and the shards that get its frames.

    `settings` are those that the streams follow.
    """

    def __init__(self, settings: Settings, rest: Rest) -> None:
        self.settings = settings
        self.subscription = Subscription()
        self.feed = Feed(settings.binance)
        self.counts = FeedCounts()
        # Set when the streams are known.
        self.found = asyncio.Event()
        self._listing = Listing(rest, settings.binance.reconnect_max_delay_s)
        self._shards: list[ShardFeed] = []
        # Locked while the streams change, or a shard joins.
        self._changing = asyncio.Lock()

    @property
    def has_reached_exchange(self) -> bool:
        """Return whether the exchange has answered over REST, or a connection is open."""
        is_open = any(connector.state is State.OPEN for connector in self.feed.connectors)
        return is_open or self._listing.has_answer

    async def run(self) -> None:
        """Find the streams, and run the feed until cancelled. Raises SettingsError or FeedRefused
        if the settings are wrong.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self.feed.run(), name="connectors")
            self.subscription = await self._listing.find(self.settings.binance)
            self.found.set()
            await self._follow_listing()

    async def join(self, shard_id: ShardId) -> "ShardFeed":
        """Subscribe to the streams of a shard, as soon as they are known."""
        await self.found.wait()
        async with self._changing:
            shard = ShardFeed(self, shard_id)
            self._shards.append(shard)
            self.feed.add(shard.buffer, shard.subscription.streams)
        streams, connectors = len(shard.subscription.streams), sum(map(len, shard.bundles))
        log.info("feed_starting", streams=streams, connectors=connectors)
        if not streams and self.subscription.streams:
            log.warning("shard_without_streams", remedy="set cluster.shards lower")
        return shard

    async def leave(self, shard: "ShardFeed") -> None:
        """Close the connections of a shard."""
        self._shards.remove(shard)
        shard.left_s = asyncio.get_running_loop().time()
        await self.feed.set_streams(shard.buffer, ())

    async def set_streams(self, settings: Settings) -> Change:
        """Put the symbols and streams of these settings into effect. Raises what `Listing.find` and
        `ShardFeed.prepare` raise. Then nothing has changed.
        """
        await self.found.wait()
        async with self._all_locked() as shards:
            found = await self._listing.find(settings.binance)
            positions = {shard: await shard.prepare(settings) for shard in shards}
            self.settings = settings
            return await self._subscribe(found, positions)

    async def _follow_listing(self) -> None:
        """Let the streams follow what the exchange lists."""
        while True:
            await self._listing.next()
            async with self._all_locked() as shards:
                found = self._listing.streams_of(self.settings.binance)
                change = await self._subscribe(found, dict.fromkeys(shards, NOWHERE))
            if any(change):
                log.info("streams_changed", **change.summary())

    @asynccontextmanager
    async def _all_locked(self) -> "AsyncIterator[list[ShardFeed]]":
        """Yield the shards. None of them joins or starts to publish meanwhile."""
        async with self._changing, AsyncExitStack() as stack:
            shards = [*self._shards]
            for shard in shards:
                await stack.enter_async_context(shard.changing)
            yield shards

    async def _subscribe(
        self, found: Subscription, positions: "Mapping[ShardFeed, Positions]"
    ) -> Change:
        """Replace the streams. `positions` has each shard's positions of new message types."""
        change = difference(self.subscription.streams, found.streams)
        self.subscription = found
        for shard, of_shard in positions.items():
            before, after = shard.subscription, shard.follow(found)
            has_changed = any(difference(before.streams, after.streams)) or of_shard
            if has_changed and shard in self._shards:
                shard.buffer.whole_since = now_us()
                shard.on_change(after, of_shard)
                await self.feed.set_streams(shard.buffer, after.streams)
        return change


class ShardFeed:
    """The part of the feed that one shard gets, and what arrives while it has no pipeline.

    `prepare` is awaited before changed settings take effect, and returns the positions of new
    message types. `on_change` gets the changed streams with these positions. `changing` is locked
    during a change.
    """

    def __init__(self, subscriber: Subscriber, shard: ShardId) -> None:
        self.shard = shard
        self.follow(subscriber.subscription)
        # When the connections began to close, by the event loop's clock.
        self.left_s = math.inf
        self.buffer = FrameBuffer(subscriber.counts)
        self.prepare: Callable[[Settings], Awaitable[Positions]] = _prepare_nothing
        self.on_change: Callable[[Subscription, Positions], None] = _ignore
        self.changing = asyncio.Lock()
        self._subscriber = subscriber

    def follow(self, found: Subscription) -> Subscription:
        """Take the part of a subscription that belongs to the shard, and return it."""
        self.subscription = part = _part(found, self.shard)
        names = " ".join(sorted(stream.name for stream in part.streams))
        self.streams = blake2b(names.encode(), digest_size=DIGEST_BYTES).hexdigest()
        return part

    @property
    def settings(self) -> Settings:
        """Return the settings that the streams follow."""
        return self._subscriber.settings

    @property
    def bundles(self) -> list[list[Connector]]:
        """Return the connectors of each bundle."""
        return self._subscriber.feed.bundles_of(self.buffer)

    @property
    def is_cut(self) -> bool:
        """Return whether no connection carries some of the streams."""
        return self._subscriber.feed.is_cut(self.buffer)

    def silent_s(self, *, has_frames: bool = False) -> float:
        """Return for how long nothing has come over some connection; see `Feed.silent_s`."""
        return self._subscriber.feed.silent_s(self.buffer, has_frames=has_frames)

    @property
    def whole_since(self) -> int:
        """Return since when no event was missed, in microseconds, if all connections are open."""
        return self.buffer.whole_since

    def lag_s(self) -> float:
        """Return for how many seconds events may wait that the pipeline does not have. Infinite
        without a pipeline.
        """
        if not self.buffer.is_passing:
            return math.inf
        left_s = asyncio.get_running_loop().time() - self.left_s
        return max(left_s, self._subscriber.feed.lag_s(self.buffer))


def _part(found: Subscription, shard: ShardId) -> Subscription:
    """Return the streams of one shard. Market-wide streams are in each."""
    streams = [s for s in found.streams if s.symbol is None or has_symbol(shard, s.symbol)]
    unlisted = [symbol for symbol in found.unlisted if has_symbol(shard, symbol)]
    return replace(found, streams=streams, unlisted=unlisted)


async def _prepare_nothing(_settings: Settings) -> Positions:
    return NOWHERE


def _ignore(_found: Subscription, _positions: Positions) -> None:
    pass
