"""The interface of a WebSocket connection, which two libraries implement.

A connection hands over its frames inside the read callback, all frames of one read together:
`recv()` in a loop costs 7-8 us a frame.
"""

import asyncio
import time
from typing import Protocol

# This is above the decoder's own bound on purpose. A frame that is too large for the decoder must
# not close the connection, as the library's limit does (close code 1009). Memory still has a bound.
MAX_WIRE_BYTES = 2**24
CLOSE_TIMEOUT_S = 2.0
# We send only pings and pongs. An exchange that does not read them gets no more of them.
MAX_UNSENT_BYTES = 2**16


class FrameListener(Protocol):
    """Receives the frames of a connection."""

    def on_frames(self, frames: list[bytes], received: int) -> None:
        """Take the text frames of one read, which arrived at `received` (microseconds)."""
        ...

    def on_binary(self, payload: bytes, received: int) -> None:
        """Take a binary frame. The exchange sends none."""
        ...

    def on_lost(self) -> None:
        """Note that a connection that was open is closed, whoever closed it."""
        ...


class WebSocket(Protocol):
    """A connection that is or was open."""

    @property
    def has_missed_pong(self) -> bool:
        """Return whether it was closed because our ping was not answered."""
        ...

    @property
    def has_close_frame(self) -> bool:
        """Return whether the exchange has sent a close frame. Then every earlier frame has
        arrived.
        """
        ...

    @property
    def ending(self) -> str:
        """Describe how it was closed, for people."""
        ...

    async def close(self) -> None:
        """Close it within a bounded time, and hand over the frames that still arrive."""
        ...


def unsent_fault(transport: asyncio.WriteTransport) -> str:
    """Return why to break a connection off whose pongs are not read; empty if they are."""
    if transport.get_write_buffer_size() <= MAX_UNSENT_BYTES:
        return ""
    return f"the exchange does not read: {MAX_UNSENT_BYTES} bytes of pongs wait"


class FrameBatch:
    """The messages of one read, and the parts of a message that is not complete yet.

    The connection appends text messages to `texts` itself: a method call would double the cost of
    a frame.
    """

    __slots__ = ("_binary", "_is_text", "_listener", "_part", "texts")

    def __init__(self, listener: FrameListener) -> None:
        self._listener = listener
        self.texts: list[bytes] = []
        self._binary: list[bytes] = []
        self._part = bytearray()
        self._is_text = True

    def add_part(self, payload: bytes, *, is_text: bool | None, is_last: bool) -> None:
        """Add a binary message or a part of a message. `is_text` is None if it continues a
        message.

        Raises OverflowError if the message has more than MAX_WIRE_BYTES.
        """
        if is_text is not None:
            self._is_text = is_text
        self._part += payload
        if len(self._part) > MAX_WIRE_BYTES:
            self._part.clear()
            raise OverflowError(f"the exchange sends a message of more than {MAX_WIRE_BYTES} bytes")
        if is_last:
            messages = self.texts if self._is_text else self._binary
            messages.append(bytes(self._part))
            self._part.clear()

    def hand_over(self) -> None:
        """Give all messages to the listener."""
        if not (self.texts or self._binary):
            return
        received = time.time_ns() // 1000
        texts, self.texts = self.texts, []
        binary, self._binary = self._binary, []
        self._listener.on_frames(texts, received)
        for payload in binary:
            self._listener.on_binary(payload, received)
