"""Writes frames to a capture file, one frame per line."""

import asyncio
from collections.abc import Callable, Collection, Iterable

from bridge.binance.connection import Control
from bridge.core.binance.decode import Decoder
from bridge.core.binance.wire import Reply, ServerShutdown
from bridge.core.model.stream import Stream
from bridge.core.sequencing.arrivals import Arrivals
from bridge.core.sequencing.handover import Handover
from bridge.errors import InvalidFrame
from bridge.telemetry import FeedCounts
from bridge.tools.simulator.capture import CaptureWriter

# Frames that would make the file unreadable: not JSON, or too long for a line.
_LEFT_OUT = {"malformed", "oversized"}


class Recorder:
    """A frame handler that writes each frame to `writer`.

    If a write fails, it stores the error in `error` and sets `stopped`.
    """

    def __init__(self, writer: CaptureWriter, stopped: asyncio.Event) -> None:
        self.counts = FeedCounts()
        self.on_open: Callable[[], None] = lambda: None
        # What was written.
        self.frames = self.size_bytes = 0
        self.left_out = 0
        self.error: OSError | None = None
        self._writer = writer
        self._stopped = stopped

    def handle_frames(  # noqa: PLR0913 (one connection's)
        self,
        decoder: Decoder,
        frames: list[bytes],
        received: int,
        control: Control,
        arrivals: Arrivals,  # noqa: ARG002
        *,
        handover: Handover | None = None,  # noqa: ARG002
    ) -> None:
        """Write frames that arrived at `received`, in microseconds."""
        for frame in frames:
            try:
                decoded = decoder.decode(frame, received)
            except InvalidFrame as error:
                if error.reason in _LEFT_OUT:
                    self.left_out += 1
                    continue
            else:
                if isinstance(decoded, Reply | ServerShutdown):
                    control(decoded)
            self._write(frame, received)

    def handle_invalid(self, error: InvalidFrame, payload: bytes, received: int) -> None:  # noqa: ARG002
        """Leave out a binary frame: the format is text only."""
        self.left_out += 1

    def finish_handover(
        self, handover: Handover, cause: str, arrivals: Arrivals, carried: Collection[str]
    ) -> None:
        """Do nothing: no events were held back."""

    def mark_interrupted(self, streams: Iterable[Stream], cause: str) -> None:
        """Do nothing: the format stores only frames."""

    def _write(self, frame: bytes, received: int) -> None:
        text = frame.decode(errors="replace").replace("\n", " ")  # one frame per line
        try:
            self._writer.write(received * 1000, text)
        except OSError as error:
            self.error = error
            self._stopped.set()
            return
        self.frames += 1
        self.size_bytes += len(frame)
