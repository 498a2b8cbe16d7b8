"""One frame in, its events out, or an InvalidFrame that says what is wrong with it.

The combined form wraps each payload, `{"stream":name,"data":payload}`. A frame's first bytes are
those of its stream's name, and so of the decoder that reads it in one go: 0.4 us for a trade, where
`json.loads` alone takes 5. What does not begin or read as expected is looked at with care.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from bridge.core import wire
from bridge.core.events import Event, Invalid
from bridge.core.normalize import LIVE, PAYLOADS
from bridge.core.streams import Stream
from bridge.errors import InvalidFrame, InvalidReason

MAX_FRAME_BYTES = 2**20
MAX_PAYLOAD_BYTES = 2**16

# The events of one frame of a stream, or what the exchange says about the connection.
Decoded = tuple[Stream, Sequence[Event]] | wire.Reply | wire.ServerShutdown

_decode_envelope = msgspec.json.Decoder(wire.Envelope).decode
_decode_reply = msgspec.json.Decoder(wire.Reply).decode
_decode_shutdown = msgspec.json.Decoder(wire.ServerShutdown).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
# What msgspec raises on bytes it cannot read: text that is no UTF-8 and nesting past the
# interpreter's limit have errors of their own.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
# No quote, no such stream.
_UNUSUAL = (KeyError, ValueError, *_UNREADABLE)
_HEAD = b'{"stream":"'
_NAME_AT = len(_HEAD)


class Reader:
    """How one stream's frames are read: `whole` reads a frame, `payload` what is in its envelope;
    `normalize` makes an event of it, and `symbol` is what that must carry.
    """

    __slots__ = ("name", "normalize", "payload", "stream", "symbol", "whole")

    def __init__(self, stream: Stream) -> None:
        struct, self.normalize = PAYLOADS[stream.payload]
        self.stream = stream
        self.name = stream.name
        self.symbol = stream.symbol
        envelope = msgspec.defstruct("Envelope", [("data", struct)], frozen=True, gc=False)
        self.whole: Callable[[bytes], Any] = msgspec.json.Decoder(envelope).decode
        self.payload = msgspec.json.Decoder(struct).decode


class Decoder:
    """Reads the frames of one leg: of the streams it was made for, and no other.

    `last_received` says for each stream when its last frame arrived, in microseconds.
    """

    def __init__(self, streams: Iterable[Stream]) -> None:
        self._readers = {stream.name: Reader(stream) for stream in streams}
        self._by_head = {
            _HEAD + reader.name.encode(): reader
            for reader in self._readers.values()
            if reader.symbol is not None
        }
        self.last_received: dict[str, int] = {}

    def decode(self, frame: bytes, received: int) -> Decoded:
        """What one text frame holds. `received` is its arrival in microseconds.

        Raises InvalidFrame, and nothing else, whatever the bytes are.
        """
        try:
            reader = self._by_head[frame[: frame.index(b'"', _NAME_AT)]]
            data = reader.whole(frame).data
        except _UNUSUAL:
            return self._decode_unusual(frame, received)
        event = reader.normalize(data, reader.stream, received)
        if event.symbol != reader.symbol or len(frame) > MAX_FRAME_BYTES:
            return self._decode_unusual(frame, received)
        self.last_received[reader.name] = received
        return reader.stream, (event,)

    def _decode_unusual(self, frame: bytes, received: int) -> Decoded:
        """Streams of the whole market, blanks or keys in another order, replies to control
        messages, and what nobody can read.
        """
        if len(frame) > MAX_FRAME_BYTES:
            raise InvalidFrame("oversized", f"{len(frame)} bytes, at most {MAX_FRAME_BYTES}")
        try:
            envelope = _decode_envelope(frame)
        except _UNREADABLE as error:
            return _decode_control(frame, error)
        reader = self._readers.get(envelope.stream)
        if reader is None:
            return _decode_unexpected(envelope)
        try:
            events = _events(reader, envelope.data, received)
        except _UNREADABLE as error:
            raise _invalid(error) from None
        self.last_received[reader.name] = received
        return reader.stream, events


def invalid_event(error: InvalidFrame, payload: bytes, received: int, venue: str) -> Invalid:
    """The event that tells consumers of a frame nobody could read."""
    head = (venue, "", None, received, LIVE)
    return Invalid(*head, error.reason, payload_text(payload), error.detail)


def payload_text(payload: bytes) -> str:
    """As much of a payload as an event may hold."""
    # Cut last: the character that stands for a byte nobody can read has three bytes.
    text = payload[:MAX_PAYLOAD_BYTES].decode(errors="replace").encode()[:MAX_PAYLOAD_BYTES]
    return text.decode(errors="ignore")


def _events(reader: Reader, data: msgspec.Raw, received: int) -> Sequence[Event]:
    if reader.symbol is None:
        return [_member(reader, member, received) for member in _decode_list(data)]
    event = reader.normalize(reader.payload(data), reader.stream, received)
    if event.symbol != reader.symbol:
        raise InvalidFrame("wrong_symbol", f"{event.symbol!r:.200} on {reader.name}")
    return (event,)


def _member(reader: Reader, member: msgspec.Raw, received: int) -> Event:
    """One member of an `arr` stream: a bad one costs only itself."""
    try:
        return reader.normalize(reader.payload(member), reader.stream, received)
    except _UNREADABLE as error:
        return invalid_event(_invalid(error), bytes(member), received, reader.stream.venue)
    except InvalidFrame as error:
        return invalid_event(error, bytes(member), received, reader.stream.venue)


def _decode_control(frame: bytes, error: Exception) -> wire.Reply | wire.ServerShutdown:
    """Replies to control messages and the raw serverShutdown come without an envelope."""
    for decode in (_decode_reply, _decode_shutdown):
        try:
            return decode(frame)
        except _UNREADABLE:
            continue
    raise InvalidFrame("malformed", str(error)[:200])


def _decode_unexpected(envelope: wire.Envelope) -> wire.ServerShutdown:
    if envelope.stream == "!serverShutdown":
        try:
            return _decode_shutdown(envelope.data)
        except _UNREADABLE as error:
            raise _invalid(error) from None
    raise InvalidFrame("unknown_stream", repr(envelope.stream)[:200])


def _invalid(error: Exception) -> InvalidFrame:
    reason: InvalidReason
    if not isinstance(error, msgspec.ValidationError):
        return InvalidFrame("malformed", str(error)[:200])
    reason = "unknown_type" if str(error).endswith("`$.e`") else "mistyped"
    return InvalidFrame(reason, str(error)[:200])
