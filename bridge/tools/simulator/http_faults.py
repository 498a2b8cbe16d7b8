"""Faults of handshakes and REST requests, as data.

    DropAtOpen(share=0.1)
    RefuseRequest(status=418, retry_after_s=2, at_s=10.0, until_s=12.0, paths="*Trades")

`at_s` and `until_s` are seconds of the market, whose time is 0 before play begins. `by_s` and
`retry_after_s`, which a client waits itself, are real seconds.
"""

from dataclasses import dataclass
from http import HTTPStatus

from bridge.tools.simulator.errors import SimulatorError
from bridge.tools.simulator.faults import Fault, check_share


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeFault(Fault):
    """A fault of a `share` of the WebSocket handshakes, or of the handshake of `connection`."""

    share: float = 1.0
    times: int | None = None
    connection: int | None = None

    def __post_init__(self) -> None:
        check_share(self.share)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowHandshake(HandshakeFault):
    """Answers `by_s` late."""

    by_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RefuseHandshake(HandshakeFault):
    """Answers with an HTTP status: 429 and 418 (give `retry_after_s`), 451, 503."""

    status: int
    retry_after_s: int | None = None

    def __post_init__(self) -> None:
        HandshakeFault.__post_init__(self)
        _check_status(self.status)


class DropAtOpen(HandshakeFault):
    """Accepts the connection, and aborts it at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFault(Fault):
    """A fault of a `share` of the REST requests for `paths` (`*Trades`)."""

    share: float = 1.0
    times: int | None = None
    paths: str = "*"

    def __post_init__(self) -> None:
        check_share(self.share)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowAnswer(RequestFault):
    """Answers `by_s` late."""

    by_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RefuseRequest(RequestFault):
    """Answers with an HTTP status: 429 and 418 (give `retry_after_s`), 451, 5xx."""

    status: int
    retry_after_s: int | None = None

    def __post_init__(self) -> None:
        RequestFault.__post_init__(self)
        _check_status(self.status)


@dataclass(frozen=True, slots=True, kw_only=True)
class RestBehind(Fault):
    """REST does not yet know the trades of the last `by_ms`, in time of the market."""

    by_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RestLacks(Fault):
    """REST does not have these `ids` of `streams` (`btcusdt@trade`), nor a `share` of the others.

    The plan's seed decides which ids belong to the share.
    """

    streams: str = "*"
    ids: frozenset[int] = frozenset()
    share: float = 0.0

    def __post_init__(self) -> None:
        check_share(self.share)


def _check_status(status: int) -> None:
    if status not in set(HTTPStatus):
        raise SimulatorError(f"{status} is not an HTTP status; give one such as 429 or 503")
