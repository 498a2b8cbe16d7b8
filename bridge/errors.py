"""Everything Tickbridge raises by name, and the exit code of a process that ends of it.

    TickbridgeError           1
    ├── SettingsError         2  all that is wrong with the settings, at once
    ├── FeedRefused           2  the exchange says the settings are wrong: 400, 403, 404, 451, TLS
    ├── FeedUnavailable       1  refused, reset, timed out, 5xx, 418, 429: retried
    ├── InvalidFrame          1  one frame nobody can read: counted by its reason, nothing stops
    ├── SinkUnavailable       1  Kafka or Redis is away: retried
    ├── BridgeUnavailable     1  asked for its status, a bridge does not answer
    ├── SinkRefused           2  Kafka or Redis says the settings are wrong: credentials, TLS
    └── UndeliveredRecords    3  stopped with records that no sink has

Foreign errors become one of these once, at the edge where they appear. No message holds a secret.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

InvalidReason = Literal[
    "malformed",  # no JSON, or not the envelope of a combined stream
    "mistyped",  # a field is missing or of the wrong type
    "not_a_number",  # a price or volume that is no decimal number
    "unknown_type",
    "unknown_stream",
    "wrong_symbol",
    "oversized",
    "binary",
]
ReconnectCause = Literal[
    "connect",  # refused, reset or timed out while connecting, or a 5xx
    "rate_limited",  # 418 or 429
    "refused",  # 403 or 451 on a connector that had worked
    "closed",  # by the exchange, or the network
    "ping_timeout",  # our ping was not answered
    "server_shutdown",  # the exchange announced it: replaced
    "rotation",  # of age, or at the time of day: replaced
    "stalled",  # open, but a stream or all were silent too long: replaced
    "streams_changed",  # the settings name other streams: replaced
]
RECONNECT_CAUSES: tuple[ReconnectCause, ...] = get_args(ReconnectCause)
INVALID_REASONS: tuple[InvalidReason, ...] = get_args(InvalidReason)


class TickbridgeError(Exception):
    """The root: what we raise on purpose."""

    exit_code: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the settings.

    `key` is the dotted key (`kafka.topic`), the variable or the file; `value` what stood there,
    for reading only: secrets are masked, and it is None where nothing stood.
    """

    key: str
    value: str | None
    what: str
    remedy: str

    def __str__(self) -> str:
        subject = self.key if self.value is None else f"{self.key} = {self.value}"
        return f"{subject}: {self.what}; {self.remedy}"


class SettingsError(TickbridgeError):
    """Every problem of the settings at once; its text has one line for each."""

    exit_code = 2

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class _Refused(TickbridgeError):
    exit_code = 2

    def __init__(self, what: str, remedy: str) -> None:
        self.remedy = remedy
        super().__init__(f"{what}; {remedy}")


class FeedRefused(_Refused):
    """The exchange refuses what the settings ask for; trying again will not help.

    `status` is the HTTP status where that was the answer.
    """

    def __init__(self, what: str, remedy: str, *, status: int | None = None) -> None:
        self.status = status
        super().__init__(what, remedy)


class FeedUnavailable(TickbridgeError):
    """The exchange cannot be had just now; `retry_after_s` where it said how long to wait.

    `cause` is a metrics label.
    """

    def __init__(
        self, what: str, retry_after_s: float | None = None, *, cause: ReconnectCause = "connect"
    ) -> None:
        self.retry_after_s = retry_after_s
        self.cause = cause
        super().__init__(what)


class InvalidFrame(TickbridgeError):
    """A frame that cannot be used: `reason` is a metrics label, `detail` is for people."""

    def __init__(self, reason: InvalidReason, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


class SinkUnavailable(TickbridgeError):
    """Kafka or Redis cannot be had just now; trying again will help."""


class BridgeUnavailable(TickbridgeError):
    """No bridge answers where one was asked for."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}; {remedy}")


class SinkRefused(_Refused):
    """Kafka or Redis refuses what the settings ask for; trying again will not help."""


class UndeliveredRecords(TickbridgeError):
    """Stopped while `count` records were still waiting for a sink."""

    exit_code = 3

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(f"stopped with {count} records undelivered")
