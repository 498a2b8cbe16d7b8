"""A subscriber to all Redis channels of the bridge, like any consumer."""

import asyncio
import time
from collections import Counter, deque

import msgspec

from bridge.client import RedisFeed
from bridge.telemetry import FINE_BOUNDS_S, Histogram

# After the bridge has stopped, its last messages may take this long to arrive.
CATCH_UP_TIMEOUT_S = 1.0


class _Message(msgspec.Struct, gc=False):
    """The fields of an event that the listener needs. `received` is in microseconds."""

    symbol: str
    received: int


_decode = msgspec.json.Decoder(_Message).decode


class Listener:
    """Counts messages by symbol, and measures the time from frame arrival to subscriber.

    `first_s` is the monotonic time of the first message.
    """

    def __init__(self) -> None:
        self.messages: Counter[str] = Counter()
        self.count = 0
        self.latency = Histogram(FINE_BOUNDS_S)
        self.most_in_a_second = 0
        self.first_s: float | None = None
        self._last_second: deque[int] = deque()
        self._arrived = asyncio.Event()

    async def listen(self, reader: RedisFeed) -> None:
        """Read messages until cancelled. Raises SinkUnavailable if Redis cannot be reached."""
        async for value in reader.values():
            self._take(_decode(value), time.time_ns() // 1000)
            self._arrived.set()

    async def catch_up(self, count: int) -> None:
        """Wait until `count` messages have come, at most CATCH_UP_TIMEOUT_S."""
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
