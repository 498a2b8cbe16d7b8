"""Limits what is sent to the exchange: new connections, and anything while the exchange refuses us.

The exchange allows 300 connections in five minutes from one address. The bridges of a group share
them, because they may have one address. Request weight needs no share: the exchange tells each of
them how much of it all programs on the address have used. After a 418 or 429 nothing may
be sent for a while: to continue would lead to a ban. The limit of five messages a second needs no
limiter. Streams are part of the URL, so a connection only sends a ping every
`binance.ping_interval_s`, pongs, and a close frame.
"""

import asyncio

from bridge.core.policy.rate_window import Window

# What the exchange allows, and what one bridge uses of it: other programs may share this address.
ALLOWED_PER_WINDOW, CONNECTIONS_PER_WINDOW = 300, 150
WINDOW_S = 300.0


class QuietPeriod:
    """The time in which nothing may be sent.

    REST and the WebSocket have one each, because the exchange refuses them independently.
    """

    def __init__(self) -> None:
        self._until_s = 0.0

    def left_s(self) -> float:
        """Return how long it still lasts, in seconds; 0 if it is over."""
        return max(0.0, self._until_s - asyncio.get_running_loop().time())

    def extend(self, seconds: float) -> None:
        """Let it last for this time from now on, unless it lasts longer anyway."""
        self._until_s = max(self._until_s, asyncio.get_running_loop().time() + seconds)

    async def over(self) -> None:
        """Return when it is over."""
        while left_s := self.left_s():  # noqa: ASYNC110 - it may be extended meanwhile
            await asyncio.sleep(left_s)


class RateLimiter:
    """Limits the connections of the whole process."""

    def __init__(self) -> None:
        self.quiet = QuietPeriod()
        self._window = Window(CONNECTIONS_PER_WINDOW, WINDOW_S)

    def share(self, bridges: int) -> None:
        """Leave the others of so many bridges their part of what the exchange allows."""
        self._window.limit = min(CONNECTIONS_PER_WINDOW, max(1, ALLOWED_PER_WINDOW // bridges))

    async def wait_for_connection(self) -> None:
        """Return when the caller may connect."""
        while True:
            await self.quiet.over()
            await asyncio.sleep(self._window.reserve(asyncio.get_running_loop().time()))
            if not self.quiet.left_s():
                return
