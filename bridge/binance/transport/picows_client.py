"""A WebSocket connection with `picows`, the extra `fast`, which is written in C.

The library does not support compression. It leaves some work to its user, which is done here as
`websockets` does it: fragments and the closing handshake.
"""

import asyncio
import logging
import re
from contextlib import suppress
from typing import Any

import picows
from picows import WSAutoPingStrategy, WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport
from python_socks import ProxyError

from bridge import settings
from bridge.binance.failures import from_exception, from_proxy, from_status
from bridge.binance.proxy import proxy_of
from bridge.binance.transport.base import (
    CLOSE_TIMEOUT_S,
    MAX_WIRE_BYTES,
    FrameBatch,
    FrameListener,
    unsent_fault,
)
from bridge.binance.transport.turns import Turns
from bridge.errors import FeedRefused, FeedUnavailable, describe

# A read may hold thousands of frames: the library doubles its buffer whenever a read fills it. This
# many are handled in a turn of the event loop (see `turns`).
TURN_FRAMES = 200
# A read may have millions of frames of two bytes. The exchange sends a control frame in 20 s and no
# fragments. If so many of them come in one read, the connection is broken off.
MAX_UNUSUAL_FRAMES = 10_000
# We log ourselves what the library warns of.
logging.getLogger("picows").setLevel(logging.CRITICAL)


class PicowsConnection(WSListener):
    """Collects the text frames of each read, and hands them over with the last one."""

    def __init__(self, listener: FrameListener, turns: Turns) -> None:
        super().__init__()
        self._listener = listener
        self._turns = turns
        self._batch = FrameBatch(listener)
        self._transport: WSTransport
        # The texts of a large read that wait for their turn, the next one last.
        self._later: list[bytes] = []
        # The frames of this read that are no complete text.
        self._unusual = 0
        # Why we have broken it off.
        self._fault = ""
        # Whether nobody waits for it to open any more.
        self._is_given_up = False

    @property
    def has_missed_pong(self) -> bool:
        """Return whether our ping was not answered."""
        # This is the library's own text.
        return any(
            reason.startswith("peer has not replied to ping") for _, _, reason in self._close_frames
        )

    @property
    def has_close_frame(self) -> bool:
        """Return whether the exchange has sent a close frame."""
        return any(who == "received" for who, _, _ in self._close_frames)

    @property
    def ending(self) -> str:
        """Describe how it was closed, for people."""
        frames = [f"{who} {code} {reason}".rstrip() for who, code, reason in self._close_frames]
        return self._fault or "; then ".join(frames) or "no close frame received or sent"

    @property
    def _close_frames(self) -> list[tuple[str, int, str]]:
        """Return the close frames: sender, code and reason."""
        handshake: Any = self._transport.close_handshake  # None before the first, unlike its type
        frames = (("received", handshake.recv), ("sent", handshake.sent)) if handshake else ()
        return [(who, info.code, info.reason or "") for who, info in frames if info is not None]

    async def close(self) -> None:
        """Close it within a bounded time, and hand over the frames that still arrive."""
        self._transport.send_close(WSCloseCode.OK)
        with suppress(TimeoutError, picows.WSError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._transport.wait_disconnected()
        self._transport.disconnect(graceful=False)

    def give_up(self) -> None:
        """Report nothing, and close it as soon as it opens: the library opens it all the same."""
        self._is_given_up, self._fault = True, "given up while it opened"

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        if self._is_given_up:
            transport.disconnect(graceful=False)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        opcode = frame.msg_type
        if self._fault:
            return
        if opcode is WSMsgType.TEXT and frame.fin:
            self._batch.texts.append(frame.get_payload_as_bytes())
        else:
            self._take_unusual(transport, frame, opcode)
        if frame.last_in_buffer:
            self._hand_over()

    def is_user_specific_pong(self, frame: WSFrame) -> bool:
        """Return whether a frame answers our ping. The library passes such a frame to this method
        only, and it may be the last of a read.
        """
        is_pong = frame.msg_type is WSMsgType.PONG
        if is_pong:
            self._count_unusual()
            if frame.last_in_buffer:
                self._hand_over()
        return is_pong

    def on_ws_disconnected(self, _transport: WSTransport) -> None:
        if self._is_given_up:
            return
        self._take_later(len(self._later))
        self._batch.hand_over()
        self._listener.on_lost()

    def _hand_over(self) -> None:
        """Hand over the frames of a read, or pause reading until they have had their turns."""
        transport, batch, turns = self._transport.underlying_transport, self._batch, self._turns
        frames, self._unusual = len(batch.texts) + self._unusual, 0
        if transport.is_closing() or (frames < TURN_FRAMES and turns.may_proceed()):
            batch.hand_over()
            turns.spend(frames / TURN_FRAMES)
            return
        self._later, batch.texts = batch.texts[::-1], []
        transport.pause_reading()
        turns.take(self._next_turn)

    def _next_turn(self) -> None:
        self._take_later(TURN_FRAMES)
        share = len(self._batch.texts) / TURN_FRAMES
        self._batch.hand_over()
        self._turns.spend(share)
        transport = self._transport.underlying_transport
        if self._later:
            self._turns.wait(self._next_turn)
        elif not transport.is_closing():
            transport.resume_reading()

    def _take_later(self, most: int) -> None:
        """Take frames that have waited for their turn."""
        later = self._later
        self._batch.texts[:0] = [later.pop() for _ in range(min(most, len(later)))]

    def _take_unusual(self, transport: WSTransport, frame: WSFrame, opcode: WSMsgType) -> None:
        self._count_unusual()
        payload = frame.get_payload_as_bytes()
        if opcode is WSMsgType.PING:
            transport.send_pong(payload)
            if fault := unsent_fault(transport.underlying_transport):
                self._break_off(fault)
        elif opcode is WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        elif opcode is not WSMsgType.PONG:
            is_text = None if opcode is WSMsgType.CONTINUATION else opcode is WSMsgType.TEXT
            try:
                self._batch.add_part(payload, is_text=is_text, is_last=frame.fin)
            except OverflowError as error:
                self._break_off(str(error))

    def _count_unusual(self) -> None:
        self._unusual += 1
        if self._unusual == MAX_UNUSUAL_FRAMES:
            self._break_off(f"the exchange sends {MAX_UNUSUAL_FRAMES} frames without data at once")

    def _break_off(self, fault: str) -> None:
        self._fault = fault
        self._transport.disconnect(graceful=False)


async def open_with_picows(
    options: settings.Binance, path: str, listener: FrameListener, turns: Turns
) -> PicowsConnection:
    """Connect. Raises FeedRefused if trying again cannot help, FeedUnavailable if it may."""
    ours = PicowsConnection(listener, turns)
    try:
        async with asyncio.timeout(options.connect_timeout_s):
            _, connection = await picows.ws_connect(
                lambda: ours,
                options.websocket_url + path,
                websocket_handshake_timeout=options.connect_timeout_s,
                enable_auto_ping=True,
                auto_ping_strategy=WSAutoPingStrategy.PING_PERIODICALLY,
                auto_ping_idle_timeout=options.ping_interval_s,
                auto_ping_reply_timeout=options.ping_timeout_s,
                # If the library answered pings, a ping at the end of a read would hide the frames
                # before it.
                enable_auto_pong=False,
                max_frame_size=MAX_WIRE_BYTES,
                proxy=proxy_of(options, options.websocket_url),
            )
    except (picows.WSError, ProxyError, OSError, EOFError) as error:
        ours.give_up()
        raise _failure(error, options.websocket_url) from error
    except asyncio.CancelledError:
        ours.give_up()
        raise
    if not isinstance(connection, PicowsConnection):
        # The library returns no listener if the connection is closed before it is open.
        raise FeedUnavailable(f"{options.websocket_url}: closed during the handshake")
    return connection


def _failure(error: Exception, where: str) -> Exception:
    """Return our error for an error of the library."""
    match error:
        case picows.WSHandshakeError(response=picows.WSUpgradeResponse() as response):
            return from_status(response.status, response.headers.get("Retry-After"), where)
        case ProxyError():
            # Only the text holds the status.
            status = re.search(r"rejected connection with status (\d+)", str(error))
            return from_proxy(int(status[1]) if status else None)
        case picows.WSInvalidURL():
            return FeedRefused(describe(error), "check binance.websocket_url and binance.rest_url")
        case picows.WSError():
            return FeedUnavailable(f"{where}: {describe(error)}")
        case _:
            return from_exception(error, where)
