"""The exchange's connections in memory: they bring what the market does, or misbehave."""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any
from urllib.parse import unquote

from bridge import settings
from bridge.binance.transport.base import FrameListener
from bridge.errors import FeedUnavailable
from tests.simulation import process
from tests.simulation.loop import now_us
from tests.simulation.market import CONTIGUOUS, Market, Tick

MAX_LATENCY_S = 0.05
SHUTDOWN = b'{"e":"serverShutdown","E":1}'


class Connection:
    """One connection: frames arrive in order, `latency_s` after they were sent."""

    def __init__(self, exchange: "Exchange", path: str, receiver: FrameListener) -> None:
        self.process = process.current.get()
        # As far as the bridge looks into the library's connection.
        self.has_missed_pong = self.has_close_frame = False
        self.ending = "cut"
        self.is_open = True
        self.stalled: list[list[bytes]] | None = None
        self.mute: set[str] = set()
        self.streams = set(unquote(path).partition("=")[2].partition("&")[0].split("/"))
        self._exchange = exchange
        self._receiver = receiver
        self._latency_s = exchange.random.uniform(0.001, MAX_LATENCY_S)
        self._under_way: deque[list[bytes]] = deque()

    def send(self, frames: list[bytes]) -> None:
        if self.stalled is not None:
            self.stalled.append(frames)
        elif frames:
            # Timers of one moment go off in any order: the frames may not.
            self._under_way.append(frames)
            asyncio.get_running_loop().call_later(self._latency_s, self._deliver)

    def stall(self) -> None:
        """From now on everything is held back."""
        if self.stalled is None:
            self.stalled = []

    def flow(self) -> None:
        """A stall is over: what was held back comes at once."""
        held, self.stalled = self.stalled or [], None
        for frames in held:
            self.send(frames)

    def cut(self, *, has_missed_pong: bool = False) -> None:
        """Gone, with what was on its way."""
        if not self.is_open:
            return
        self.is_open = False
        self._exchange.connections.remove(self)
        if self.process.is_alive:
            self.has_missed_pong = has_missed_pong
            self._receiver.lost()

    async def close(self) -> None:
        """The bridge closes it: what was on its way still comes, unless it is stalled."""
        if self.process.is_alive and self.stalled is None:
            await asyncio.sleep(self._latency_s * 2)
            self.has_close_frame = self.stalled is None
        self.cut()

    def _deliver(self) -> None:
        frames = self._under_way.popleft()
        if self.is_open and self.process.is_alive:
            self._receiver.frames(frames, now_us())


class Exchange:
    """`repeat`, `reorder`, `skip`: how often a bundle of a connection's frames is spoilt so.

    `unnoticed` has quotes that an open connection did not bring: nobody can know of those.
    """

    def __init__(self, random: Random, market: Market) -> None:
        self.random = random
        self.market = market
        self.connections: list[Connection] = []
        self.repeat = self.reorder = self.skip = 0.0
        self.refuses = 0.0
        self.unnoticed: set[tuple[str, int]] = set()

    async def open(self, _options: settings.Binance, path: str, receiver: FrameListener) -> Any:
        """Stand in for `open_websocket`."""
        own = process.current.get()
        await process.pause(own, self.random.uniform(0.01, 0.2))
        if self.random.random() < self.refuses:
            raise FeedUnavailable("refused")
        connection = Connection(self, path, receiver)
        self.connections.append(connection)
        await process.pause(own, self.random.uniform(0.001, 0.03))
        return connection

    def tick(self) -> None:
        """Something happens on the market."""
        self._bring(self.market.happen())

    def tick_all(self) -> None:
        """Something happens in every stream."""
        self._bring(self.market.happen_everywhere())

    def _bring(self, ticks: Sequence[Tick]) -> None:
        for connection in list(self.connections):
            spoilt = self._spoilt(connection, ticks)
            connection.send([tick.frame for tick in spoilt])

    def forget(self, dead: process.Process) -> None:
        """The connections of a killed process."""
        for connection in list(self.connections):
            if connection.process is dead:
                connection.cut()

    def _unnoticed(self, ticks: Iterable[Tick]) -> None:
        self.unnoticed.update((tick.symbol, tick.identity) for tick in ticks)

    def _spoilt(self, connection: Connection, ticks: Sequence[Tick]) -> list[Tick]:
        spoilt = [tick for tick in ticks if tick.stream in connection.streams]
        self._unnoticed(tick for tick in spoilt if tick.stream in connection.mute)
        spoilt = [tick for tick in spoilt if tick.stream not in connection.mute]
        draw = self.random.random
        if spoilt and draw() < self.repeat:
            place = self.random.randrange(len(spoilt))
            spoilt.insert(self.random.randint(place + 1, len(spoilt)), spoilt[place])
        if draw() < self.reorder:
            contiguous = [tick for tick in spoilt if tick.kind in CONTIGUOUS]
            others = [tick for tick in spoilt if tick.kind not in CONTIGUOUS]
            self.random.shuffle(contiguous)
            spoilt = contiguous + others
        if draw() < self.skip:
            spoilt = [tick for tick in spoilt if tick.kind not in CONTIGUOUS or draw() < 0.5]
        return spoilt
