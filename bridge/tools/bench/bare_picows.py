"""picows with a listener that only counts: the lower bound for the cost of our transport."""

from collections.abc import Callable

import picows
from picows import WSFrame, WSListener, WSTransport

from bridge.tools.bench.frame_counter import FrameCounter


class CountingListener(WSListener):
    """Counts the frames of each read."""

    def __init__(self, receiver: FrameCounter) -> None:
        super().__init__()
        self._receiver = receiver
        self._frames = 0

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:  # noqa: ARG002
        self._frames += 1
        if frame.last_in_buffer:
            self._receiver.count(self._frames)
            self._frames = 0


async def open_bare(url: str, receiver: FrameCounter) -> Callable[[], object]:
    """Connect, and return a function that closes the connection."""
    transport, _ = await picows.ws_connect(lambda: CountingListener(receiver), url)
    return lambda: transport.disconnect(graceful=False)
