"""A frame listener that only counts."""

import asyncio
import time


class FrameCounter:
    """Counts frames, and measures the CPU time per frame from the first read to the last."""

    def __init__(self, frames: int) -> None:
        self.done = asyncio.Event()
        self._wanted = frames
        self._seen = 0
        self._began_s: float | None = None
        self.cost_s = 0.0

    def on_frames(self, frames: list[bytes], received: int) -> None:  # noqa: ARG002
        self.count(len(frames))

    def count(self, frames: int) -> None:
        if self._began_s is None:  # the cost so far belongs to the opening of the connection
            self._began_s = time.thread_time()
            return
        self._seen += frames
        if self._seen >= self._wanted and not self.done.is_set():
            self.cost_s = (time.thread_time() - self._began_s) / self._seen
            self.done.set()

    def on_binary(self, payload: bytes, received: int) -> None:
        """Ignore binary frames: the generator sends none."""

    def on_lost(self) -> None:
        """Do nothing: the caller that waits for `done` has a timeout."""
