"""The pump: frames in, records out to every sink, without a wait.

It runs inside the transport's own callback, a chunk of frames at a time (what one read of the
socket held). Nothing is queued between the socket and the sinks' buffers, so there is nothing to
fall behind: what a sink cannot keep is that sink's to drop.
"""

from collections.abc import Callable, Sequence

import structlog

from bridge.core.decode import Decoder, invalid_event
from bridge.core.events import Event, Invalid
from bridge.core.record import Router
from bridge.core.wire import Reply, ServerShutdown
from bridge.errors import InvalidFrame
from bridge.sinks.base import Sink
from bridge.telemetry import FeedCounts

Control = Callable[[Reply | ServerShutdown], None]

log = structlog.get_logger(__name__)


class Pipeline:
    """What decodes, routes and hands on; one for all legs."""

    def __init__(self, venue: str, router: Router, sinks: Sequence[Sink]) -> None:
        self.counts = FeedCounts()
        self._venue = venue
        self._record = router.record
        self._sinks = tuple(sinks)

    def pump(
        self, decoder: Decoder, frames: Sequence[bytes], received: int, control: Control
    ) -> None:
        """Take a leg's text frames that arrived at `received` (microseconds); `control` gets those
        that are about the connection.
        """
        self.counts.frames += len(frames)
        for frame in frames:
            try:
                decoded = decoder.decode(frame, received)
            except InvalidFrame as error:
                self._invalid(error, frame, received)
                continue
            if isinstance(decoded, Event):
                self._publish(decoded)
            elif isinstance(decoded, list):
                for event in decoded:
                    if isinstance(event, Invalid):
                        self.counts.invalid[event.reason] += 1
                    self._publish(event)
            else:
                control(decoded)
        self._wake()

    def invalid(self, error: InvalidFrame, payload: bytes, received: int) -> None:
        """Take a frame that is not even text."""
        self.counts.frames += 1
        self._invalid(error, payload, received)
        self._wake()

    def _invalid(self, error: InvalidFrame, payload: bytes, received: int) -> None:
        """Publish what nobody could read, and count it by reason."""
        self.counts.invalid[error.reason] += 1
        log.debug("invalid_frame", reason=error.reason, detail=error.detail)
        self._publish(invalid_event(error, payload, received, self._venue))

    def _publish(self, event: Event) -> None:
        record = self._record(event)
        self.counts.received[record.route.message_type] += 1
        for sink in self._sinks:
            sink.push(record, event)

    def _wake(self) -> None:
        for sink in self._sinks:
            sink.wake()
