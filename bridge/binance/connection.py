"""One leg: a WebSocket connection that hands over its frames in the read callback itself.

`recv()` in a loop costs 7-8 us a frame, a subclass that sees each frame as it is parsed 4.5; and
nothing pauses reading, which would also hold back the pongs and end the connection.
"""

import time
from functools import partial
from typing import Any, Protocol

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.frames import Frame, Opcode

from bridge import settings
from bridge.binance.failures import from_exception

# Above the decoder's own bound on purpose: a frame too large to use must not cost the leg, as the
# library's limit would (close 1009). Beyond this one it does: memory has a bound too.
MAX_WIRE_BYTES = 2**24
CLOSE_TIMEOUT_S = 2.0
# A read may hold 256 KiB, which is over 5,000 frames if compressed, and 55 ms of work. It is worked
# off in pieces of this size, and between two of them the sinks get their turn. Measured: without
# that they got one turn in 10,000 frames, and Redis dropped a third of what it now keeps up with.
PIECE_BYTES = 2**15
_DATA = frozenset((Opcode.TEXT, Opcode.BINARY, Opcode.CONT))


class Receiver(Protocol):
    """Where a leg's frames go."""

    def frames(self, frames: list[bytes], received: int) -> None:
        """Text frames of one read, and when it was, in microseconds."""
        ...

    def binary(self, payload: bytes, received: int) -> None:
        """A binary frame; the exchange sends none."""
        ...

    def lost(self) -> None:
        """A connection that had been open is gone, whoever ended it."""
        ...


class LegConnection(ClientConnection):
    """Collects the text frames of each read and hands them over at its end."""

    def __init__(self, receiver: Receiver, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._receiver = receiver
        self._frames: list[bytes] = []
        self._binary: list[bytes] = []
        self._unread = b""
        self._parts: list[bytes] = []
        self._parts_opcode = Opcode.TEXT

    def data_received(self, data: bytes) -> None:
        if len(data) <= PIECE_BYTES:
            self._receive(data)
        else:
            self.transport.pause_reading()
            self._unread = data
            self._receive_piece()

    def eof_received(self) -> None:
        # TLS reports the end beside the last data, while pieces of that may still wait.
        self._receive_rest()
        super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._receive_rest()
        super().connection_lost(exc)
        # A redirect ends one connection on the way to another: that one was never open.
        if self.protocol.handshake_exc is None:
            self._receiver.lost()

    def _receive(self, data: bytes) -> None:
        super().data_received(data)
        if self._frames or self._binary:
            self._hand_over(time.time_ns() // 1000)

    def _receive_piece(self) -> None:
        if not self._unread:
            return
        piece, self._unread = self._unread[:PIECE_BYTES], self._unread[PIECE_BYTES:]
        self._receive(piece)
        if self._unread:
            self.loop.call_soon(self._receive_piece)
        elif not self.transport.is_closing():
            self.transport.resume_reading()

    def _receive_rest(self) -> None:
        """What had been read when the connection went: it did arrive."""
        rest, self._unread = self._unread, b""
        if rest:
            self._receive(rest)

    def process_event(self, event: Any) -> None:
        if isinstance(event, Frame) and event.opcode in _DATA:
            self._collect(event)
        else:
            super().process_event(event)

    def _collect(self, frame: Frame) -> None:
        if frame.opcode is Opcode.TEXT and frame.fin:
            # Uncompressed it is a bytearray, which cannot be looked up by.
            self._frames.append(bytes(frame.data))
        else:
            self._collect_unusual(frame)

    def _collect_unusual(self, frame: Frame) -> None:
        """Binary frames, and messages in several frames."""
        if frame.opcode is not Opcode.CONT:
            self._parts_opcode = frame.opcode
        self._parts.append(bytes(frame.data))
        if frame.fin:
            message = b"".join(self._parts)
            self._parts.clear()
            is_text = self._parts_opcode is Opcode.TEXT
            (self._frames if is_text else self._binary).append(message)

    def _hand_over(self, received: int) -> None:
        frames, self._frames = self._frames, []
        binary, self._binary = self._binary, []
        self._receiver.frames(frames, received)
        for payload in binary:
            self._receiver.binary(payload, received)


async def open_leg(options: settings.Binance, path: str, receiver: Receiver) -> ClientConnection:
    """Connect one leg to `path` (`/stream?streams=...`).

    Raises FeedRefused where trying again cannot help, FeedUnavailable where it may.
    """
    proxy = options.proxy.get_secret_value()
    try:
        return await connect(
            options.websocket_url + path,
            compression=None if options.compression == "none" else options.compression,
            proxy={"environment": True, "none": None}.get(proxy, proxy),
            open_timeout=options.connect_timeout_s,
            ping_interval=options.ping_interval_s,
            ping_timeout=options.ping_timeout_s,
            close_timeout=CLOSE_TIMEOUT_S,
            max_size=MAX_WIRE_BYTES,
            create_connection=partial(LegConnection, receiver),  # type: ignore[arg-type]
        )
    except (WebSocketException, OSError, EOFError) as error:
        raise from_exception(error, options.websocket_url) from error
