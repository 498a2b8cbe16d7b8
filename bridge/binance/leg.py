"""One leg over its whole life: a set of streams, and one connection after another that has them."""

import asyncio
from collections.abc import Iterable
from enum import StrEnum
from typing import Protocol

import structlog
from websockets.asyncio.client import ClientConnection

from bridge import settings
from bridge.binance.connection import open_leg
from bridge.binance.gate import Gate
from bridge.core.decode import Decoder
from bridge.core.streams import Stream, streams_path
from bridge.core.wire import Reply, ServerShutdown
from bridge.errors import FeedRefused, FeedUnavailable, InvalidFrame, ReconnectCause
from bridge.retry import Backoff, forever
from bridge.telemetry import FeedCounts

# A leg that has worked and is then refused (a firewall's mood, a region's block) tries again this
# rarely; the other legs go on.
REFUSED_RETRY_S = 300.0

log = structlog.get_logger(__name__)


class Pump(Protocol):
    """Where frames go: the pipeline, as far as a leg knows it."""

    counts: FeedCounts

    def pump(
        self, decoder: Decoder, frames: list[bytes], received: int, control: "Control"
    ) -> None: ...

    def invalid(self, error: InvalidFrame, payload: bytes, received: int) -> None: ...

    def interrupted(self, streams: Iterable[Stream], cause: str) -> None: ...


class Control(Protocol):
    """Who takes the frames that are about the connection."""

    def __call__(self, message: Reply | ServerShutdown, /) -> None: ...


class State(StrEnum):
    """What a leg is doing."""

    CONNECTING = "connecting"
    OPEN = "open"
    REFUSED = "refused"


class Leg:
    """Keeps its streams connected until it is cancelled."""

    def __init__(
        self, name: str, streams: list[Stream], options: settings.Binance, pump: Pump, gate: Gate
    ) -> None:
        self.name = name
        self.streams = streams
        self.state = State.CONNECTING
        self._options = options
        self._pump = pump
        self._gate = gate
        self._decoder = Decoder(streams)
        self._backoff = Backoff(options.reconnect_max_delay_s)
        self._ended = asyncio.Event()
        self._end_cause: ReconnectCause = "closed"
        self._was_open = False
        self._log = log.bind(leg=name)

    async def run(self) -> None:
        """Connect, stay, and connect again, for ever.

        Raises FeedRefused if the exchange refuses what the settings ask for, unless it has once
        accepted it.
        """
        async for attempt in forever(self._backoff, FeedUnavailable, on_retry=self._on_retry):
            with attempt:
                await self._session()

    def silent(self) -> list[str]:
        """The streams that have never sent anything."""
        return [s.name for s in self.streams if s.name not in self._decoder.last_received]

    def frames(self, frames: list[bytes], received: int) -> None:
        self._pump.pump(self._decoder, frames, received, self._control)

    def binary(self, payload: bytes, received: int) -> None:
        self._pump.invalid(InvalidFrame("binary", f"{len(payload)} bytes"), payload, received)

    def lost(self) -> None:
        self._ended.set()

    async def _session(self) -> None:
        """One connection, from the gate to its end."""
        await self._gate.wait()
        self._ended.clear()
        self._end_cause = "closed"
        seen = self._decoder.last_received.copy()
        connection = await self._open()
        self.state = State.OPEN
        self._was_open = True
        self._log.info("leg_open", streams=len(self.streams))
        try:
            await self._stay()
        finally:
            self.state = State.CONNECTING
            await connection.close()
            self._pump.interrupted(self.streams, self._end_cause)
        if self._decoder.last_received != seen:
            self._backoff.worked()
        raise self._why(connection)

    async def _open(self) -> ClientConnection:
        microseconds = self._options.time_unit == "microsecond"
        path = streams_path(self.streams, microseconds=microseconds)
        try:
            return await open_leg(self._options, path, self)
        except FeedRefused as error:
            if not self._was_open:
                raise
            self.state = State.REFUSED
            raise FeedUnavailable(str(error), REFUSED_RETRY_S, cause="refused") from error

    async def _stay(self) -> None:
        """Until the connection ends; names the streams that miss their first-message deadline."""
        try:
            async with asyncio.timeout(self._options.first_message_timeout_s):
                await self._ended.wait()
        except TimeoutError:
            self._report_silent()
            await self._ended.wait()

    def _report_silent(self) -> None:
        for name in self.silent():
            self._log.warning(
                "stream_silent",
                stream=name,
                waited_s=self._options.first_message_timeout_s,
                remedy="a quiet market, or a name the exchange does not know: check it",
            )

    def _control(self, message: Reply | ServerShutdown, /) -> None:
        if isinstance(message, ServerShutdown):
            self._end_cause = "server_shutdown"
            self._ended.set()
        elif error := message.error or message.msg:
            self._log.error("exchange_error", request=message.request_id, error=str(error))

    def _why(self, connection: ClientConnection) -> FeedUnavailable:
        closed = connection.protocol.close_exc
        if closed.sent and closed.sent.reason == "keepalive ping timeout":  # the library's words
            self._end_cause = "keepalive"
        where = self._options.websocket_url
        return FeedUnavailable(f"{where} ended: {closed}", cause=self._end_cause)

    def _on_retry(self, error: Exception, delay_s: float) -> None:
        if isinstance(error, FeedUnavailable):
            self._pump.counts.reconnects[error.cause] += 1
            if error.cause == "quiet":
                self._gate.close_for(error.retry_after_s or 0.0)
        self._log.warning("leg_down", error=str(error), retry_in_s=round(delay_s, 2))
