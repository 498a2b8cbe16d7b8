"""Plays a market to its audience on one clock: in real time, at a multiple of it, or flat out."""

import asyncio

from bridge.tools.simulator.audience import Audience
from bridge.tools.simulator.errors import SimulatorError
from bridge.tools.simulator.history import History
from bridge.tools.simulator.source import Source

BATCH_MESSAGES = 512
# uvloop counts in milliseconds. A shorter sleep would not wait: the player would spin until the
# next message, on the core that its clients need.
TICK_S = 0.001


class Player:
    """Plays one market. `speed` is a multiple of real time, None for flat out.

    Flat out, it plays as fast as the slowest subscriber reads, and waits while there is no
    subscriber, so that nothing is lost. At a finite speed it plays on without a subscriber.
    `finished` is set when everything has been played once and, flat out or at the very end,
    written to the sockets. `played_s` is the seconds of the market since play began.
    """

    def __init__(
        self, source: Source, history: History, audience: Audience, speed: float | None
    ) -> None:
        if speed is not None and speed <= 0:
            raise SimulatorError(
                f"speed {speed:g} is not possible; give one above 0, or inf for flat out"
            )
        self.finished = asyncio.Event()
        self.played_s = 0.0
        self._source = source
        self._history = history
        self._audience = audience
        self._speed = None if speed == float("inf") else speed

    async def play(self) -> None:
        """Play from the moment enough streams are wanted until the market ends."""
        await self._audience.gathered.wait()
        self._source.begin()
        if self._speed is None:
            await self._play_flat_out()
        else:
            await self._play_in_time(self._speed)
        await self._audience.flushed()
        self.finished.set()

    async def _play_flat_out(self) -> None:
        while self._source.due_us() is not None:
            await self._audience.present.wait()
            self._play_batch(None)
            await self._audience.caught_up()
            await asyncio.sleep(0)  # let other tasks run
            if self._source.played_once and not self.finished.is_set():
                await self._audience.flushed()
                self.finished.set()

    async def _play_in_time(self, speed: float) -> None:
        clock = asyncio.get_running_loop().time
        begun = clock()
        while (due_us := self._source.due_us()) is not None:
            await asyncio.sleep(max(TICK_S, begun + due_us / 1e6 / speed - clock()))
            self._play_batch(int((clock() - begun) * speed * 1e6))
            self._audience.leave_the_slow_behind()
            if self._source.played_once and self._source.due_us() is not None:
                self.finished.set()

    def _play_batch(self, until_us: int | None) -> None:
        messages = self._source.take(until_us, BATCH_MESSAGES)
        reached_us = self._source.due_us() if until_us is None else until_us
        if reached_us is not None:
            self.played_s = reached_us / 1e6
        self._history.record(messages)
        self._audience.deliver(messages)
