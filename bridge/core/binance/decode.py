"""One frame in, its events out, or an InvalidFrame that says what is wrong with it.

The combined form wraps each payload, `{"stream":name,"data":payload}`. The name is the tag by which
one typed decoder for all streams of a connector tells what it reads: 0.25 us for a trade, for one
stream or three thousand, where `json.loads` alone takes 5. What it cannot read is looked at with
care.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn, Union

import msgspec

from bridge.core.binance import wire
from bridge.core.binance.normalize import LIVE, PAYLOADS
from bridge.core.model.events import Event, Invalid
from bridge.core.model.stream import Stream
from bridge.core.records.record import Route
from bridge.core.sequencing.rules import Sequencer
from bridge.errors import InvalidFrame, InvalidReason

MAX_FRAME_BYTES = 2**20
MAX_PAYLOAD_BYTES = 2**16

# The events of one frame of a stream, or what the exchange says about the connection.
Decoded = tuple[Stream, Sequence[Event]] | wire.Reply | wire.ServerShutdown

# Whether an event follows, by its first id, its time and its arrival: `Sequencer.follows`.
Follows = Callable[[int, int | None, int], bool]

_decode_envelope = msgspec.json.Decoder(wire.Envelope).decode
_decode_reply = msgspec.json.Decoder(wire.Reply).decode
_decode_shutdown = msgspec.json.Decoder(wire.ServerShutdown).decode
_payload_decoders = {struct: msgspec.json.Decoder(struct).decode for struct, _ in PAYLOADS.values()}
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
# What msgspec raises on bytes it cannot read: text that is no UTF-8 and nesting past the
# interpreter's limit have errors of their own.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class StreamState:
    """One stream of one connector: how it is read, and where what it brings goes.

    `envelope` is the type of a whole frame, `payload` reads what is in it; `normalize` makes an
    event of that, and `symbol` is what it must carry. `received` is when its last frame arrived, in
    microseconds. Where it has one symbol, the pipeline keeps here what it would else look up for
    each event, a tenth of all its work: by which id and by what it is asked whether an event
    `follows` the last one, and the route of its events.
    """

    __slots__ = (
        *("envelope", "normalize", "payload", "stream", "symbol"),
        *("first_of", "follows", "is_contiguous", "received", "route"),
    )

    def __init__(self, stream: Stream) -> None:
        struct, self.normalize = PAYLOADS[stream.payload]
        self.stream = stream
        self.symbol = stream.symbol
        self.received = 0
        self.follows: Follows = unknown
        self.first_of: Callable[[Any], int] = _no_id
        self.is_contiguous = False
        self.route: Route
        self.payload = _payload_decoders[struct]
        self.envelope = msgspec.defstruct(
            "Envelope",
            [("data", struct)],
            namespace={"state": self},
            tag_field="stream",
            tag=stream.name,
            frozen=True,
            gc=False,
        )

    def look_up(self, sequencer: Sequencer, route: Route) -> None:
        """Keep what its events need, once the first has come."""
        self.first_of, self.follows = sequencer.first_of, sequencer.follows
        self.route, self.is_contiguous = route, route.id_of is not None


def unknown(_first: int, _timestamp: int | None, _received: int) -> bool:
    """In place of what asks whether an event follows, until that has been looked up."""
    return False


def _no_id(_event: Event) -> int:
    return 0


def _read_nothing(_frame: bytes) -> NoReturn:
    """Where all streams are of the whole market."""
    raise msgspec.DecodeError


class Decoder:
    """Reads the frames of one connector: of the streams it was made for, and no other.

    `read` takes the frame of a stream of one symbol: what it returns has the stream's `state`, and
    the payload as `data`. It raises one of UNREADABLE on any other; `decode` takes them all.
    `changes` is the pipeline's: how often the streams had changed when the stream states were
    looked up.
    """

    def __init__(self, streams: Iterable[Stream]) -> None:
        self.changes = 0
        self._states = {stream.name: StreamState(stream) for stream in streams}
        envelopes = [state.envelope for state in self._states.values() if state.symbol is not None]
        self.read: Callable[[bytes], Any] = _read_nothing
        if envelopes:
            self.read = msgspec.json.Decoder(Union[*envelopes]).decode

    def forget(self, changes: int) -> None:
        """Look up again where each stream goes: the streams have changed so many times."""
        self.changes = changes
        for state in self._states.values():
            state.follows = unknown

    def last_received(self) -> dict[str, int]:
        """Of each stream that has sent anything, when its last frame arrived, in microseconds."""
        return {name: state.received for name, state in self._states.items() if state.received}

    def decode(self, frame: bytes, received: int) -> Decoded:
        """What one text frame holds. `received` is its arrival in microseconds.

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
    """The event that tells consumers of a frame nobody could read."""
    head = (venue, "", None, received, LIVE)
    return Invalid(*head, error.reason, payload_text(payload), error.detail)


def payload_text(payload: bytes) -> str:
    """As much of a payload as an event may hold."""
    # Cut last: the character that stands for a byte nobody can read has three bytes.
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
    """One member of an `arr` stream: a bad one costs only itself."""
    try:
        return state.normalize(state.payload(member), state.stream, received)
    except UNREADABLE as error:
        return invalid_event(_invalid(error), bytes(member), received, state.stream.venue)
    except InvalidFrame as error:
        return invalid_event(error, bytes(member), received, state.stream.venue)


def _decode_control(frame: bytes, error: Exception) -> wire.Reply | wire.ServerShutdown:
    """Replies to control messages and the raw serverShutdown come without an envelope."""
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
