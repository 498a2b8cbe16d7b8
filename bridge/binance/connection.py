"""One connection of a leg, from its opening to its end."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

import structlog

from bridge import settings
from bridge.binance.transport.base import Connection, open_leg
from bridge.core.binance.decode import Decoder
from bridge.core.binance.wire import Reply, ServerShutdown
from bridge.core.model.stream import Stream, streams_path
from bridge.core.sequencing.arrivals import Arrivals
from bridge.core.sequencing.handover import Joining
from bridge.errors import InvalidFrame, ReconnectCause
from bridge.telemetry import FeedCounts


class Control(Protocol):
    """Who takes the frames that are about the connection."""

    def __call__(self, message: Reply | ServerShutdown, /) -> None: ...


class Pump(Protocol):
    """Where frames go: the pipeline, as far as a leg knows it."""

    counts: FeedCounts

    def pump(  # noqa: PLR0913 (one connection's)
        self,
        decoder: Decoder,
        frames: list[bytes],
        received: int,
        control: Control,
        arrivals: Arrivals,
        *,
        joining: Joining | None = None,
    ) -> None: ...

    def joined(self, joining: Joining, cause: str, arrivals: Arrivals) -> None: ...

    def invalid(self, error: InvalidFrame, payload: bytes, received: int) -> None: ...

    def interrupted(self, streams: Iterable[Stream], cause: str) -> None: ...


class Session:
    """Hands its frames on; `over` is set when it has ended or is announced to end.

    `leg` is the label of its leg, `streams` has what it brings, by name; `joining` is there while
    it may not overtake another connection.
    """

    def __init__(
        self,
        leg: str,
        streams: list[Stream],
        pump: Pump,
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self.leg = leg
        self.streams = {stream.name: stream for stream in streams}
        self.decoder = Decoder(streams)
        self.joining: Joining | None = None
        self.frames_received = 0
        self.opened_s = 0.0
        self.is_silent = False
        self.is_lost = False
        self.over = asyncio.Event()
        self._pump = pump
        self._arrivals = Arrivals()
        self._on_lost: Callable[[Session], None] = lambda _session: None
        self._log = log
        self._announced = False
        self._connection: Connection | None = None

    @property
    def cause(self) -> ReconnectCause:
        """Why it is over."""
        if self._announced:
            return "server_shutdown"
        missed_pong = self._connection is not None and self._connection.has_missed_pong
        return "keepalive" if missed_pong else "closed"

    @property
    def is_whole(self) -> bool:
        """Whether everything has come that was sent over it: it ended, and not by breaking off."""
        return self._connection is not None and self._connection.has_close_frame

    @property
    def ending(self) -> str:
        """How it ended, for people."""
        if not self.is_lost:
            return "the exchange announced the end of the connection"
        return f"ended: {self._connection.ending}" if self._connection else "ended"

    def attach(self, arrivals: Arrivals, on_lost: Callable[["Session"], None]) -> None:
        """Say who counts its events, and who is to be told when it is gone."""
        self._arrivals, self._on_lost = arrivals, on_lost

    def age_s(self) -> float:
        """Seconds since it opened."""
        return asyncio.get_running_loop().time() - self.opened_s

    async def open(self, options: settings.Binance) -> None:
        """Connect. Raises FeedRefused where trying again cannot help, FeedUnavailable where it
        may.
        """
        streams = list(self.streams.values())
        path = streams_path(streams, microseconds=options.time_unit == "microsecond")
        self._connection = await open_leg(options, path, self)
        self.opened_s = asyncio.get_running_loop().time()

    async def close(self) -> None:
        """Close it, taking what is still on its way."""
        if self._connection is not None:
            await self._connection.close()

    def frames(self, frames: list[bytes], received: int) -> None:
        self.frames_received += len(frames)
        self._pump.pump(
            self.decoder, frames, received, self._control, self._arrivals, joining=self.joining
        )

    def binary(self, payload: bytes, received: int) -> None:
        self.frames_received += 1
        self._pump.invalid(InvalidFrame("binary", f"{len(payload)} bytes"), payload, received)

    def joined(self, cause: str) -> None:
        """There is no other connection to wait for any more, for this cause."""
        if self.joining is not None:
            joining, self.joining = self.joining, None
            self._pump.joined(joining, cause, self._arrivals)

    def lost(self) -> None:
        self.is_lost = True
        self.over.set()
        self._on_lost(self)

    def _control(self, message: Reply | ServerShutdown, /) -> None:
        if isinstance(message, ServerShutdown):
            self._announced = True
            self.over.set()
        elif error := message.error or message.msg:
            self._log.error("exchange_error", request=message.request_id, error=str(error))
