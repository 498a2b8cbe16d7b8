"""Keeps the frames of the feed while the bridge starts, until a pipeline takes them.

The feed connects while Kafka is asked where the previous process has stopped. What arrives in this
time is decoded when the pipeline takes it, in the order of its arrival.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

import structlog

from bridge.binance.connection import Control, FrameHandler
from bridge.core.binance.decode import Decoder
from bridge.core.model.stream import Stream
from bridge.core.sequencing.arrivals import Arrivals
from bridge.core.sequencing.handover import Handover
from bridge.errors import InvalidFrame
from bridge.telemetry import FeedCounts, now_us

# Beyond these bounds the oldest frames are dropped. The whole spot market has 2 MB per second.
MAX_BYTES = 64 * 2**20
MAX_AGE_US = 30_000_000
# Events of the feed wait while so many reads of a socket are given to the pipeline.
SLICE = 100

log = structlog.get_logger(__name__)


class _Report(NamedTuple):
    """A call that the feed has made: frames that arrived at `received`, or a change of its
    connections after them.

    `give` repeats the call. `drop` is called instead if it is too old.
    """

    received: int
    size_bytes: int
    give: Callable[[FrameHandler], None]
    drop: Callable[[], object] = lambda: None


class FrameBuffer:
    """Takes the frames of the feed, and gives them to a pipeline as soon as there is one.

    `counts` are those of the pipeline too.
    """

    def __init__(self) -> None:
        self.counts = FeedCounts()
        self._handler: FrameHandler | None = None
        self._reports: deque[_Report] = deque()
        self._bytes = 0
        # The arrival of the last frames.
        self._received = now_us()
        self._has_dropped = False

    async def release(self, handler: FrameHandler) -> None:
        """Give a pipeline everything that has arrived, and from then on everything that arrives."""
        while self._reports:
            for _ in range(min(SLICE, len(self._reports))):
                self._next().give(handler)
            await asyncio.sleep(0)
        self._handler = handler

    def handle_frames(  # noqa: PLR0913 (one connection's)
        self,
        decoder: Decoder,
        frames: list[bytes],
        received: int,
        control: Control,
        arrivals: Arrivals,
        *,
        handover: Handover | None = None,
    ) -> None:
        """Take the text frames of one read, or hand them on."""
        if self._handler is not None:
            self._handler.handle_frames(
                decoder, frames, received, control, arrivals, handover=handover
            )
            return
        kept = [
            frame for frame in frames if not self._is_control(decoder, frame, received, control)
        ]

        def give(handler: FrameHandler) -> None:
            handler.handle_frames(decoder, kept, received, control, arrivals, handover=handover)

        self._add(_Report(received, sum(map(len, kept)), give))

    def finish_handover(
        self, handover: Handover, cause: str, arrivals: Arrivals, carried: Collection[str]
    ) -> None:
        """Note that a connection need not wait for older ones any more."""

        def give(handler: FrameHandler) -> None:
            handler.finish_handover(handover, cause, arrivals, carried)

        # Frames that come later must not wait either.
        self._take(_Report(self._received, 0, give, lambda: [*handover.finish(cause, carried)]))

    def handle_invalid(self, error: InvalidFrame, payload: bytes, received: int) -> None:
        """Take a frame that is not text."""

        def give(handler: FrameHandler) -> None:
            handler.handle_invalid(error, payload, received)

        self._take(_Report(received, len(payload), give))

    def mark_interrupted(self, streams: Iterable[Stream], cause: str) -> None:
        """Note that streams may miss events from here on."""
        names = [*streams]
        self._take(
            _Report(self._received, 0, lambda handler: handler.mark_interrupted(names, cause))
        )

    def _is_control(self, decoder: Decoder, frame: bytes, received: int, control: Control) -> bool:
        """Return whether a frame is about the connection; if so, handle it."""
        if decoder.note(frame, received):
            return False
        try:
            decoded = decoder.decode(frame, received)
        except InvalidFrame:
            return False  # the pipeline reports it
        if isinstance(decoded, tuple):
            return False
        self.counts.frames += 1
        control(decoded)
        return True

    def _take(self, report: _Report) -> None:
        """Add a report, or hand it on."""
        if self._handler is not None:
            report.give(self._handler)
        else:
            self._add(report)

    def _add(self, report: _Report) -> None:
        """Add a report, and drop the oldest ones that exceed the bounds."""
        self._received = report.received
        self._reports.append(report)
        self._bytes += report.size_bytes
        oldest = report.received - MAX_AGE_US
        while self._bytes > MAX_BYTES or (self._reports and self._reports[0].received < oldest):
            self._next().drop()
            if not self._has_dropped:
                self._has_dropped = True
                log.warning(
                    "start_frames_dropped",
                    buffered=len(self._reports),
                    consequence="gap events announce what is missing; trades are fetched again",
                )

    def _next(self) -> _Report:
        report = self._reports.popleft()
        self._bytes -= report.size_bytes
        return report
