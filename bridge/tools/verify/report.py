"""What a verification says: plain data, the same for people and for `--json`."""

from typing import Literal

import msgspec


class Check(msgspec.Struct):
    """One thing that was looked at: whether it is as it should be, and what was seen."""

    name: str
    passed: bool
    text: str


class Connection(msgspec.Struct, kw_only=True):
    """How the streams came. `first_message_s`: from the start of the feed, null without one;
    `open` connections of `connectors` at the end; `lost` ones by cause, those replaced on purpose
    too.
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
    """The exchange's clock less ours, and half the time that asking took: it is no more exact."""

    offset_ms: float
    uncertainty_ms: float


class Messages(msgspec.Struct, kw_only=True):
    """What came. `invalid` by reason; `duplicates` were dropped, `fetched` over REST to fill holes;
    `held` wait behind a hole at the end; `gaps` are gap events by state. Latency is from the
    exchange's time to ours, clocks as they are.
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
    """The events of one message type and symbol. Latencies are null where the exchange sends no
    time, and 98 s stand for all that is longer.
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
    """What was seen in `seconds`. `asked` streams; those `never_heard`; what was `refused`, and
    what the audit found, a sentence each; `proven`: by kind of event the number of those whose
    ids prove that none is missing, repeated or out of order.
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
    """The whole verification; `ok` where every check has passed."""

    version: str
    verdict: Literal["ok", "failed"]
    checks: list[Check]
    observation: Observation
