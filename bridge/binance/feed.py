"""The whole feed: the streams the settings ask for, spread over connectors."""

import asyncio
from collections.abc import Iterable, Sequence
from functools import reduce

import structlog

from bridge import settings
from bridge.binance.connection import FrameHandler
from bridge.binance.connector import Connector, State, later
from bridge.binance.coverage import LINES, ShardCoverage, ShardSlot
from bridge.binance.rate_limit import RateLimiter
from bridge.binance.rest import Rest
from bridge.core.binance.subscription import (
    Subscription,
    connections,
    connections_again,
    is_pattern,
    subscribe,
)
from bridge.core.model.stream import Stream
from bridge.core.sequencing.arrivals import Arrivals
from bridge.errors import FeedUnavailable, Problem, SettingsError
from bridge.retry import Backoff, forever

# What befalls young connections at the exchange does not befall both connectors at once.
SECOND_LINE_AFTER_S = 5.0

log = structlog.get_logger(__name__)


async def find_streams(options: settings.Binance, rest: Rest) -> Subscription:
    """Work out the streams, asking the exchange which symbols it lists.

    Where it cannot be asked, named symbols are taken as they are; patterns need the answer, and
    wait for it. Raises SettingsError if nothing is left to subscribe to, FeedRefused if the
    exchange refuses us.
    """
    listed = await _listed(options, rest)
    found = subscribe(options.symbols, options.streams, options.extra_streams, listed)
    for sentence in found.refused:
        log.error("not_subscribed", error=sentence)
    if not found.streams:
        raise SettingsError(
            Problem("binance.symbols", None, sentence, "name symbols the exchange lists")
            for sentence in found.refused
        )
    return found


class Feed:
    """All connectors: each shard of the streams has one, or two with the lines `a` and `b`."""

    def __init__(
        self,
        options: settings.Binance,
        streams: Sequence[Stream],
        handler: FrameHandler,
        rate_limiter: RateLimiter,
    ) -> None:
        self._options = options
        self._handler = handler
        self._rate_limiter = rate_limiter
        self._lines = LINES[: options.redundancy]
        # What connectors have brought that have ended.
        self._past = {line: Arrivals() for line in LINES}
        self._tasks: dict[Connector, asyncio.Task[None]] = {}
        coverages = [
            ShardCoverage(shard, handler, self._lines)
            for shard in connections(streams, options.streams_per_connection)
        ]
        self.shards = [
            [
                Connector(ShardSlot(shard, len(coverages), line), coverage, options, rate_limiter)
                for line in self._lines
            ]
            for shard, coverage in enumerate(coverages)
        ]

    @property
    def connectors(self) -> list[Connector]:
        """The connectors of all shards."""
        return [connector for connectors in self.shards for connector in connectors]

    @property
    def ready(self) -> bool:
        """Of each shard one connector at least is open, and something has come over it."""
        return not self.unready()

    def unready(self) -> list[Connector]:
        """The connectors of the shards that none of them brings."""
        return [
            connector
            for connectors in self.shards
            if not any(map(_is_flowing, connectors))
            for connector in connectors
        ]

    def arrivals(self, line: str) -> Arrivals:
        """What all connectors with a line have brought, together, those among them that have
        ended.
        """
        connectors = {*self.connectors, *self._tasks}
        total = Arrivals()
        for arrivals in (
            self._past[line],
            *(connector.arrivals for connector in connectors if connector.line == line),
        ):
            total.add(arrivals)
        return total

    def last_received(self) -> dict[str, int]:
        """Of each stream that has ever been heard, when last, in microseconds since the epoch."""
        return reduce(later, (connector.last_received() for connector in self.connectors), {})

    def without_data(self) -> list[str]:
        """The streams that have never sent anything."""
        heard = self.last_received()
        return [
            s.name
            for connectors in self.shards
            for s in connectors[0].streams
            if s.name not in heard
        ]

    async def run(self) -> None:
        """Keep every connector connected, for ever."""
        async with asyncio.TaskGroup() as self._group:
            for connector in self.connectors:
                self._start(connector)

    async def set_streams(self, streams: Sequence[Stream]) -> None:
        """Have these streams from now on, while it runs: each stays on the connectors it is on,
        and connectors whose streams have changed replace their connections. Returns when those
        without any are closed.
        """
        held = [connectors[0].coverage.held() for connectors in self.shards]
        spread = connections_again(held, streams, self._options.streams_per_connection)
        for connectors, shard in zip(self.shards, spread, strict=False):
            connectors[0].coverage.set_streams(shard)
        for shard in spread[len(held) :]:
            self._add(shard)
        ended = [connector for connector in self.connectors if not connector.streams]
        self.shards = [connectors for connectors in self.shards if connectors[0].streams]
        if ended:
            await self._end(ended)

    def _start(self, connector: Connector) -> None:
        self._tasks[connector] = self._group.create_task(_run(connector), name=connector.name)

    def _add(self, shard: list[Stream]) -> None:
        """Connectors for a further shard, in the first slot that is free."""
        taken = {connectors[0].slot.shard for connectors in self.shards}
        number = min(set(range(len(self.shards) + 1)) - taken)
        coverage = ShardCoverage(shard, self._handler, self._lines)
        connectors = [
            Connector(
                ShardSlot(number, len(self.shards) + 1, line),
                coverage,
                self._options,
                self._rate_limiter,
                has_accepted=True,
            )
            for line in self._lines
        ]
        self.shards.append(connectors)
        for connector in connectors:
            self._start(connector)

    async def _end(self, connectors: Iterable[Connector]) -> None:
        """Until then what they bring still counts."""
        tasks = {connector: self._tasks[connector] for connector in connectors}
        for task in tasks.values():
            task.cancel()
        await asyncio.wait(tasks.values())
        for connector in tasks:
            del self._tasks[connector]
            self._past[connector.line].add(connector.arrivals)


async def _run(connector: Connector) -> None:
    """Two connectors with the same streams open at different times."""
    await asyncio.sleep(SECOND_LINE_AFTER_S * LINES.index(connector.line))
    await connector.run()


def _is_flowing(connector: Connector) -> bool:
    return connector.state is State.OPEN and len(connector.without_data()) < len(connector.streams)


async def _listed(options: settings.Binance, rest: Rest) -> dict[str, str] | None:
    """The exchange's symbols; None where it cannot be asked and no pattern needs it."""
    wait_for_it = any(map(is_pattern, options.symbols))
    backoff = Backoff(options.reconnect_max_delay_s)
    async for attempt in forever(backoff, FeedUnavailable, on_retry=_on_retry):
        with attempt:
            try:
                return await rest.symbols()
            except FeedUnavailable as error:
                # Asked for quiet, the connectors would have to wait as well.
                if wait_for_it or error.cause == "rate_limited":
                    raise
                log.warning("symbols_not_checked", error=str(error))
                return None
    raise AssertionError("forever has no end")


def _on_retry(error: Exception, delay_s: float) -> None:
    log.warning("symbols_unavailable", error=str(error), retry_in_s=round(delay_s, 2))
