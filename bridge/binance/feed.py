"""The feed: the streams of the settings, spread over shards and their connectors."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import reduce

from bridge import settings
from bridge.binance.connection import FrameHandler
from bridge.binance.connector import Connector, State, later
from bridge.binance.coverage import LINES, ShardCoverage, ShardSlot
from bridge.binance.rate_limit import RateLimiter
from bridge.binance.transport.turns import Turns
from bridge.core.binance.subscription import make_shards, update_shards
from bridge.core.model.stream import Stream
from bridge.core.sequencing.arrivals import Arrivals

# Problems of new connections at the exchange must not hit both lines at once.
SECOND_LINE_AFTER_S = 5.0


class Feed:
    """All connectors: each shard has one on line `a`, and with redundancy one on line `b`.

    `on_open` is called each time a connection has opened.
    """

    def __init__(
        self,
        options: settings.Binance,
        streams: Sequence[Stream],
        handler: FrameHandler,
    ) -> None:
        self.on_open: Callable[[], None] = lambda: None
        self._options = options
        self._handler = handler
        self._rate_limiter = RateLimiter()
        self._turns = Turns()
        self._lines = LINES[: options.redundancy]
        # Counts of connectors that are stopped.
        self._past = {line: Arrivals() for line in LINES}
        self._tasks: dict[Connector, asyncio.Task[None]] = {}
        self._group = asyncio.TaskGroup()
        coverages = [
            ShardCoverage(shard, handler, self._lines, self._opened)
            for shard in make_shards(streams, options.streams_per_connection)
        ]
        self.shards = [
            [
                Connector(
                    ShardSlot(shard, len(coverages), line),
                    coverage,
                    options,
                    self._rate_limiter,
                    self._turns,
                )
                for line in self._lines
            ]
            for shard, coverage in enumerate(coverages)
        ]

    @property
    def connectors(self) -> list[Connector]:
        """Return the connectors of all shards."""
        return [connector for connectors in self.shards for connector in connectors]

    @property
    def is_cut(self) -> bool:
        """Return whether no connection carries some of the streams."""
        return any(
            all(connector.state is not State.OPEN for connector in connectors)
            for connectors in self.shards
        )

    def unready(self) -> list[Connector]:
        """Return the connectors of the shards for which no data arrives."""
        return [
            connector
            for connectors in self.shards
            if not any(map(_is_flowing, connectors))
            for connector in connectors
        ]

    def arrivals(self, line: str) -> Arrivals:
        """Return the summed counts of all connectors of a line, stopped ones included."""
        connectors = {*self.connectors, *self._tasks}
        total = Arrivals()
        for arrivals in (
            self._past[line],
            *(connector.arrivals for connector in connectors if connector.line == line),
        ):
            total.add(arrivals)
        return total

    def last_received(self) -> dict[str, int]:
        """Return when each stream last sent a frame, in microseconds since the epoch. Streams
        without data are left out.
        """
        return reduce(later, (connector.last_received() for connector in self.connectors), {})

    def without_data(self) -> list[str]:
        """Return the streams that have never sent anything."""
        heard = self.last_received()
        return [
            s.name
            for connectors in self.shards
            for s in connectors[0].streams
            if s.name not in heard
        ]

    async def run(self) -> None:
        """Run all connectors until cancelled."""
        async with self._group:
            for connector in self.connectors:
                self._start(connector)
            await asyncio.Event().wait()  # without streams the group would end

    async def set_streams(self, streams: Sequence[Stream]) -> None:
        """Set the streams while the feed runs. Each stream stays in its shard. Connectors whose
        streams have changed replace their connections. Returns when the connectors without streams
        are closed.
        """
        held = [connectors[0].coverage.held() for connectors in self.shards]
        spread = update_shards(held, streams, self._options.streams_per_connection)
        for connectors, shard in zip(self.shards, spread, strict=False):
            connectors[0].coverage.set_streams(shard)
        for shard in spread[len(held) :]:
            self._add(shard)
        ended = [connector for connector in self.connectors if not connector.streams]
        self.shards = [connectors for connectors in self.shards if connectors[0].streams]
        if ended:
            await self._end(ended)

    def _opened(self) -> None:
        self.on_open()

    def _start(self, connector: Connector) -> None:
        self._tasks[connector] = self._group.create_task(_run(connector), name=connector.name)

    def _add(self, shard: list[Stream]) -> None:
        """Add connectors for a further shard, with the lowest number that is free."""
        taken = {connectors[0].slot.shard for connectors in self.shards}
        number = min(set(range(len(self.shards) + 1)) - taken)
        coverage = ShardCoverage(shard, self._handler, self._lines, self._opened)
        connectors = [
            Connector(
                ShardSlot(number, len(self.shards) + 1, line),
                coverage,
                self._options,
                self._rate_limiter,
                self._turns,
                has_accepted=True,
            )
            for line in self._lines
        ]
        self.shards.append(connectors)
        for connector in connectors:
            self._start(connector)

    async def _end(self, connectors: Iterable[Connector]) -> None:
        """Stop connectors. What they bring until they have stopped still counts."""
        tasks = {connector: self._tasks[connector] for connector in connectors}
        for task in tasks.values():
            task.cancel()
        await asyncio.wait(tasks.values())
        for connector in tasks:
            del self._tasks[connector]
            self._past[connector.line].add(connector.arrivals)


async def _run(connector: Connector) -> None:
    """Run a connector. The two lines of a shard open at different times."""
    await asyncio.sleep(SECOND_LINE_AFTER_S * LINES.index(connector.line))
    await connector.run()


def _is_flowing(connector: Connector) -> bool:
    return connector.state is State.OPEN and len(connector.without_data()) < len(connector.streams)
