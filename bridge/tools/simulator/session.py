"""The protocol with one client, without a socket: its streams, and answers to its messages.

Decide, then act: `Session.receive` says what to send and whether to close. The caller does it.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec

from bridge.tools.simulator.query import parse_query

STREAMS_PER_CONNECTION = 1_024
MESSAGES_PER_SECOND = 5
POLICY_VIOLATION = 1008

_UNKNOWN_METHOD = (
    "Invalid request: unknown variant `{}`, expected one of `SUBSCRIBE`, `UNSUBSCRIBE`, "
    "`LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, `GET_PROPERTY`"
)


class Close(NamedTuple):
    code: int
    reason: str


TOO_MANY_REQUESTS = Close(POLICY_VIOLATION, "Too many requests")
TOO_MANY_SUBSCRIPTIONS = Close(POLICY_VIOLATION, "Too many subscriptions")
INVALID_JSON = Close(POLICY_VIOLATION, "Invalid JSON")


class Outcome(NamedTuple):
    """The outcome of a message: a reply or None, and a close of the connection or None."""

    reply: bytes | None = None
    close: Close | None = None


class _Rejection(Exception):
    def __init__(self, code: int, message: str, close: Close | None = None) -> None:
        self.code = code
        self.close = close
        super().__init__(message)


@dataclass(slots=True)
class Session:
    """The state of one client.

    `streams` are in the order of subscription, real or not: Binance acknowledges any name.
    """

    combined: bool
    microseconds: bool = False
    streams: dict[str, None] = field(default_factory=dict)

    def receive(self, text: str | bytes) -> Outcome:
        """Handle one message of the client."""
        try:
            message = msgspec.json.decode(text)
        except msgspec.DecodeError:
            return Outcome(close=INVALID_JSON)
        request_id = _request_id(message)
        try:
            result = self._act(message)
        except _Rejection as rejection:
            error = {"code": rejection.code, "msg": str(rejection)}
            return Outcome(msgspec.json.encode({"error": error, "id": request_id}), rejection.close)
        return Outcome(msgspec.json.encode({"result": result, "id": request_id}))

    def subscribe(self, streams: Iterable[str]) -> Outcome:
        """Subscribe to the streams named in the URL."""
        try:
            self._subscribe(streams)
        except _Rejection as rejection:
            error = {"code": rejection.code, "msg": str(rejection)}
            return Outcome(msgspec.json.encode({"error": error, "id": None}), rejection.close)
        return Outcome()

    def _act(self, message: Any) -> Any:
        if not isinstance(message, dict):
            raise _Rejection(2, "Invalid request: expected an object")
        if "method" not in message:
            raise _Rejection(2, "Invalid request: missing field `method`")
        method, parameters = message["method"], message.get("params", [])
        if method not in _METHODS:
            raise _Rejection(2, _UNKNOWN_METHOD.format(method))
        if not isinstance(parameters, list):
            raise _Rejection(2, "Invalid request: `params` must be an array")
        return _METHODS[method](self, parameters)

    def _subscribe(self, names: Iterable[Any]) -> None:
        wanted = self.streams | dict.fromkeys(_texts(names))
        if len(wanted) > STREAMS_PER_CONNECTION:
            raise _Rejection(4, "Too many subscriptions", TOO_MANY_SUBSCRIPTIONS)
        self.streams = wanted

    def _unsubscribe(self, names: Iterable[Any]) -> None:
        for name in _texts(names):
            self.streams.pop(name, None)

    def _list(self, _: Iterable[Any]) -> list[str]:
        return list(self.streams)

    def _set_property(self, parameters: list[Any]) -> None:
        match parameters:
            case ["combined", bool(combined)]:
                self.combined = combined
            case ["combined", _]:
                raise _Rejection(1, "Invalid value type: expected Boolean")
            case _:
                raise _Rejection(0, "Unknown property")

    def _get_property(self, parameters: list[Any]) -> bool:
        if parameters != ["combined"]:
            raise _Rejection(0, "Unknown property")
        return self.combined


_METHODS: dict[str, Callable[[Session, list[Any]], Any]] = {
    "SUBSCRIBE": Session._subscribe,  # noqa: SLF001 (its own table)
    "UNSUBSCRIBE": Session._unsubscribe,  # noqa: SLF001
    "LIST_SUBSCRIPTIONS": Session._list,  # noqa: SLF001
    "SET_PROPERTY": Session._set_property,  # noqa: SLF001
    "GET_PROPERTY": Session._get_property,  # noqa: SLF001
}


def _texts(names: Iterable[Any]) -> list[str]:
    texts = list(names)
    if not all(isinstance(name, str) for name in texts):
        raise _Rejection(2, "Invalid request: stream names must be strings")
    return texts


def _request_id(message: Any) -> int | str | None:
    request_id = message.get("id") if isinstance(message, dict) else None
    return request_id if isinstance(request_id, int | str) else None


class Target(NamedTuple):
    """The parameters in a WebSocket URL."""

    combined: bool
    streams: tuple[str, ...]
    microseconds: bool


def parse_target(target: str) -> Target | None:
    """Read `/stream?streams=a/b` or `/ws/a/b`, percent-encoded or not; any other path: None."""
    path, _, query = target.partition("?")
    parameters = parse_query(query)
    microseconds = parameters.get("timeUnit", "").upper() == "MICROSECOND"
    if path.rstrip("/") == "/stream":
        names = parameters.get("streams", "")
    elif path == "/ws" or path.startswith("/ws/"):
        names = unquote(path.removeprefix("/ws"))
    else:
        return None
    streams = tuple(name for name in names.split("/") if name)
    return Target(path.startswith("/stream"), streams, microseconds)


class MessageRate:
    """Limits messages to `MESSAGES_PER_SECOND` in any second: a strict rolling window."""

    def __init__(self) -> None:
        self._latest: deque[float] = deque(maxlen=MESSAGES_PER_SECOND)

    def allows(self, now_s: float) -> bool:
        """Count a message that arrived at `now_s`, and return whether it is within the limit."""
        full = len(self._latest) == MESSAGES_PER_SECOND
        allowed = not full or now_s - self._latest[0] >= 1
        self._latest.append(now_s)
        return allowed
