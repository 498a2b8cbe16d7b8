"""The report of `/status`: a bridge at one moment. The server writes it, and the command reads it.

Ages are in seconds. Times are in microseconds since the epoch, as in the events.
"""

import msgspec

from bridge.core.model.events import Gap, SymbolStatus
from bridge.telemetry import Account


class ConnectorReport(msgspec.Struct):
    """One connector; `duplicates` of its `events` had come before by another connection."""

    name: str
    state: str
    age_s: float
    streams: int
    without_data: int
    events: int
    duplicates: int


class StreamReport(msgspec.Struct):
    """One stream. `silence_s` is None before its first event. It is stalled if it is silent for
    longer than its usual interval explains.
    """

    name: str
    silence_s: float | None
    is_stalled: bool


class PositionReport(msgspec.Struct):
    """The position of one message type and symbol.

    `last_id` is None if the ids of the type carry no order. `held` is the number of events held
    back after a hole. The `open_gaps` may still be filled.
    """

    message_type: str
    symbol: str
    last_id: int | None
    last_time: int | None
    held: int
    open_gaps: list[Gap]


class SinkReport(msgspec.Struct):
    """One sink: accounts by message type, dropped events by cause, failures by reason."""

    name: str
    ready: bool
    oldest_pending_s: float
    accounts: dict[str, Account]
    dropped: dict[str, int]
    failures: dict[str, int]


class Report(msgspec.Struct):
    """The whole report.

    `settings_age_s` is the time since the streams last changed. The settings in `needs_restart`
    have changed, but take effect only after a restart. `refused` lists what the exchange does not
    list, `waiting` the patterns whose symbols do not trade yet. `gaps` counts the gap events by
    state. `symbols` are the statuses as consumers get them.
    """

    version: str
    libraries: dict[str, str]
    uptime_s: float
    settings_age_s: float
    needs_restart: list[str]
    unready: list[str]
    refused: list[str]
    waiting: list[str]
    connectors: list[ConnectorReport]
    symbols: list[SymbolStatus]
    streams: list[StreamReport]
    positions: list[PositionReport]
    gaps: dict[str, int]
    sinks: list[SinkReport]
