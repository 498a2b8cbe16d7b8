"""One connected client: its session on a socket."""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.protocol import Event, State

from bridge.tools.simulator.batch import Batch, Form
from bridge.tools.simulator.session import (
    POLICY_VIOLATION,
    TOO_MANY_REQUESTS,
    Close,
    MessageRate,
    Outcome,
    Session,
    Target,
)

BUFFER_BYTES = 16 * 1024 * 1024  # a client with more unsent bytes is too slow
PATIENCE_S = 60.0  # flat-out play waits this long for a client that reads nothing
CLOSE_TIMEOUT_S = 5.0

_GOING_AWAY = 1001
_END_OF_LIFE = Close(_GOING_AWAY, "Connection has reached its maximum life")
_TOO_SLOW = Close(POLICY_VIOLATION, "Too slow")
# Binance counts pings and pongs too.
_COUNTED = frozenset({Opcode.TEXT, Opcode.BINARY, Opcode.PING, Opcode.PONG})


class Subscriber(ServerConnection):
    """A connection that the audience can write to and close without awaiting anything."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.session = Session(combined=True)
        self._rate = MessageRate()
        self._life: asyncio.Timeout | None = None
        self._ending: Close | None = None

    async def converse(self, target: Target, changed: Callable[[], None], life_s: float) -> None:
        """Answer the client until it leaves, its maximum life is over or `end` is called.

        `changed` is called whenever its streams may have changed.
        """
        self.session = Session(target.combined, target.microseconds)
        with suppress(TimeoutError, ConnectionClosed):
            async with asyncio.timeout(0 if self._ending else life_s) as self._life:
                await self._carry_out(self.session.subscribe(target.streams))
                changed()
                async for message in self:
                    await self._carry_out(self.session.receive(message))
                    changed()
        self._life = None
        await self._close(self._ending or _END_OF_LIFE)

    def end(self, close: Close) -> None:
        """Request a close of the connection with this code and reason."""
        if self._ending is None:
            self._ending = close
            if self._life is not None:
                self._life.reschedule(self.loop.time())

    def process_event(self, event: Event) -> None:
        if (
            isinstance(event, Frame)
            and event.opcode in _COUNTED
            and not self._rate.allows(self.loop.time())
        ):
            self.end(TOO_MANY_REQUESTS)
        super().process_event(event)

    def deliver(self, batch: Batch) -> None:
        """Write the messages of the client's streams to its buffer."""
        self.deliver_streams(batch, self.session.streams)

    def deliver_streams(self, batch: Batch, streams: Collection[str]) -> None:
        """Write the messages of these streams to the client's buffer."""
        if self.state is not State.OPEN or self._ending is not None:
            return
        form = Form(self.session.combined, self.session.microseconds)
        if self.protocol.extensions:
            for text in batch.texts(streams, form):
                self.protocol.send_text(text)
            self.transport.write(b"".join(self.protocol.data_to_send()))
        else:
            self.transport.write(batch.frames(streams, form))

    def end_if_behind(self) -> None:
        """Request a close if the client's buffer is above `BUFFER_BYTES`."""
        if self.transport.get_write_buffer_size() > BUFFER_BYTES:
            self.end(_TOO_SLOW)

    async def caught_up(self) -> None:
        """Wait until the client's buffer has room; request a close if it reads nothing."""
        if self.paused and self._ending is None:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self.drain()
            except TimeoutError:
                self.end(_TOO_SLOW)
            except OSError:  # the client has left; its handler sees that too
                pass

    async def flushed(self) -> None:
        """Wait until the client's buffer is empty."""
        self.transport.set_write_buffer_limits(high=0)
        await self.caught_up()
        self.transport.set_write_buffer_limits(self.write_limit_high, self.write_limit_low)

    def drop(self) -> None:
        """Abort the connection if the client is not reading, so that closing cannot hang."""
        if self.paused:
            self.transport.abort()

    async def _carry_out(self, outcome: Outcome) -> None:
        if outcome.reply is not None:
            await self.send(outcome.reply, text=True)
        if outcome.close is not None:
            self.end(outcome.close)

    async def _close(self, close: Close) -> None:
        """Close the connection; wait at most `CLOSE_TIMEOUT_S` for a client that does not read."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self.close(*close)
        self.transport.abort()
