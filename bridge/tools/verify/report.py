"""The report of a verification: plain data, the same for people and for `--json`."""

from typing import Literal

import msgspec


class Check(msgspec.Struct):
    """The result of one check, with a text that says what was seen."""

    name: str
    passed: bool
    text: str


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


class Clock(msgspec.Struct):
    """The exchange's clock minus ours, and the uncertainty: half the time of the request."""

    offset_ms: float
    uncertainty_ms: float


class Messages(msgspec.Struct, kw_only=True):
    """The messages that came.

    `invalid` is by reason. `duplicates` were dropped. `fetched` were fetched over REST to fill
    holes. `held` wait for a hole at the end. `gaps` are gap events by state. Latency is from the
    exchange's time to ours, without a correction of the clocks.
    """

    frames: int
    events: int
    invalid: dict[str, int]
    per_second: float
    most_in_a_second: int
    duplicates: int
    fetched: int
    held: int
    gaps: dict[str, int]
    latency_p50_ms: float | None
    latency_p99_ms: float | None


class StreamReport(msgspec.Struct, kw_only=True):
    """The events of one message type and symbol.

    Latencies are null if the exchange sends no time. Latencies above 98 s are reported as 98 s.
    """

    message_type: str
    symbol: str
    events: int
    per_second: float
    first_after_s: float
    longest_silence_s: float
    latency_p50_ms: float | None
    latency_p99_ms: float | None


class Observation(msgspec.Struct, kw_only=True):
    """The observation of a feed over `seconds`.

    `asked` is the number of streams, `never_heard` names the streams without data. `refused` and
    `findings` (of the audit) have a sentence each. `proven` counts events by message type whose ids
    prove that none is missing, repeated or out of order.
    """

    seconds: float
    asked: int
    symbols: int
    refused: list[str]
    never_heard: list[str]
    findings: list[str]
    proven: dict[str, int]
    connection: Connection
    messages: Messages
    clock: Clock | None
    streams: list[StreamReport]


class Report(msgspec.Struct, kw_only=True):
    """The whole verification. The verdict is `ok` if every check has passed."""

    version: str
    verdict: Literal["ok", "failed"]
    checks: list[Check]
    observation: Observation
