"""The report of a verification: plain data, the same for people and for `--json`."""

from decimal import Decimal
from typing import Literal

import msgspec

# The number of different problems that a report names.
PROBLEMS_MAX = 50


class Check(msgspec.Struct):
    """The result of one check, with a text that says what was seen.

    `is_provoked` means that it is about an error that was provoked on loopback.
    """

    name: str
    passed: bool
    text: str
    is_provoked: bool = False


class Connection(msgspec.Struct, kw_only=True):
    """The connections that carried the streams.

    `first_message_s` counts from the start of the feed, null without a message. `open` is the
    number of `connectors` with an open connection at the end. `lost` counts closed connections by
    cause, including planned replacements.
    """

    websocket_url: str
    rest_url: str
    transport: str
    compression: str
    connectors: int
    open: int
    first_message_s: float | None
    lost: dict[str, int]


class Tls(msgspec.Struct, kw_only=True):
    """The encryption of a connection. `valid_until` is the text of the certificate."""

    version: str
    cipher: str
    subject: str
    issuer: str
    valid_until: str


class Handshake(msgspec.Struct, kw_only=True):
    """What a connection of its own has shown.

    `address` is where it led to, a proxy if there is one. `tls` is null without encryption.
    `extensions` is what the exchange agreed on, for example `permessage-deflate`.
    """

    address: str
    tls: Tls | None
    extensions: str
    handshake_ms: float
    pings_ms: list[float]


class Clock(msgspec.Struct):
    """The exchange's clock minus ours, and the uncertainty: half the time of the request."""

    offset_ms: float
    uncertainty_ms: float


class Latency(msgspec.Struct):
    """The latencies that 50, 90, 99 and 99.9 % do not exceed. At most 98 s can be measured."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float


class Range(msgspec.Struct):
    """The least and the greatest of some prices or volumes."""

    least: Decimal
    greatest: Decimal


class Problem(msgspec.Struct):
    """The invalid messages of one symbol and reason, with the detail of the first."""

    symbol: str
    reason: str
    count: int
    example: str


class _WithLatency(msgspec.Struct, kw_only=True):
    latency: Latency | None

    @property
    def p50_ms(self) -> float | None:
        return self.latency.p50_ms if self.latency else None

    @property
    def p99_ms(self) -> float | None:
        return self.latency.p99_ms if self.latency else None


class Moment(_WithLatency, kw_only=True):
    """The events of a moment, which begins `at_s` after the first message."""

    at_s: int
    length_s: int
    events: int


class Messages(msgspec.Struct, kw_only=True):
    """The messages that came.

    `invalid` is by reason; `problems` has at most PROBLEMS_MAX examples. `duplicates` were dropped.
    `fetched` were fetched over REST to fill holes. `held` wait for a hole at the end. `gaps` are
    gap events by state. Latency is from the exchange's time to ours, without a correction of the
    clocks.
    """

    frames: int
    events: int
    invalid: dict[str, int]
    problems: list[Problem]
    per_second: float
    most_in_a_second: int
    duplicates: int
    fetched: int
    held: int
    gaps: dict[str, int]
    latency: Latency | None


class StreamReport(_WithLatency, kw_only=True):
    """The events of one message type and symbol.

    `first_id` and `last_id` are null if the ids are not contiguous, `prices` and `volumes` if the
    events have none, `latency` if the exchange sends no time.
    """

    message_type: str
    symbol: str
    events: int
    per_second: float
    first_after_s: float
    longest_silence_s: float
    first_id: int | None
    last_id: int | None
    prices: Range | None
    volumes: Range | None


class Observation(msgspec.Struct, kw_only=True):
    """The observation of a feed over `seconds`, which began at `begun` (microseconds).

    `handshake` is null if the connection failed; `handshake_error` says why.
    `asked` is the number of streams, `never_heard` names the streams without data. `refused` and
    `findings` (of the audit) have a sentence each. `proven` counts events by message type whose ids
    prove that none is missing, repeated or out of order.
    """

    begun: int
    seconds: float
    asked: int
    symbols: int
    refused: list[str]
    never_heard: list[str]
    findings: list[str]
    proven: dict[str, int]
    handshake: Handshake | None
    handshake_error: str
    connection: Connection
    messages: Messages
    clock: Clock | None
    streams: list[StreamReport]
    moments: list[Moment]


class Report(msgspec.Struct, kw_only=True):
    """The whole verification. The verdict is `ok` if every check has passed."""

    version: str
    verdict: Literal["ok", "failed"]
    checks: list[Check]
    observation: Observation
