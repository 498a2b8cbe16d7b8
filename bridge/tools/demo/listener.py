"""A subscriber to everything the bridge publishes in Redis, as any consumer may be one."""

import asyncio
import time
from collections import Counter, deque

import msgspec

from bridge.client import RedisReader
from bridge.telemetry import FINE_BOUNDS_S, Histogram

# How long after the bridge has ended its last messages may still be on their way.
CATCH_UP_TIMEOUT_S = 1.0


class _Message(msgspec.Struct, gc=False):
    """What the listener wants to know of an event; `received` in microseconds."""

    symbol: str
    received: int


_decode = msgspec.json.Decoder(_Message).decode


class Listener:
    """Counts messages by symbol, and for each the time from its frame's arrival to us.

    `first_s`: when the first came, on the monotonic clock.
    """

    def __init__(self) -> None:
        self.messages: Counter[str] = Counter()
        self.count = 0
        self.latency = Histogram(FINE_BOUNDS_S)
        self.most_in_a_second = 0
        self.first_s: float | None = None
        self._last_second: deque[int] = deque()
        self._arrived = asyncio.Event()

    async def listen(self, reader: RedisReader) -> None:
        """Take messages for ever. Raises SinkUnavailable where Redis is gone."""
        async for value in reader.values():
            self._take(_decode(value), time.time_ns() // 1000)
            self._arrived.set()

    async def catch_up(self, count: int) -> None:
        """Return when `count` messages have come, or no more can be expected."""
        try:
            async with asyncio.timeout(CATCH_UP_TIMEOUT_S):
                while self.count < count:
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            pass

    def _take(self, message: _Message, now: int) -> None:
        if self.first_s is None:
            self.first_s = time.monotonic()
        self.count += 1
        self.messages[message.symbol] += 1
        self.latency.observe(max(0, now - message.received) / 1e6)
        self._last_second.append(message.received)
        while self._last_second[0] <= message.received - 1_000_000:
            self._last_second.popleft()
        self.most_in_a_second = max(self.most_in_a_second, len(self._last_second))
