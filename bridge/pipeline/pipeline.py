"""The pipeline: frames in, each stream's events once and in order, records out to every sink.

It never waits: it runs inside the transport's own callback, a chunk of frames at a time (what one
read of the socket held). Nothing is queued between the socket and the sinks' buffers, so there is
nothing to fall behind: what a sink cannot keep is that sink's to drop.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import structlog

from bridge.core.binance.decode import (
    MAX_FRAME_BYTES,
    UNREADABLE,
    Decoder,
    StreamState,
    invalid_event,
    unknown,
)
from bridge.core.binance.wire import Reply, ServerShutdown
from bridge.core.model.events import Event, Gap, Invalid
from bridge.core.model.stream import Stream
from bridge.core.records.record import MAX_AHEAD_US, NO_IDENTITY, Record, Route, Router, encode
from bridge.core.sequencing.arrivals import Arrivals
from bridge.core.sequencing.contiguous import Contiguous
from bridge.core.sequencing.handover import Handover
from bridge.core.sequencing.position import Name, Position
from bridge.core.sequencing.rules import Sequencer
from bridge.core.sequencing.sequencers import Sequencers
from bridge.errors import InvalidFrame
from bridge.pipeline.sink import Sink
from bridge.telemetry import FeedCounts

# A frame that is not just the next one of a stream of one symbol.
UNUSUAL = (*UNREADABLE, InvalidFrame)
Control = Callable[[Reply | ServerShutdown], None]

log = structlog.get_logger(__name__)


class Pipeline:
    """What decodes, routes and hands on; one for all connectors."""

    def __init__(
        self, venue: str, router: Router, sequencers: Sequencers, sinks: Sequence[Sink]
    ) -> None:
        self.counts = FeedCounts()
        self.on_hole: Callable[[str, Contiguous], None] = lambda _symbol, _sequencer: None
        self._sequencers = sequencers
        self._router = router
        self._venue = venue
        # How often the streams have changed.
        self._changes = 0
        self._sinks = tuple(sinks)
        # Published in this read, and not yet with the sinks; of each route the last event.
        self._records: list[Record] = []
        self._latest: dict[Route, Event] = {}

    def handle_frames(  # noqa: PLR0913 (one connection's)
        self,
        decoder: Decoder,
        frames: Sequence[bytes],
        received: int,
        control: Control,
        arrivals: Arrivals,
        *,
        handover: Handover | None = None,
    ) -> None:
        """Take a connector's text frames that arrived at `received` (microseconds); `control` gets
        those that are about the connection, and `arrivals` counts the connector's events.
        `handover` holds back what would overtake another connection.
        """
        if decoder.changes != self._changes:
            decoder.forget(self._changes)
        counts, read, unusual = self.counts, decoder.read, 0
        received_ms, ahead = received // 1000, received + MAX_AHEAD_US
        records, latest, received_by_type = self._records, self._latest, counts.received
        event: Event | None = None
        for frame in frames:
            try:
                envelope = read(frame)
                state: StreamState = envelope.state
                event = state.normalize(envelope.data, state.stream, received)
            except UNUSUAL:
                event = None
            if event is None or event.symbol != state.symbol or len(frame) > MAX_FRAME_BYTES:
                unusual += 1
                self._handle_unusual(decoder, frame, received, control, arrivals, handover)
                continue
            state.received = received
            first, time = state.first_of(event), event.timestamp
            if handover is None and state.follows(first, time, received):
                # As `record_of`, less what is known of the read and of the stream.
                route = state.route
                time_ms = received_ms if time is None or time > ahead else time // 1000
                identity = first if state.is_contiguous else NO_IDENTITY
                records.append(Record(route, time_ms, received, encode(event), identity))
                received_by_type[route.message_type] += 1
                latest[route] = event
                continue
            self._sequence(state.stream, (event,), arrivals, handover)
            if state.follows is unknown:
                sequencer = self._sequencers.sequencer(state.stream, event)
                state.look_up(sequencer, self._router.route(event))
        counts.frames += len(frames)
        arrivals.events += len(frames) - unusual
        if event is not None and event.timestamp is not None:
            counts.latency.observe(max(0, received - event.timestamp) / 1e6)
        self._flush()

    def set_streams(self, streams: Sequence[Stream], positions: Mapping[Name, Position]) -> None:
        """Have these streams from now on; `positions` are of message types that are new."""
        self._sequencers.set_streams(streams, positions)
        self._router.set_streams(streams)
        self._changes += 1

    def publish(self, events: Iterable[Event]) -> None:
        """Hand on events that are in their place: fetched ones, and what waited for them."""
        self._hand_on(events)
        self._flush()

    def mark_interrupted(self, streams: Iterable[Stream], cause: str) -> None:
        """Streams may have missed events from here on: say so before their next one."""
        for stream in streams:
            for sequencer in self._sequencers.of(stream):
                sequencer.interrupt(cause)

    def finish_handover(self, handover: Handover, cause: str, arrivals: Arrivals) -> None:
        """A connection is now alone: what it held back goes on, where something of the other one's
        may be missing behind an interruption.
        """
        for sequencer, event in handover.finish(cause):
            self._accept(sequencer, event, arrivals)
        self._flush()

    def handle_invalid(self, error: InvalidFrame, payload: bytes, received: int) -> None:
        """Take a frame that is not even text."""
        self.counts.frames += 1
        self._invalid(error, payload, received)
        self._flush()

    def _handle_unusual(  # noqa: PLR0913, PLR0917 (one connection's)
        self,
        decoder: Decoder,
        frame: bytes,
        received: int,
        control: Control,
        arrivals: Arrivals,
        handover: Handover | None,
    ) -> None:
        """Take a frame that is of the whole market, about the connection, or wrong."""
        try:
            decoded = decoder.decode(frame, received)
        except InvalidFrame as error:
            self._invalid(error, frame, received)
            return
        if isinstance(decoded, tuple):
            stream, events = decoded
            arrivals.events += len(events)
            self._sequence(stream, events, arrivals, handover)
        else:
            control(decoded)

    def _sequence(
        self, stream: Stream, events: Sequence[Event], arrivals: Arrivals, handover: Handover | None
    ) -> None:
        """Hand on what may pass now that these events of a stream have come."""
        if handover is not None:
            events = tuple(self._take(handover, stream, events))
        for event in events:
            if isinstance(event, Invalid):
                self._invalid_member(event)
            else:
                self._accept(self._sequencers.sequencer(stream, event), event, arrivals)

    def _accept(self, sequencer: Sequencer, event: Event, arrivals: Arrivals) -> None:
        """Hand on what an event lets pass, if that is not just itself; it may show a hole."""
        duplicates = sequencer.duplicates
        passed = sequencer.accept(event)
        if sequencer.duplicates != duplicates:
            arrivals.count_duplicate(sequencer, event)
        self._hand_on(passed)
        if isinstance(sequencer, Contiguous) and sequencer.held:
            self.on_hole(event.symbol, sequencer)

    def _take(self, handover: Handover, stream: Stream, events: Iterable[Event]) -> Iterator[Event]:
        """What of a new connection's events may go on."""
        for event in events:
            if isinstance(event, Invalid):
                yield event
            else:
                yield from handover.take(self._sequencers.sequencer(stream, event), event)

    def _hand_on(self, events: Iterable[Event]) -> None:
        """Publish more than the usual one event, counting what is unusual about them."""
        for event in events:
            if isinstance(event, Gap):
                self.counts.gaps[event.state] += 1
                log.warning("gap", **_said(event))
            self._publish(event)
            if event.source == "rest":
                self.counts.repaired[str(event.__struct_config__.tag)] += 1

    def _invalid(self, error: InvalidFrame, payload: bytes, received: int) -> None:
        """Publish what nobody could read, and count it by reason."""
        self.counts.invalid[error.reason] += 1
        log.debug("invalid_frame", reason=error.reason, detail=error.detail)
        self._publish(invalid_event(error, payload, received, self._venue))

    def _invalid_member(self, event: Invalid) -> None:
        self.counts.invalid[event.reason] += 1
        self._publish(event)

    def _publish(self, event: Event) -> None:
        record = self._router.record(event)
        self.counts.received[record.route.message_type] += 1
        self._records.append(record)
        self._latest[record.route] = event

    def _flush(self) -> None:
        """Give all sinks what has been published, a read at once."""
        records, self._records = self._records, []
        latest, self._latest = self._latest, {}
        if records:
            for sink in self._sinks:
                sink.push(records, latest)


def _said(gap: Gap) -> dict[str, object]:
    return {
        "symbol": gap.symbol,
        "message_type": gap.kind,
        "first_id": gap.first_id,
        "last_id": gap.last_id,
        "cause": gap.cause,
        "state": gap.state,
    }
