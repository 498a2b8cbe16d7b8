"""The feed: the streams of the settings, spread over bundles and their connectors."""

import asyncio
from collections.abc import Iterable, Sequence
from functools import reduce
from itertools import chain

from bridge import settings
from bridge.binance.connection import FrameHandler
from bridge.binance.connector import Connector, State, later
from bridge.binance.coverage import LINES, Coverage, Slot
from bridge.binance.rate_limit import RateLimiter
from bridge.binance.transport.turns import Turns
from bridge.core.binance.subscription import make_bundles, update_bundles
from bridge.core.model.stream import Stream
from bridge.core.sequencing.arrivals import Arrivals
from bridge.telemetry import now_us

# Problems of new connections at the exchange must not hit both lines at once.
SECOND_LINE_AFTER_S = 5.0


class Feed:
    """All connectors: each bundle has one on line `a`, and with redundancy one on line `b`.

    A bundle belongs to the frame handler that gets its frames.
    """

    def __init__(self, options: settings.Binance) -> None:
        self.bundles: list[list[Connector]] = []
        self._options = options
        self._rate_limiter = RateLimiter()
        self._turns = Turns()
        self._lines = LINES[: options.redundancy]
        # Counts of connectors that are stopped.
        self._past = {line: Arrivals() for line in LINES}
        self._tasks: dict[Connector, asyncio.Task[None]] = {}
        self._group = asyncio.TaskGroup()
        self._is_running = False

    @property
    def connectors(self) -> list[Connector]:
        """Return the connectors of all bundles."""
        return [connector for connectors in self.bundles for connector in connectors]

    def bundles_of(self, handler: FrameHandler) -> list[list[Connector]]:
        """Return the connectors of the bundles of a handler."""
        return [each for each in self.bundles if each[0].coverage.handler is handler]

    def is_cut(self, handler: FrameHandler) -> bool:
        """Return whether no connection carries some of the streams of a handler."""
        return any(
            all(connector.state is not State.OPEN for connector in connectors)
            for connectors in self.bundles_of(handler)
        )

    def silent_s(self, handler: FrameHandler, *, has_frames: bool = False) -> float:
        """Return for how many seconds a handler's most silent bundle has brought nothing; see
        `Connector.silent_s`.
        """
        return max(
            (
                min(connector.silent_s(has_frames=has_frames) for connector in connectors)
                for connectors in self.bundles_of(handler)
            ),
            default=0.0,
        )

    def lag_s(self, handler: FrameHandler) -> float:
        """Return for how many seconds a handler's most silent open connection has brought nothing:
        a connection may be open and dead.
        """
        now = now_us()
        connectors = chain.from_iterable(self.bundles_of(handler))
        received = [c.received for connector in connectors for c in connector.connections]
        return (now - min(received, default=now)) / 1e6

    def share_limits(self, bridges: int) -> None:
        """Share the limits of the exchange with the others of so many bridges."""
        self._rate_limiter.share(bridges)

    def unready(self) -> list[Connector]:
        """Return the connectors of the bundles for which no data arrives."""
        return [
            connector
            for connectors in self.bundles
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
        return last_received(self.connectors)

    def without_data(self) -> list[str]:
        """Return the streams that have never sent anything."""
        heard = self.last_received()
        return [
            s.name
            for connectors in self.bundles
            for s in connectors[0].streams
            if s.name not in heard
        ]

    async def run(self) -> None:
        """Run all connectors until cancelled."""
        async with self._group:
            self._is_running = True
            for connector in self.connectors:
                self._start(connector)
            await asyncio.Event().wait()  # without streams the group would end

    def add(self, handler: FrameHandler, streams: Sequence[Stream]) -> None:
        """Give a handler that has no streams yet the frames of these, spread evenly."""
        bundles = make_bundles(streams, self._options.streams_per_connection)
        count = len(self.bundles) + len(bundles)
        for bundle in bundles:
            self._add(handler, bundle, count)

    async def set_streams(self, handler: FrameHandler, streams: Sequence[Stream]) -> None:
        """Set the streams of a handler. Each stream stays in its bundle. Connectors whose streams
        have changed replace their connections. Returns when the connectors without streams are
        closed.
        """
        coverages = [connectors[0].coverage for connectors in self.bundles_of(handler)]
        held = [coverage.held() for coverage in coverages]
        spread = update_bundles(held, streams, self._options.streams_per_connection)
        for coverage, bundle in zip(coverages, spread, strict=False):
            coverage.set_streams(bundle)
        for bundle in spread[len(held) :]:
            self._add(handler, bundle, len(self.bundles) + 1)
        ended = [connector for connector in self.connectors if not connector.streams]
        self.bundles = [connectors for connectors in self.bundles if connectors[0].streams]
        if ended:
            await self._end(ended)

    def _start(self, connector: Connector) -> None:
        self._tasks[connector] = self._group.create_task(_run(connector), name=connector.name)

    def _add(self, handler: FrameHandler, streams: list[Stream], count: int) -> None:
        """Add the connectors of a bundle, with the lowest number that is free. `count` is the
        number of bundles with it.
        """
        taken = {connectors[0].slot.bundle for connectors in self.bundles}
        number = min(set(range(len(self.bundles) + 1)) - taken)
        coverage = Coverage(streams, handler, self._lines)
        has_accepted = any(connector.has_accepted for connector in self.connectors)
        connectors = [
            Connector(
                Slot(number, count, line),
                coverage,
                self._options,
                self._rate_limiter,
                self._turns,
                has_accepted=has_accepted,
            )
            for line in self._lines
        ]
        self.bundles.append(connectors)
        if self._is_running:
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


def last_received(connectors: Iterable[Connector]) -> dict[str, int]:
    """Return when each stream of these connectors last sent a frame; see `Feed.last_received`."""
    return reduce(later, (connector.last_received() for connector in connectors), {})


async def _run(connector: Connector) -> None:
    """Run a connector. The two lines of a bundle open at different times."""
    await asyncio.sleep(SECOND_LINE_AFTER_S * LINES.index(connector.line))
    await connector.run()


def _is_flowing(connector: Connector) -> bool:
    return connector.state is State.OPEN and len(connector.without_data()) < len(connector.streams)
