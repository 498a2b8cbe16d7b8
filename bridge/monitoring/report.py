"""What `/status` tells: a bridge at one moment, in one piece. The server writes it, the command
reads it.

Ages are in seconds, times in microseconds since the epoch, as in the events.
"""

import msgspec

from bridge.core.model.events import Gap
from bridge.telemetry import Account


class ConnectorReport(msgspec.Struct):
    """One connector: of the `events` it has brought, `duplicates` had come before."""

    name: str
    state: str
    age_s: float
    streams: int
    without_data: int
    events: int
    duplicates: int


class StreamReport(msgspec.Struct):
    """One stream; `silence_s` is None before its first event, and stalled is longer than its own
    rhythm explains.
    """

    name: str
    silence_s: float | None
    is_stalled: bool


class PositionReport(msgspec.Struct):
    """How far the events of one type and symbol have come. `last_id` is None where ids say nothing;
    `held` events wait behind a hole, and `open_gaps` may yet be filled.
    """

    message_type: str
    symbol: str
    last_id: int | None
    last_time: int | None
    held: int
    open_gaps: list[Gap]


class SinkReport(msgspec.Struct):
    """One sink: its accounts by message type, its drops by cause, its failures by reason."""

    name: str
    ready: bool
    oldest_pending_s: float
    accounts: dict[str, Account]
    dropped: dict[str, int]
    failures: dict[str, int]


class Report(msgspec.Struct):
    """The whole of it; `gaps` counts the gap events of each state. For `settings_age_s` the streams
    have been the present ones; the settings in `needs_restart` count from the next start only.
    """

    version: str
    libraries: dict[str, str]
    uptime_s: float
    settings_age_s: float
    needs_restart: list[str]
    unready: list[str]
    refused: list[str]
    connectors: list[ConnectorReport]
    streams: list[StreamReport]
    positions: list[PositionReport]
    gaps: dict[str, int]
    sinks: list[SinkReport]
