"""Messages on their way out: each is encoded once, however many clients want it.

A server does not mask its frames, so the bytes of a frame are the same for every client. They are
joined and written without passing through the protocol object, which is several times as fast.
"""

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import NamedTuple

from bridge.tools.simulator.fields import to_microseconds
from bridge.tools.simulator.source import Message

_FINAL_TEXT = b"\x81"  # RFC 6455, 5.2: FIN and opcode 1


class Form(NamedTuple):
    """The encoding that a connection has asked for."""

    combined: bool
    microseconds: bool


class Batch:
    """Messages in the order played, for all clients that want some of them."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = messages
        self._streams = frozenset([stream for stream, _ in messages])
        self._texts: dict[Form, list[bytes]] = {}
        self._frames: dict[Form, list[bytes]] = {}

    def texts(self, streams: Collection[str], form: Form) -> Sequence[bytes]:
        """Return the texts of the messages of these streams."""
        if form not in self._texts:
            self._texts[form] = _texts(self._messages, form)
        return self._chosen(self._texts[form], streams)

    def named_texts(self, streams: Collection[str], form: Form) -> list[tuple[str, bytes]]:
        """Return the same texts, each with its stream."""
        if form not in self._texts:
            self._texts[form] = _texts(self._messages, form)
        return [
            (stream, text)
            for (stream, _), text in zip(self._messages, self._texts[form], strict=True)
            if stream in streams
        ]

    def frames(self, streams: Collection[str], form: Form) -> bytes:
        """Return the same texts as WebSocket frames, joined."""
        if form not in self._frames:
            self._frames[form] = [
                _header(len(text)) + text for text in self.texts(self._streams, form)
            ]
        return b"".join(self._chosen(self._frames[form], streams))

    def _chosen(self, encoded: Sequence[bytes], streams: Collection[str]) -> Sequence[bytes]:
        if all(stream in streams for stream in self._streams):
            return encoded
        return [
            message
            for (stream, _), message in zip(self._messages, encoded, strict=True)
            if stream in streams
        ]


def _texts(messages: Sequence[Message], form: Form) -> list[bytes]:
    if form.microseconds:
        messages = [(stream, to_microseconds(stream, payload)) for stream, payload in messages]
    if not form.combined:
        return [payload for _, payload in messages]
    return [b"%b%b}" % (_opening(stream), payload) for stream, payload in messages]


@lru_cache(maxsize=1 << 16)
def _opening(stream: str) -> bytes:
    return b'{"stream":"%b","data":' % stream.encode()


@lru_cache(maxsize=1 << 12)
def _header(length: int) -> bytes:
    """Return the unmasked frame header of a text of `length` bytes (RFC 6455, 5.2)."""
    if length < 126:  # noqa: PLR2004
        return _FINAL_TEXT + length.to_bytes(1)
    if length < 1 << 16:
        return _FINAL_TEXT + b"\x7e" + length.to_bytes(2)
    return _FINAL_TEXT + b"\x7f" + length.to_bytes(8)
