"""One WebSocket connection, from opening to close."""

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import Protocol

import structlog

from bridge import settings
from bridge.binance.transport.base import WebSocket
from bridge.binance.transport.connect import open_websocket
from bridge.binance.transport.turns import Turns
from bridge.core.binance.decode import Decoder
from bridge.core.binance.stream_names import streams_path
from bridge.core.binance.wire import Reply, ServerShutdown
from bridge.core.model.stream import Stream
from bridge.core.sequencing.arrivals import Arrivals
from bridge.core.sequencing.handover import Handover
from bridge.errors import InvalidFrame, ReconnectCause, shorten
from bridge.telemetry import FeedCounts, now_us


class Control(Protocol):
    """Takes the frames that are about the connection."""

    def __call__(self, message: Reply | ServerShutdown, /) -> None: ...


class FrameHandler(Protocol):
    """Takes frames: the pipeline, as far as a connection knows it.

    `on_open` is called each time a connection has opened.
    """

    counts: FeedCounts
    on_open: Callable[[], None]

    def handle_frames(  # noqa: PLR0913 (one connection's)
        self,
        decoder: Decoder,
        frames: list[bytes],
        received: int,
        control: Control,
        arrivals: Arrivals,
        *,
        handover: Handover | None = None,
    ) -> None: ...

    def finish_handover(
        self, handover: Handover, cause: str, arrivals: Arrivals, carried: Collection[str]
    ) -> None: ...

    def handle_invalid(self, error: InvalidFrame, payload: bytes, received: int) -> None: ...

    def mark_interrupted(self, streams: Iterable[Stream], cause: str) -> None: ...


class Connection:
    """Hands its frames to the frame handler. `over` is set when it is closed, or when the exchange
    has announced that it will close it.

    `line` is the line of its connector. `streams` has its streams by name. `handover` is set while
    its events must not overtake those of another connection.
    """

    def __init__(
        self,
        line: str,
        streams: list[Stream],
        handler: FrameHandler,
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self.line = line
        self.streams = {stream.name: stream for stream in streams}
        self.decoder = Decoder(streams)
        self.handover: Handover | None = None
        self.frames_received = 0
        # When the last frame arrived, or else when it opened, in microseconds.
        self.received = 0
        self.opened_s = 0.0
        self.is_stalled = False
        self.is_lost = False
        self.over = asyncio.Event()
        self._handler = handler
        self._arrivals = Arrivals()
        self._on_lost: Callable[[Connection], None] = lambda _websocket: None
        self._log = log
        self._announced = False
        self._websocket: WebSocket | None = None

    @property
    def cause(self) -> ReconnectCause:
        """Return why it is over."""
        if self._announced:
            return "server_shutdown"
        missed_pong = self._websocket is not None and self._websocket.has_missed_pong
        return "ping_timeout" if missed_pong else "closed"

    @property
    def is_whole(self) -> bool:
        """Return whether everything that was sent has arrived: it was closed, not broken off."""
        return self._websocket is not None and self._websocket.has_close_frame

    @property
    def ending(self) -> str:
        """Describe how it was closed, for people."""
        if not self.is_lost:
            return "the exchange announced that it will close the connection"
        return f"closed: {shorten(self._websocket.ending)}" if self._websocket else "closed"

    def attach(self, arrivals: Arrivals, on_lost: Callable[["Connection"], None]) -> None:
        """Set what counts its events, and what is called when it is closed."""
        self._arrivals, self._on_lost = arrivals, on_lost

    def age_s(self) -> float:
        """Return the seconds since it opened."""
        return asyncio.get_running_loop().time() - self.opened_s

    async def open(self, options: settings.Binance, turns: Turns) -> None:
        """Connect. `turns` are those of the other connections.

        Raises FeedRefused if trying again cannot help, FeedUnavailable if it may.
        """
        streams = list(self.streams.values())
        path = streams_path(streams, microseconds=options.time_unit == "microsecond")
        self._websocket = await open_websocket(options, path, self, turns)
        self.opened_s = asyncio.get_running_loop().time()
        self.received = self.received or now_us()

    async def close(self) -> None:
        """Close it, and hand over the frames that still arrive."""
        if self._websocket is not None:
            await self._websocket.close()

    def on_frames(self, frames: list[bytes], received: int) -> None:
        self.frames_received += len(frames)
        self.received = received
        self._handler.counts.frames += len(frames)
        self._handler.handle_frames(
            self.decoder, frames, received, self._control, self._arrivals, handover=self.handover
        )

    def on_binary(self, payload: bytes, received: int) -> None:
        self.frames_received += 1
        self._handler.counts.frames += 1
        self._handler.handle_invalid(
            InvalidFrame("binary", f"{len(payload)} bytes"), payload, received
        )

    def finish_handover(self, cause: str, carried: Collection[str] = ()) -> None:
        """Stop waiting for older connections, for this cause, except for the streams that one of
        them still carries.
        """
        handover = self.handover
        if handover is not None and not handover.streams.issubset(carried):
            if handover.streams.isdisjoint(carried):
                self.handover = None
            self._handler.finish_handover(handover, cause, self._arrivals, carried)

    def on_lost(self) -> None:
        self.is_lost = True
        self.over.set()
        self._on_lost(self)

    def _control(self, message: Reply | ServerShutdown, /) -> None:
        if isinstance(message, ServerShutdown):
            self._announced = True
            self.over.set()
        elif error := message.error or message.msg:
            self._log.error("exchange_error", request=message.request_id, error=shorten(str(error)))
