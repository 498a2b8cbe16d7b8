"""The exchange's connections in memory: they deliver the market's frames, or fail to."""

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any
from urllib.parse import unquote

from bridge import settings
from bridge.binance.transport.base import FrameListener
from bridge.binance.transport.turns import Turns
from bridge.errors import FeedUnavailable
from tests.simulation import process
from tests.simulation.market import CONTIGUOUS, Market, Tick

MAX_LATENCY_S = 0.05
SHUTDOWN = b'{"e":"serverShutdown","E":1}'


class Connection:
    """One connection. Frames arrive in order, a fixed latency after they were sent."""

    def __init__(self, exchange: "Exchange", path: str, receiver: FrameListener) -> None:
        self.process = process.current.get()
        # The attributes of the library's connection that the bridge reads.
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
            # Timers of one moment fire in any order, but frames must arrive in order.
            self._under_way.append(frames)
            asyncio.get_running_loop().call_later(self._latency_s, self._deliver)

    def stall(self) -> None:
        """Hold all frames back from now on."""
        if self.stalled is None:
            self.stalled = []

    def flow(self) -> None:
        """End a stall: send all frames that were held back at once."""
        held, self.stalled = self.stalled or [], None
        for frames in held:
            self.send(frames)

    def cut(self, *, has_missed_pong: bool = False) -> None:
        """Break the connection; the frames on their way are lost."""
        if not self.is_open:
            return
        self.is_open = False
        self._exchange.connections.remove(self)
        if self.process.is_alive:
            self.has_missed_pong = has_missed_pong
            self._receiver.on_lost()

    def give_up(self) -> None:
        """Close a connection that the bridge does not wait for any more."""
        if self.is_open:
            self.is_open = False
            self._exchange.connections.remove(self)

    async def close(self) -> None:
        """Close for the bridge; frames on their way still arrive, unless it is stalled."""
        if self.process.is_alive and self.stalled is None:
            await asyncio.sleep(self._latency_s * 2)
            self.has_close_frame = self.stalled is None
        self.cut()

    def _deliver(self) -> None:
        frames = self._under_way.popleft()
        if self.is_open and self.process.is_alive:
            self._receiver.on_frames(frames, time.time_ns() // 1000)


class Exchange:
    """The exchange. `repeat`, `reorder`, `skip` are the probabilities of a fault in a write.

    `unnoticed` has events, by kind, symbol and id, that an open connection did not deliver: a
    client cannot detect those.
    """

    def __init__(self, random: Random, market: Market) -> None:
        self.random = random
        self.market = market
        self.connections: list[Connection] = []
        self.repeat = self.reorder = self.skip = 0.0
        self.refuses = 0.0
        self.unnoticed: set[tuple[str, str, int]] = set()

    async def open(
        self, _options: settings.Binance, path: str, receiver: FrameListener, _turns: Turns
    ) -> Any:
        """Replace `open_websocket`."""
        own = process.current.get()
        await process.pause(own, self.random.uniform(0.01, 0.2))
        if own.has_no_exchange or self.random.random() < self.refuses:
            raise FeedUnavailable("refused")
        connection = Connection(self, path, receiver)
        self.connections.append(connection)
        try:
            await process.pause(own, self.random.uniform(0.001, 0.03))
        except asyncio.CancelledError:
            connection.give_up()
            raise
        return connection

    def tick(self) -> None:
        """Let something happen on the market."""
        self._bring(self.market.happen())

    def show_all(self) -> None:
        """Send the events that show what is missing before them."""
        self._bring(self.market.show_everywhere())

    def _bring(self, ticks: Sequence[Tick]) -> None:
        for connection in list(self.connections):
            spoilt = self._spoilt(connection, ticks)
            connection.send([tick.frame for tick in spoilt])

    def forget(self, dead: process.Process) -> None:
        """Cut the connections of a killed process."""
        for connection in list(self.connections):
            if connection.process is dead:
                connection.cut()

    def _unnoticed(self, ticks: Iterable[Tick]) -> None:
        self.unnoticed.update((tick.kind, tick.symbol, tick.identity) for tick in ticks)

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
