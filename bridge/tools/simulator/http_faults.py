"""What can go wrong with handshakes and REST, as data.

    DropAtOpen(share=0.1)
    RefuseRequest(status=418, retry_after_s=2, at_s=10.0, until_s=12.0, paths="*Trades")

`at_s` and `until_s` are seconds of the market, and before play begins they are 0; what a client
waits itself, `by_s` and `retry_after_s`, are real ones.
"""

from dataclasses import dataclass
from http import HTTPStatus

from bridge.tools.simulator.errors import SimulatorError
from bridge.tools.simulator.faults import Fault, check_share


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeFault(Fault):
    """Something at a `share` of the WebSocket handshakes, or at that of `connection`."""

    share: float = 1.0
    times: int | None = None
    connection: int | None = None

    def __post_init__(self) -> None:
        check_share(self.share)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowHandshake(HandshakeFault):
    """The answer comes `by_s` late."""

    by_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RefuseHandshake(HandshakeFault):
    """Answered with an HTTP status: 429 and 418 (give `retry_after_s`), 451, 503."""

    status: int
    retry_after_s: int | None = None

    def __post_init__(self) -> None:
        HandshakeFault.__post_init__(self)
        _check_status(self.status)


class DropAtOpen(HandshakeFault):
    """Accepted, and aborted at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFault(Fault):
    """Something at a `share` of the REST requests for `paths` (`*Trades`)."""

    share: float = 1.0
    times: int | None = None
    paths: str = "*"

    def __post_init__(self) -> None:
        check_share(self.share)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowAnswer(RequestFault):
    """The answer comes `by_s` late."""

    by_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RefuseRequest(RequestFault):
    """Answered with an HTTP status: 429 and 418 (give `retry_after_s`), 451, 5xx."""

    status: int
    retry_after_s: int | None = None

    def __post_init__(self) -> None:
        RequestFault.__post_init__(self)
        _check_status(self.status)


@dataclass(frozen=True, slots=True, kw_only=True)
class RestBehind(Fault):
    """REST does not know the trades of the last `by_ms` of the market's time yet."""

    by_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RestLacks(Fault):
    """REST does not have these `ids` of `streams` (`btcusdt@trade`), nor a `share` of the others.

    Which ones the share takes is settled by the plan's seed.
    """

    streams: str = "*"
    ids: frozenset[int] = frozenset()
    share: float = 0.0

    def __post_init__(self) -> None:
        check_share(self.share)


def _check_status(status: int) -> None:
    if status not in set(HTTPStatus):
        raise SimulatorError(f"{status} is no HTTP status; give one such as 429 or 503")
