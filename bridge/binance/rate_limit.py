"""What every new connection and request to the exchange passes.

It keeps to the limit of 300 connections in five minutes from one address, and closes for everybody
when anybody has been told to be quiet (418, 429): going on would earn a ban. The limit of five
messages a second is kept without it: streams stand in the URL, so a connection sends only a ping
every `binance.ping_interval_s`, its pongs and its close.
"""

import asyncio

from bridge.core.policy.rate_window import Window

# Half of what the exchange allows: others may share this address.
CONNECTIONS_PER_WINDOW = 150
WINDOW_S = 300.0


class RateLimiter:
    """One for the whole process."""

    def __init__(self) -> None:
        self._window = Window(CONNECTIONS_PER_WINDOW, WINDOW_S)
        self._closed_until_s = 0.0

    def close_for(self, seconds: float) -> None:
        """Let nobody through for so long."""
        until_s = asyncio.get_running_loop().time() + seconds
        self._closed_until_s = max(self._closed_until_s, until_s)

    async def quiet(self) -> None:
        """Return when the caller may ask something: that takes no connection's place."""
        now_s = asyncio.get_running_loop().time
        while now_s() < self._closed_until_s:  # noqa: ASYNC110 - meanwhile it may be closed again
            await asyncio.sleep(self._closed_until_s - now_s())

    async def wait(self) -> None:
        """Return when the caller may connect; somebody may close the rate limiter while one
        waits.
        """
        now_s = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(self._closed_until_s - now_s())
            await asyncio.sleep(self._window.reserve(now_s()))
            if now_s() >= self._closed_until_s:
                return
