"""The exceptions of Tickbridge, and the exit code of a process that stops with each of them.

    TickbridgeError           1
    ├── SettingsError         2  every problem of the settings, reported together
    ├── MissingExtra          2  a library of an extra of the package is not installed
    ├── FeedRefused           2  the exchange refuses the settings: 400, 401, 404, 451, TLS
    ├── FeedUnavailable       1  refused, reset, timed out, 5xx, 403, 418, 429: retried
    ├── InvalidFrame          1  one frame is unreadable: counted by reason, the bridge continues
    ├── SinkUnavailable       1  Kafka or Redis is unreachable: retried
    ├── RecordsRemoved        1  Kafka no longer has the records that a reader continues with
    ├── TimeRemoved           1  Kafka no longer has the events of a time range
    ├── BridgeUnavailable     1  the bridge does not answer a request for its status
    ├── SinkRefused           2  Kafka or Redis refuses the settings: credentials, TLS
    │   └── TopicsDenied      2  Kafka denies a right to a topic
    ├── Fenced                4  another bridge publishes to the topics now
    └── UndeliveredRecords    3  stopped with records that some sink has not received

The module that calls a library converts the library's errors into one of these. No message contains
a secret. What a server or a library says is shortened (`describe`, `shorten`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

InvalidReason = Literal[
    "malformed",  # not JSON, or not the envelope of a combined stream
    "mistyped",  # a field is missing or has the wrong type
    "not_a_number",  # a price or volume is not a decimal number
    "unknown_type",
    "unknown_stream",
    "wrong_symbol",
    "oversized",
    "binary",
]
ReconnectCause = Literal[
    "connect",  # refused, reset or timed out while connecting, or a 5xx
    "rate_limited",  # 418 or 429
    "refused",  # 403, or any refusal of a connector that worked before
    "closed",  # by the exchange or the network
    "ping_timeout",  # our ping was not answered
    "server_shutdown",  # the exchange announced a shutdown: replaced
    "rotation",  # maximum age or the configured time of day reached: replaced
    "stalled",  # open, but one stream or all streams were silent too long: replaced
    "streams_changed",  # the settings name other streams: replaced
]
RECONNECT_CAUSES: tuple[ReconnectCause, ...] = get_args(ReconnectCause)
INVALID_REASONS: tuple[InvalidReason, ...] = get_args(InvalidReason)

# Redis answers with a text of 1 KB if it is in protected mode.
FOREIGN_MAX_CHARACTERS = 200


class TickbridgeError(Exception):
    """The base class of all exceptions that Tickbridge raises on purpose."""

    exit_code: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of the settings.

    `key` is the dotted key (`kafka.topic`), the variable or the file. `value` is the value found
    there, for display only: secrets are masked, and it is None if there was no value.
    """

    key: str
    value: str | None
    what: str
    remedy: str

    def __str__(self) -> str:
        subject = self.key if self.value is None else f"{self.key} = {self.value}"
        return f"{subject}: {self.what}; {self.remedy}"


class SettingsError(TickbridgeError):
    """All problems of the settings; the text has one line for each."""

    exit_code = 2

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class MissingExtra(TickbridgeError):
    """A library that an extra of the package brings is not installed. `use` is what needs it."""

    exit_code = 2

    def __init__(self, use: str, library: str, extra: str) -> None:
        super().__init__(
            f"{use} needs {library}, which is not installed; in the repository of Tickbridge, run: "
            f"pip install '.[{extra}]'"
        )


class _Refused(TickbridgeError):
    exit_code = 2

    def __init__(self, what: str, remedy: str) -> None:
        self.remedy = remedy
        super().__init__(f"{what}; {remedy}")


class FeedRefused(_Refused):
    """The exchange refuses what the settings ask for; a retry will not help.

    `status` is the HTTP status, if the exchange answered with one.
    """

    def __init__(self, what: str, remedy: str, *, status: int | None = None) -> None:
        self.status = status
        super().__init__(what, remedy)


class FeedUnavailable(TickbridgeError):
    """The exchange is unavailable at the moment.

    `retry_after_s` is the wait the exchange asked for, if any. `cause` is a metrics label.
    """

    def __init__(
        self, what: str, retry_after_s: float | None = None, *, cause: ReconnectCause = "connect"
    ) -> None:
        self.retry_after_s = retry_after_s
        self.cause = cause
        super().__init__(what)


class InvalidFrame(TickbridgeError):
    """A frame that cannot be used. `reason` is a metrics label, `detail` is for people."""

    def __init__(self, reason: InvalidReason, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


class SinkUnavailable(TickbridgeError):
    """Kafka or Redis is unavailable at the moment; a retry will help."""


class RecordsRemoved(TickbridgeError):
    """Kafka no longer has the records at the offset at which a reader continues."""

    def __init__(self, partition: str, offset: int, begin: int, end: int) -> None:
        super().__init__(
            f"Kafka has no record {offset} of {partition}, only those from {begin} to {end}: "
            "retention has removed it, or the topic was created again; start with 'earliest' to "
            "read what is left"
        )


class EventRemoved(TickbridgeError):
    """Kafka no longer has the event at whose id a reader starts."""

    def __init__(self, topic: str, wanted: int, first: int) -> None:
        super().__init__(
            f"the topic {topic} begins with id {first} of this symbol, after {wanted}: retention "
            "has removed the earlier ones, or no bridge has published them; start with 'earliest'"
        )


class TimeRemoved(TickbridgeError):
    """Kafka no longer has the events of a time range. The arguments are texts."""

    def __init__(self, topic: str, since: str, oldest: str) -> None:
        super().__init__(
            f"retention has removed events of {topic} since {since}; start at {oldest} or later, "
            "or use `tickbridge export --from earliest` for what is left"
        )


class BridgeUnavailable(TickbridgeError):
    """No bridge answers at the address that was asked."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}; {remedy}")


class SinkRefused(_Refused):
    """Kafka or Redis refuses what the settings ask for; a retry will not help."""


class TopicsDenied(SinkRefused):
    """Kafka denies a right to these topics."""

    def __init__(self, topics: Sequence[str]) -> None:
        self.topics = topics
        named = f"the topic{'s' * (len(topics) > 1)} {', '.join(topics)}" if topics else "a topic"
        super().__init__(
            f"Kafka denies {named}", "grant the user of the bridge Describe, Read and Write there"
        )


class Fenced(TickbridgeError):
    """Another bridge publishes to the topics of this one now. `owner` names it. With `is_refused`
    the settings do not allow to wait for it.
    """

    exit_code = 4

    def __init__(self, owner: str, *, is_refused: bool = False) -> None:
        self.owner, self.is_refused = owner, is_refused
        super().__init__(
            f"another bridge publishes to the same topics now: {owner}; stop one of the two, or "
            "give them different kafka.topic"
        )


class UndeliveredRecords(TickbridgeError):
    """Stopped while `count` records were still waiting for a sink."""

    exit_code = 3

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(f"stopped with {count} records undelivered")


def describe(error: BaseException) -> str:
    """Return the text of an error, or else the name of its class. A text of others is shortened."""
    text = str(error) if isinstance(error, TickbridgeError) else shorten(str(error))
    return text or type(error).__name__


def shorten(text: str) -> str:
    """Return a text from outside on one line, printable, with FOREIGN_MAX_CHARACTERS at most."""
    printable = "".join(each if each.isprintable() else " " for each in text)
    line = " ".join(printable.split())
    return line if len(line) <= FOREIGN_MAX_CHARACTERS else f"{line[: FOREIGN_MAX_CHARACTERS - 1]}…"


def first_of_ours(group: BaseExceptionGroup[BaseException]) -> TickbridgeError | None:
    """Return the first error of Tickbridge in a group; None if there is none."""
    for error in group.exceptions:
        if isinstance(error, TickbridgeError):
            return error
        if isinstance(error, BaseExceptionGroup) and (ours := first_of_ours(error)):
            return ours
    return None
