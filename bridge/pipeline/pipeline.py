"""The pipeline takes frames, puts each stream's events in order, and gives records to every sink.

It never waits: it runs inside the callback of the transport, with the frames of one read of the
socket at a time. No queue lies between the socket and the buffers of the sinks, so the pipeline
cannot fall behind. If a buffer is full, its sink decides what to drop.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

import structlog

from bridge.core.binance.decode import (
    MAX_FRAME_BYTES,
    Decoder,
    invalid_event,
    unknown,
)
from bridge.core.binance.wire import Reply, ServerShutdown
from bridge.core.delivery.losses import log_fields
from bridge.core.model.events import Event, Gap, Invalid
from bridge.core.model.stream import Stream
from bridge.core.model.unreadable import UNREADABLE
from bridge.core.records.record import Record, Route, Router, encode
from bridge.core.sequencing.arrivals import Arrivals
from bridge.core.sequencing.handover import Handover
from bridge.core.sequencing.position import Position, StreamKey
from bridge.core.sequencing.rules import MAX_AHEAD_US, RESTARTED, Sequencer, is_ahead
from bridge.core.sequencing.sequencers import Repairable, Sequencers
from bridge.errors import InvalidFrame
from bridge.pipeline.sink import Sink
from bridge.telemetry import FeedCounts

# Errors for frames that the fast path cannot read.
UNUSUAL = (*UNREADABLE, InvalidFrame)
# What may happen with every frame is logged at most this often.
LOG_INTERVAL_US = 60_000_000
# A market-wide stream names its symbols itself, and each one becomes a key in Redis. Binance lists
# 3,600 symbols. Further names than these are invalid.
MAX_MARKET_SYMBOLS = 10_000
# Each invalid frame becomes an event, but not in a flood of them: it would take the place of the
# trades in the buffers of the sinks.
MAX_INVALID_PER_SECOND = 1000
Control = Callable[[Reply | ServerShutdown], None]
Push = Callable[[Sequence[Record], Mapping[Route, Event]], None]

log = structlog.get_logger(__name__)


class Pipeline:
    """Decodes frames, sequences events and gives records to the sinks; one for all connectors."""

    def __init__(
        self,
        venue: str,
        router: Router,
        sequencers: Sequencers,
        sinks: Sequence[Sink],
        counts: FeedCounts | None = None,
    ) -> None:
        self.counts = FeedCounts() if counts is None else counts
        self.on_open: Callable[[], None] = lambda: None
        self.on_hole: Callable[[str, Repairable], None] = lambda _symbol, _sequencer: None
        self.on_gap: Callable[[Gap], None] = lambda _gap: None
        # Whether a symbol of a market-wide stream is one of ours.
        self.has_symbol: Callable[[str], bool] = lambda _symbol: True
        self._sequencers = sequencers
        self._router = router
        self._venue = venue
        # The number of changes of the streams.
        self._changes = 0
        self._pushes: list[Push] = [sink.push for sink in sinks]
        # When each of these log events may come again.
        self._next_log: dict[str, int] = {}
        # The present second, and its invalid events.
        self._invalid_second, self._invalid_events = 0, 0
        # The symbols of market-wide streams.
        self._market_symbols: set[str] = set()
        # The records of this read that the sinks do not have yet, and the last event of each route.
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
        """Process the text frames of a connector that arrived at `received` (microseconds).

        Messages about the connection go to `control`. `arrivals` counts the connector's events.
        `handover` holds back events that would overtake another connection.
        """
        if decoder.changes != self._changes:
            decoder.forget(self._changes)
        counts, read, states, unusual = self.counts, decoder.read, decoder.states, 0
        ahead = received + MAX_AHEAD_US
        records, latest, received_by_type = self._records, self._latest, counts.received
        event: Event | None = None
        for frame in frames:
            try:
                envelope = read(frame)
                state = states[envelope.__class__]
                event = state.normalize(envelope.data, state.stream, received)
            except UNUSUAL:
                event = None
            if event is None or event.symbol != state.symbol or len(frame) > MAX_FRAME_BYTES:
                unusual += 1
                self._handle_unusual(decoder, frame, received, control, arrivals, handover)
                continue
            state.received = received
            first, time = state.first_of(event), event.timestamp
            if time is None:
                time = received
            elif time > ahead:
                self._note_ahead(event)
            if handover is None and state.follows(first, time, received):
                # The same as `record_of`, without repeating what this read and stream have fixed.
                route = state.route
                records.append(Record(route, time // 1000, received, encode(event), first))
                received_by_type[route.message_type] += 1
                latest[route] = event
                continue
            self._sequence(state.stream, (event,), arrivals, handover)
            if state.follows is unknown:
                sequencer = self._sequencers.sequencer(state.stream, event)
                state.look_up(sequencer, self._router.route(event))
        arrivals.events += len(frames) - unusual
        if event is not None and event.timestamp is not None:
            counts.latency.observe(max(0, received - event.timestamp) / 1e6)
        self._flush()

    def add_listener(self, push: Push) -> None:
        """Give the records to one more, which must take them as a sink does: without waiting."""
        self._pushes.append(push)

    def set_streams(
        self, streams: Sequence[Stream], positions: Mapping[StreamKey, Position]
    ) -> None:
        """Replace the streams; `positions` are those of new message types."""
        self._sequencers.set_streams(streams, positions)
        self._router.set_streams(streams)
        self._changes += 1

    def publish(self, events: Iterable[Event]) -> None:
        """Publish events that are already in order: fetched events, and events that waited."""
        self._publish_all(events)
        self._flush()

    def mark_interrupted(self, streams: Iterable[Stream], cause: str) -> None:
        """Note that streams may miss events from here on, so that a gap event precedes the next."""
        for stream in streams:
            self._sequencers.interrupt(stream, cause)

    def finish_handover(
        self, handover: Handover, cause: str, arrivals: Arrivals, carried: Collection[str]
    ) -> None:
        """Release the events of a connection that wait for older ones, except those of streams that
        an older one still carries.

        If events of the other connection may be missing, a gap event precedes the released ones.
        """
        for sequencer, event in handover.finish(cause, carried):
            self._accept(sequencer, event, arrivals)
        self._flush()

    def handle_invalid(self, error: InvalidFrame, payload: bytes, received: int) -> None:
        """Publish a frame that is not text."""
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
        """Process a frame that is market-wide, about the connection, or invalid."""
        try:
            decoded = decoder.decode(frame, received)
        except InvalidFrame as error:
            self._invalid(error, frame, received)
            return
        if isinstance(decoded, tuple):
            stream, events = decoded
            if stream.symbol is None:
                events = [self._bounded(e) for e in events if self.has_symbol(e.symbol)]
            arrivals.events += len(events)
            for event in filter(is_ahead, events):
                self._note_ahead(event)
            self._sequence(stream, events, arrivals, handover)
        else:
            control(decoded)

    def _bounded(self, event: Event) -> Event:
        """Return an event of a market-wide stream; an invalid one if there are too many symbols."""
        symbols, symbol = self._market_symbols, event.symbol
        if symbol in symbols or isinstance(event, Invalid):
            return event
        if len(symbols) < MAX_MARKET_SYMBOLS:
            symbols.add(symbol)
            return event
        error = InvalidFrame("wrong_symbol", f"more than {MAX_MARKET_SYMBOLS:,} symbols")
        return invalid_event(error, encode(event), event.received, self._venue)

    def _sequence(
        self, stream: Stream, events: Sequence[Event], arrivals: Arrivals, handover: Handover | None
    ) -> None:
        """Sequence the events of one frame, and publish the events that may pass."""
        if handover is not None:
            events = tuple(self._take(handover, stream, events))
        for event in events:
            if isinstance(event, Invalid):
                self._invalid_member(event)
            else:
                self._accept(self._sequencers.sequencer(stream, event), event, arrivals)

    def _accept(self, sequencer: Sequencer, event: Event, arrivals: Arrivals) -> None:
        """Sequence one event, publish the events that may pass, and report a hole."""
        duplicates = sequencer.duplicates
        passed = sequencer.accept(event)
        if sequencer.duplicates != duplicates:
            arrivals.count_duplicate(sequencer, event)
        self._publish_all(passed)
        if sequencer.held and isinstance(sequencer, Repairable):
            self.on_hole(event.symbol, sequencer)

    def _take(self, handover: Handover, stream: Stream, events: Iterable[Event]) -> Iterator[Event]:
        """Yield the events of a new connection that need not wait for the other connection."""
        for event in events:
            if isinstance(event, Invalid):
                yield event
            else:
                sequencer = self._sequencers.sequencer(stream, event)
                yield from handover.take(stream.name, sequencer, event)

    def _publish_all(self, events: Iterable[Event]) -> None:
        """Publish events, and count the gap events and fetched events among them."""
        for event in events:
            if isinstance(event, Gap):
                self.counts.gap_events[event.state, event.cause] += 1
                if event.cause == RESTARTED and event.first_id is None:
                    self.counts.id_restarts[event.kind] += 1
                log.warning("gap", **log_fields(event))
                self.on_gap(event)
            self._publish(event)
            if event.source == "rest":
                self.counts.repaired[str(event.__struct_config__.tag)] += 1

    def _note_ahead(self, event: Event) -> None:
        """Count an event whose time is far ahead of our clock, and log it."""
        message_type, received = str(event.__struct_config__.tag), event.received
        self.counts.ahead[message_type] += 1
        self._warn_seldom(
            "event_time_ahead",
            received,
            message_type=message_type,
            symbol=event.symbol,
            ahead_s=((event.timestamp or 0) - received) / 1e6,
            remedy="check the clock of this machine; if it is right, the exchange is wrong",
        )

    def _invalid(self, error: InvalidFrame, payload: bytes, received: int) -> None:
        """Publish an unreadable frame as an invalid event, and count it by reason."""
        self.counts.invalid[error.reason] += 1
        log.debug("invalid_frame", reason=error.reason, detail=error.detail)
        if self._may_publish_invalid(received):
            self._publish(invalid_event(error, payload, received, self._venue))

    def _invalid_member(self, event: Invalid) -> None:
        self.counts.invalid[event.reason] += 1
        if self._may_publish_invalid(event.received):
            self._publish(event)

    def _may_publish_invalid(self, received: int) -> bool:
        """Count one more invalid event, and return whether this second has room for it."""
        if (second := received // 1_000_000) != self._invalid_second:
            self._invalid_second, self._invalid_events = second, 0
        self._invalid_events += 1
        if self._invalid_events <= MAX_INVALID_PER_SECOND:
            return True
        self._warn_seldom(
            "invalid_frames_limited",
            received,
            events_per_second=MAX_INVALID_PER_SECOND,
            consequence="further invalid frames are counted, and not published",
        )
        return False

    def _warn_seldom(self, name: str, received: int, **fields: object) -> None:
        if received >= self._next_log.get(name, 0):
            self._next_log[name] = received + LOG_INTERVAL_US
            log.warning(name, **fields)

    def _publish(self, event: Event) -> None:
        record = self._router.record(event)
        self.counts.received[record.route.message_type] += 1
        self._records.append(record)
        self._latest[record.route] = event

    def _flush(self) -> None:
        """Give all sinks the records of this read at once."""
        records, self._records = self._records, []
        latest, self._latest = self._latest, {}
        if records:
            for push in self._pushes:
                push(records, latest)
