"""Decode one frame into its events, or raise InvalidFrame with the reason.

The combined form wraps each payload: `{"stream":name,"data":payload}`. One typed decoder serves all
streams of a connector, and the stream name is its tag. It takes 0.25 us for a trade, with one
stream or three thousand; `json.loads` alone takes 5 us. Frames that this decoder cannot read go
through a slower path that finds the reason.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, NoReturn, Union

import msgspec

from bridge.core.binance import wire
from bridge.core.binance.normalize import LIVE, PAYLOADS
from bridge.core.model.events import Event, Invalid
from bridge.core.model.stream import Stream, is_symbol
from bridge.core.model.unreadable import UNREADABLE
from bridge.core.records.record import Route
from bridge.core.sequencing.rules import Sequencer
from bridge.errors import InvalidFrame, InvalidReason

MAX_FRAME_BYTES = 2**20
MAX_PAYLOAD_BYTES = 2**16
# All frames of streams begin with this. In another form they are decoded at once.
_STREAM = b'{"stream":"'

# The events of one frame of a stream, or a message of the exchange about the connection.
Decoded = tuple[Stream, Sequence[Event]] | wire.Reply | wire.ServerShutdown

# `Sequencer.follows`: takes an event's first id, time and arrival.
Follows = Callable[[int, int, int], bool]

_decode_envelope = msgspec.json.Decoder(wire.Envelope).decode
_decode_reply = msgspec.json.Decoder(wire.Reply).decode
_decode_shutdown = msgspec.json.Decoder(wire.ServerShutdown).decode
_payload_decoders = {struct: msgspec.json.Decoder(struct).decode for struct, _ in PAYLOADS.values()}
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


class StreamState:
    """One stream of one connection: the decoder of its data and the route of its events.

    `payload` decodes the data of a frame, `normalize` turns it into an event, and the event must
    carry `symbol`. `received` is the arrival of the last frame in microseconds.

    For a stream of one symbol the pipeline also stores the results of look-ups here; to repeat them
    for each event would take a tenth of its time. `first_of` returns the id of an event, `follows`
    returns whether the event comes next, and `route` is the route of the events.
    """

    __slots__ = (
        *("normalize", "payload", "stream", "symbol"),
        *("first_of", "follows", "received", "route"),
    )

    def __init__(self, stream: Stream) -> None:
        struct, self.normalize = PAYLOADS[stream.payload]
        self.stream = stream
        self.symbol = stream.symbol
        self.received = 0
        self.follows: Follows = unknown
        self.first_of: Callable[[Any], int] = _no_id
        self.route: Route
        self.payload = _payload_decoders[struct]

    def look_up(self, sequencer: Sequencer, route: Route) -> None:
        """Store what the next events need, after the first event has arrived."""
        self.first_of, self.follows = sequencer.first_of, sequencer.follows
        self.route = route


def stream_name(frame: bytes) -> bytes:
    """Return the name of the stream in a frame; empty if the frame is not of the usual form."""
    if not frame.startswith(_STREAM):
        return b""
    return frame[len(_STREAM) : frame.find(b'"', len(_STREAM))]


def unknown(_first: int, _time: int, _received: int) -> bool:
    """Return False; stands in for `Sequencer.follows` until the sequencer is looked up."""
    return False


def _no_id(_event: Event) -> int:
    return 0


def _read_nothing(_frame: bytes) -> NoReturn:
    """Refuse every frame: the fast decoder of a connector with market-wide streams only."""
    raise msgspec.DecodeError


@cache
def _envelope_of(stream: str, payload: str) -> type[msgspec.Struct]:
    """Return the type of a whole frame of a stream, one for each stream of this run. `typing` and
    msgspec remember types, so new ones for each connection would fill the memory.
    """
    struct, _ = PAYLOADS[payload]
    fields = [("data", struct)]
    return msgspec.defstruct(
        "Envelope", fields, tag_field="stream", tag=stream, frozen=True, gc=False
    )


class Decoder:
    """The decoder of one connection, for the streams it was created with and no others.

    `read` decodes the frame of a stream of one symbol. Its result has the payload as `data`, and
    `states` has the state of its stream, by its type. For any other frame `read` raises one of
    UNREADABLE. `decode` accepts all frames. `changes` belongs to the pipeline: the number of stream
    changes when the stream states were looked up.
    """

    def __init__(self, streams: Iterable[Stream]) -> None:
        self.changes = 0
        self._states = {stream.name: StreamState(stream) for stream in streams}
        self._by_bytes = {name.encode(): state for name, state in self._states.items()}
        self.states = {
            _envelope_of(name, state.stream.payload): state
            for name, state in self._states.items()
            if state.symbol is not None
        }
        self.read: Callable[[bytes], Any] = _read_nothing
        if self.states:
            self.read = msgspec.json.Decoder(Union[*self.states]).decode

    def forget(self, changes: int) -> None:
        """Discard the stored look-ups; `changes` is the new number of stream changes."""
        self.changes = changes
        for state in self._states.values():
            state.follows = unknown

    def last_received(self) -> dict[str, int]:
        """Return when the last frame of each stream arrived, in microseconds.

        Streams that have never sent anything are left out.
        """
        return {name: state.received for name, state in self._states.items() if state.received}

    def note(self, frame: bytes, received: int) -> bool:
        """Note the arrival of a frame that is decoded later. Return whether it names a stream."""
        if state := self._by_bytes.get(stream_name(frame)):
            state.received = received
        return state is not None

    def decode(self, frame: bytes, received: int) -> Decoded:
        """Decode one text frame. `received` is its arrival in microseconds.

        Raises InvalidFrame, and nothing else, whatever the bytes are.
        """
        if len(frame) > MAX_FRAME_BYTES:
            raise InvalidFrame("oversized", f"{len(frame)} bytes, at most {MAX_FRAME_BYTES}")
        try:
            envelope = _decode_envelope(frame)
        except UNREADABLE as error:
            return _decode_control(frame, error)
        state = self._states.get(envelope.stream)
        if state is None:
            return _decode_unexpected(envelope)
        try:
            events = _events(state, envelope.data, received)
        except UNREADABLE as error:
            raise _invalid(error) from None
        state.received = received
        return state.stream, events


def invalid_event(error: InvalidFrame, payload: bytes, received: int, venue: str) -> Invalid:
    """Return the event that reports an unreadable frame to consumers."""
    head = (venue, "", None, received, LIVE)
    return Invalid(*head, error.reason, payload_text(payload), error.detail)


def payload_text(payload: bytes) -> str:
    """Return the payload as text, cut to MAX_PAYLOAD_BYTES."""
    # Cut again at the end: the character that replaces an unreadable byte has three bytes.
    text = payload[:MAX_PAYLOAD_BYTES].decode(errors="replace").encode()[:MAX_PAYLOAD_BYTES]
    return text.decode(errors="ignore")


def _events(state: StreamState, data: msgspec.Raw, received: int) -> Sequence[Event]:
    if state.symbol is None:
        return [_member(state, member, received) for member in _decode_list(data)]
    event = state.normalize(state.payload(data), state.stream, received)
    if event.symbol != state.symbol:
        raise InvalidFrame("wrong_symbol", f"{event.symbol!r:.200} on {state.stream.name}")
    return (event,)


def _member(state: StreamState, member: msgspec.Raw, received: int) -> Event:
    """Decode one member of an `arr` stream; an invalid member does not affect the others."""
    try:
        return _with_symbol(state.normalize(state.payload(member), state.stream, received))
    except UNREADABLE as error:
        return invalid_event(_invalid(error), bytes(member), received, state.stream.venue)
    except InvalidFrame as error:
        return invalid_event(error, bytes(member), received, state.stream.venue)


def _with_symbol(event: Event) -> Event:
    """Return an event whose symbol no stream has named. Raises InvalidFrame if it has none."""
    if not is_symbol(event.symbol):
        raise InvalidFrame("wrong_symbol", f"{event.symbol!r:.200} is not a symbol")
    return event


def _decode_control(frame: bytes, error: Exception) -> wire.Reply | wire.ServerShutdown:
    """Decode a reply to a control message or a raw serverShutdown; neither has an envelope."""
    for decode in (_decode_reply, _decode_shutdown):
        try:
            return decode(frame)
        except UNREADABLE:
            continue
    raise InvalidFrame("malformed", str(error)[:200])


def _decode_unexpected(envelope: wire.Envelope) -> wire.ServerShutdown:
    if envelope.stream == "!serverShutdown":
        try:
            return _decode_shutdown(envelope.data)
        except UNREADABLE as error:
            raise _invalid(error) from None
    raise InvalidFrame("unknown_stream", repr(envelope.stream)[:200])


def _invalid(error: Exception) -> InvalidFrame:
    reason: InvalidReason
    if not isinstance(error, msgspec.ValidationError):
        return InvalidFrame("malformed", str(error)[:200])
    reason = "unknown_type" if str(error).endswith("`$.e`") else "mistyped"
    return InvalidFrame(reason, str(error)[:200])
