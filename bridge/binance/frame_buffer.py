"""Keeps the last frames of the feed until there is a pipeline: at a start, or while standing by.

Then what has arrived is decoded, in the order of its arrival. The last frame of each stream is kept
however old it is. If it was published before, nothing of its stream is missing.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable
from operator import attrgetter
from typing import NamedTuple

from bridge.binance.connection import Control, FrameHandler
from bridge.core.binance.decode import Decoder, stream_name
from bridge.core.model.stream import Stream
from bridge.core.sequencing.arrivals import Arrivals
from bridge.core.sequencing.handover import Handover
from bridge.errors import InvalidFrame
from bridge.telemetry import FeedCounts, now_us

# Beyond these bounds the oldest frames are dropped, except the last one of each stream. The whole
# spot market has 2 MB per second.
MAX_BYTES = 64 * 2**20
MAX_AGE_US = 30_000_000
# The sinks get their turn after so much.
SLICE_BYTES = 32 * 2**10


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

    `counts` are those of the pipeline too. `on_open` is called each time a connection has opened.
    """

    def __init__(self, counts: FeedCounts) -> None:
        self.counts = counts
        self.on_open: Callable[[], None] = lambda: None
        self._handler: FrameHandler | None = None
        self._reports: deque[_Report] = deque()
        self._bytes = 0
        # The arrival of the last frames.
        self._received = now_us()
        # By the name of the stream: its last frame among those that were dropped.
        self._last: dict[bytes, _Report] = {}
        self._is_releasing = False
        # Since when no event was missed, in microseconds. A new owner takes it over from the one
        # before.
        self.whole_since = self._received

    @property
    def is_passing(self) -> bool:
        """Return whether a pipeline has everything that has arrived."""
        return self._handler is not None

    @property
    def dropped(self) -> list[str]:
        """Return the names of the streams whose old frames were dropped, except the last one."""
        return [name.decode() for name in self._last]

    @property
    def received(self) -> int:
        """Return when the last frame arrived, in microseconds, while there is no pipeline."""
        return self._received

    async def release(self, handler: FrameHandler, room: Callable[[], Awaitable[None]]) -> None:
        """Give a pipeline everything that has arrived, and from then on everything that arrives.

        `room` is awaited after each slice: it returns when the sinks have room for the next one.
        """
        self._is_releasing = True
        last, self._last = sorted(self._last.values(), key=attrgetter("received")), {}
        self._reports.extendleft(reversed(last))
        self._bytes += sum(report.size_bytes for report in last)
        given = 0
        while self._reports:
            report = self._next()
            report.give(handler)
            given += report.size_bytes
            if given >= SLICE_BYTES:
                given = 0
                await room()
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

        def report_of(*given: bytes) -> _Report:
            return _Report(
                received,
                sum(map(len, given)),
                lambda pipeline: pipeline.handle_frames(
                    decoder, [*given], received, control, arrivals, handover=handover
                ),
                lambda: self._last.update(
                    (name, report_of(each)) for each in given if (name := stream_name(each))
                ),
            )

        self._add(report_of(*kept))

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
        interrupted = [*streams]
        if interrupted:
            self.whole_since = now_us()

        def give(handler: FrameHandler) -> None:
            handler.mark_interrupted(interrupted, cause)

        def drop() -> None:
            for stream in interrupted:
                self._last.pop(stream.name.encode(), None)

        self._take(_Report(self._received, 0, give, drop))

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
        oldest = 0 if self._is_releasing else report.received - MAX_AGE_US
        while self._bytes > MAX_BYTES or (self._reports and self._reports[0].received < oldest):
            self._next().drop()

    def _next(self) -> _Report:
        report = self._reports.popleft()
        self._bytes -= report.size_bytes
        return report
