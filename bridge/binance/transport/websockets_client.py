"""A WebSocket connection with `websockets`, the default: it supports deflate, and is written in
Python.

A subclass of the library's connection gets each frame when it is parsed, which costs 4.5 us.
"""

from functools import partial
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.frames import Frame, Opcode

from bridge import settings
from bridge.binance.failures import from_exception
from bridge.binance.proxy import proxy_of
from bridge.binance.transport.base import (
    CLOSE_TIMEOUT_S,
    MAX_WIRE_BYTES,
    FrameBatch,
    FrameListener,
    unsent_fault,
)
from bridge.binance.transport.turns import Turns

# A read may hold 256 KiB: over 5,000 compressed frames, and 55 ms of work. It is processed in
# pieces of this size, one in a turn of the event loop (see `turns`).
PIECE_BYTES = 2**15
_DATA = frozenset((Opcode.TEXT, Opcode.BINARY, Opcode.CONT))


class WebsocketsConnection(ClientConnection):
    """Collects the text frames of each read, and hands them over at its end."""

    def __init__(self, listener: FrameListener, turns: Turns, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._listener = listener
        self._turns = turns
        self._batch = FrameBatch(listener)
        self._unread = b""
        # Why we have broken it off.
        self._fault = ""

    @property
    def has_missed_pong(self) -> bool:
        """Return whether our ping was not answered."""
        closed = self.protocol.close_sent
        # This is the library's own text.
        return closed is not None and closed.reason == "keepalive ping timeout"

    @property
    def has_close_frame(self) -> bool:
        """Return whether the exchange has sent a close frame."""
        return self.protocol.close_rcvd is not None

    @property
    def ending(self) -> str:
        """Describe how it was closed, for people."""
        return self._fault or str(self.protocol.close_exc)

    def data_received(self, data: bytes) -> None:
        if self._unread:
            self._unread += data
        elif len(data) <= PIECE_BYTES and self._turns.may_proceed():
            self._receive(data)
            self._turns.spend(len(data) / PIECE_BYTES)
        else:
            self._unread = data
            self.transport.pause_reading()
            self._turns.take(self._receive_piece)

    def eof_received(self) -> None:
        # TLS reports the end together with the last data, while pieces of it may still wait.
        self._receive_rest()
        super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._receive_rest()
        super().connection_lost(exc)
        # A redirect closes a connection that was never open, and opens another.
        if self.protocol.handshake_exc is None:
            self._listener.on_lost()

    def _receive(self, data: bytes) -> None:
        super().data_received(data)
        self._batch.hand_over()
        if fault := unsent_fault(self.transport):
            self._fault = fault
            self.transport.abort()
        elif self.close_deadline is not None and self.loop.time() > self.close_deadline:
            self.transport.abort()  # the exchange sends on after a close frame

    def _receive_piece(self) -> None:
        if not self._unread:
            return
        piece, self._unread = self._unread[:PIECE_BYTES], self._unread[PIECE_BYTES:]
        self._receive(piece)
        self._turns.spend(len(piece) / PIECE_BYTES)
        if self._unread:
            self._turns.wait(self._receive_piece)
        elif not self.transport.is_closing():
            self.transport.resume_reading()

    def _receive_rest(self) -> None:
        """Process what was read before the connection was closed: it has arrived."""
        rest, self._unread = self._unread, b""
        if rest:
            self._receive(rest)

    def process_event(self, event: Any) -> None:
        if isinstance(event, Frame) and event.opcode in _DATA:
            self._collect(event)
        else:
            super().process_event(event)

    def _collect(self, frame: Frame) -> None:
        # Without compression this is a bytearray, which cannot be a key.
        payload = bytes(frame.data)
        if frame.opcode is Opcode.TEXT and frame.fin:
            self._batch.texts.append(payload)
        else:
            is_text = None if frame.opcode is Opcode.CONT else frame.opcode is Opcode.TEXT
            self._batch.add_part(payload, is_text=is_text, is_last=frame.fin)


async def open_with_websockets(
    options: settings.Binance, path: str, listener: FrameListener, turns: Turns
) -> WebsocketsConnection:
    """Connect. Raises FeedRefused if trying again cannot help, FeedUnavailable if it may."""
    try:
        connection = await connect(
            options.websocket_url + path,
            compression=None if options.compression == "none" else options.compression,
            proxy=proxy_of(options, options.websocket_url),
            open_timeout=options.connect_timeout_s,
            ping_interval=options.ping_interval_s,
            ping_timeout=options.ping_timeout_s,
            close_timeout=CLOSE_TIMEOUT_S,
            max_size=MAX_WIRE_BYTES,
            create_connection=partial(WebsocketsConnection, listener, turns),  # type: ignore[arg-type]
        )
    except (WebSocketException, OSError, EOFError) as error:
        raise from_exception(error, options.websocket_url) from error
    assert isinstance(connection, WebsocketsConnection)  # noqa: S101  # as requested above
    return connection
