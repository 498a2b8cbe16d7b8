"""Limits new connections and requests to the exchange.

The limiter keeps the limit of 300 connections in five minutes from one address. After a 418 or 429
it stops all connections and requests: to continue would lead to a ban. The limit of five messages a
second needs no limiter. Streams are part of the URL, so a connection only sends a ping every
`binance.ping_interval_s`, pongs, and a close frame.
"""

import asyncio

from bridge.core.policy.rate_window import Window

# Half of what the exchange allows: other programs may share this address.
CONNECTIONS_PER_WINDOW = 150
WINDOW_S = 300.0


class RateLimiter:
    """One for the whole process."""

    def __init__(self) -> None:
        self._window = Window(CONNECTIONS_PER_WINDOW, WINDOW_S)
        self._closed_until_s = 0.0

    def close_for(self, seconds: float) -> None:
        """Stop all connections and requests for this time."""
        until_s = asyncio.get_running_loop().time() + seconds
        self._closed_until_s = max(self._closed_until_s, until_s)

    async def wait_for_request(self) -> None:
        """Return when the caller may send a request. A request does not count as a connection."""
        now_s = asyncio.get_running_loop().time
        while now_s() < self._closed_until_s:  # noqa: ASYNC110 - it may be extended meanwhile
            await asyncio.sleep(self._closed_until_s - now_s())

    async def wait_for_connection(self) -> None:
        """Return when the caller may connect. The limiter may be closed while the caller waits."""
        now_s = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(self._closed_until_s - now_s())
            await asyncio.sleep(self._window.reserve(now_s()))
            if now_s() >= self._closed_until_s:
                return
