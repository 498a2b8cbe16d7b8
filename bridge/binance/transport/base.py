"""One connector's WebSocket connection, whichever library carries it: what goes in, what comes out.

A connection hands its frames over in the read callback itself, a whole read at a time: `recv()` in
a loop costs 7-8 us a frame, and nothing here ever pauses reading, which would also hold back the
pongs and end the connection.
"""

import time
from typing import Protocol

from bridge import settings
from bridge.errors import FeedRefused

# Above the decoder's own bound on purpose: a frame too large to use must not cost the connector,
# as the library's limit would (close 1009). Beyond this one it does: memory has a bound too.
MAX_WIRE_BYTES = 2**24
CLOSE_TIMEOUT_S = 2.0


class FrameListener(Protocol):
    """Where a connector's frames go."""

    def frames(self, frames: list[bytes], received: int) -> None:
        """Text frames of one read, and when it was, in microseconds."""
        ...

    def binary(self, payload: bytes, received: int) -> None:
        """A binary frame; the exchange sends none."""
        ...

    def lost(self) -> None:
        """A connection that had been open is gone, whoever ended it."""
        ...


class WebSocket(Protocol):
    """An open connection, or one that was."""

    @property
    def has_missed_pong(self) -> bool:
        """Whether it was ended because our ping was not answered."""
        ...

    @property
    def has_close_frame(self) -> bool:
        """Whether the exchange has closed it, or agreed to: what it had sent before has come."""
        ...

    @property
    def ending(self) -> str:
        """How it ended, for people."""
        ...

    async def close(self) -> None:
        """Close it, taking what is still on its way; in a bounded time."""
        ...


class FrameBatch:
    """The messages of one read, and the parts of one that is not whole yet.

    `texts` are for the connection to append to: a method call a frame would cost as much as that.
    """

    __slots__ = ("_binary", "_is_text", "_listener", "_parts", "texts")

    def __init__(self, listener: FrameListener) -> None:
        self._listener = listener
        self.texts: list[bytes] = []
        self._binary: list[bytes] = []
        self._parts: list[bytes] = []
        self._is_text = True

    def add_part(self, payload: bytes, *, is_text: bool | None, is_last: bool) -> None:
        """Take a binary message, or a part of one; `is_text` is None where it continues another."""
        if is_text is not None:
            self._is_text = is_text
        self._parts.append(payload)
        if is_last:
            message = b"".join(self._parts)
            self._parts.clear()
            (self.texts if self._is_text else self._binary).append(message)

    def hand_over(self) -> None:
        """Give the listener all messages collected."""
        if not (self.texts or self._binary):
            return
        received = time.time_ns() // 1000
        texts, self.texts = self.texts, []
        binary, self._binary = self._binary, []
        self._listener.frames(texts, received)
        for payload in binary:
            self._listener.binary(payload, received)


async def open_websocket(
    options: settings.Binance, path: str, listener: FrameListener
) -> WebSocket:
    """Connect one connector to `path` (`/stream?streams=...`).

    Raises FeedRefused where trying again cannot help, FeedUnavailable where it may.
    """
    # Imported here: the one needs what the other stands for, and picows is an extra.
    if options.transport == "websockets":
        from bridge.binance.transport.websockets_client import open_with_websockets

        return await open_with_websockets(options, path, listener)
    try:
        from bridge.binance.transport.picows_client import open_with_picows
    except ImportError as error:
        raise FeedRefused(
            f"binance.transport = picows: {error}",
            'pip install "tickbridge[fast]", or set binance.transport: websockets',
        ) from error
    return await open_with_picows(options, path, listener)
