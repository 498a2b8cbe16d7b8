"""Viewers of the dashboard in a separate process: they read its events and count the frames.

    python -m bridge.tools.bench.viewers 8080 50

It prints a line when all of them have a frame, and on SIGTERM how many frames each one got a
second.
"""

import asyncio
import signal
import sys
import time

import aiohttp

START_TIMEOUT_S = 30.0


class Viewers:
    """`count` viewers of the dashboard at a port of this machine."""

    def __init__(self, port: int, count: int) -> None:
        self._url = f"http://127.0.0.1:{port}/dashboard/events"
        self._count = count
        self.frames = 0
        self._started = asyncio.Semaphore(0)

    async def run(self) -> None:
        """View until SIGTERM."""
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        connector, forever = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=None)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=forever) as session,
            asyncio.TaskGroup() as group,
        ):
            viewing = [group.create_task(self._view(session)) for _ in range(self._count)]
            async with asyncio.timeout(START_TIMEOUT_S):
                for _ in viewing:
                    await self._started.acquire()
            began_s, frames = time.monotonic(), self.frames
            print("viewing", flush=True)  # noqa: T201 - the parent reads it
            await stop.wait()
            rate = (self.frames - frames) / (time.monotonic() - began_s) / self._count
            print(rate, flush=True)  # noqa: T201
            for task in viewing:
                task.cancel()

    async def _view(self, session: aiohttp.ClientSession) -> None:
        async with session.get(self._url) as answer:
            answer.raise_for_status()
            is_first = True
            async for part in answer.content.iter_any():
                # `prices` and `all_prices`, of which each frame has one.
                self.frames += part.count(b"prices\ndata")
                if is_first:
                    is_first = False
                    self._started.release()


if __name__ == "__main__":
    asyncio.run(Viewers(int(sys.argv[1]), int(sys.argv[2])).run())
