"""The report of `/status`: a bridge at one moment. The server writes it, and the command reads it.

`schemas/http_status.json` is generated from these classes. Fields may be added.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from bridge.core.model.events import TIME_UNIT, Gap, SymbolStatus
from bridge.telemetry import Account


def _says(description: str, unit: str = "") -> Meta:
    return Meta(description=description, extra_json_schema={"x-unit": unit} if unit else None)


class Latency(msgspec.Struct):
    """Percentiles of a latency over the last seconds; null if nothing was observed."""

    p50_s: Annotated[float | None, _says("The median.", "seconds")]
    p90_s: Annotated[float | None, _says("The 90th percentile.", "seconds")]
    p99_s: Annotated[float | None, _says("The 99th percentile.", "seconds")]


class ConnectorReport(msgspec.Struct):
    """One connector: what keeps one connection to the exchange open."""

    name: Annotated[str, _says("The name of the connector.")]
    state: Annotated[str, _says("The state, as in the metric `connectors`.")]
    age_s: Annotated[float, _says("The age of the connection.", "seconds")]
    streams: Annotated[int, _says("The number of its streams.")]
    without_data: Annotated[int, _says("How many of them have not sent anything yet.")]
    events: Annotated[int, _says("The events that it has brought.")]
    duplicates: Annotated[int, _says("How many of them another connection had brought before.")]


class StreamReport(msgspec.Struct):
    """One stream."""

    name: Annotated[str, _says("The exchange's name of the stream.")]
    silence_s: Annotated[
        float | None, _says("The time since its last event; null before the first.", "seconds")
    ]
    is_stalled: Annotated[
        bool, _says("Whether it is silent for longer than its usual interval explains.")
    ]


class PositionReport(msgspec.Struct):
    """The position of one message type and symbol."""

    message_type: Annotated[str, _says("The message type.")]
    symbol: Annotated[str, _says("The symbol.")]
    last_id: Annotated[
        int | None, _says("The last id; null if the ids of the type carry no order.")
    ]
    last_time: Annotated[int | None, _says("The time of the last event.", TIME_UNIT)]
    held: Annotated[int, _says("How many events are held back after a hole.")]
    open_gaps: Annotated[list[Gap], _says("Announced gaps that may still be filled.")]


class SinkReport(msgspec.Struct):
    """One sink. `received` of its accounts is the sum of the three other counts."""

    name: Annotated[str, _says("kafka or redis.")]
    ready: Annotated[bool, _says("Whether it is connected and accepts records.")]
    published_per_s: Annotated[float, _says("Published events per second, of the last seconds.")]
    latency: Annotated[
        Latency,
        _says("From the arrival of an event to Kafka's answer; for Redis, the time of a flush."),
    ]
    buffer_share: Annotated[float, _says("How much of its buffer in memory is taken, 0 to 1.")]
    oldest_pending_s: Annotated[float, _says("How long the oldest event waits.", "seconds")]
    accounts: Annotated[dict[str, Account], _says("The counts since the start, by message type.")]
    dropped: Annotated[dict[str, int], _says("The dropped events by cause.")]
    failures: Annotated[dict[str, int], _says("The failures by reason.")]


class ShardReport(msgspec.Struct):
    """One shard of this bridge."""

    name: Annotated[str, _says("The name of the shard; all for the whole feed.")]
    role: Annotated[
        Literal["starting", "owner", "standby"], _says("What this bridge does for the shard.")
    ]
    owner: Annotated[str | None, _says("The bridge that publishes the shard; null: not known.")]
    standby: Annotated[str | None, _says("The bridge that would take over; null: none.")]


class Report(msgspec.Struct):
    """The status of a bridge."""

    version: Annotated[str, _says("The version of the bridge.")]
    libraries: Annotated[dict[str, str], _says("The versions of the libraries.")]
    uptime_s: Annotated[float, _says("The time since the start.", "seconds")]
    settings_age_s: Annotated[float, _says("The time since the streams changed.", "seconds")]
    needs_restart: Annotated[
        list[str], _says("Settings that have changed, and take effect after a restart.")
    ]
    bridge: Annotated[str, _says("The name of this bridge.")]
    shards: Annotated[list[ShardReport], _says("The shards of this bridge.")]
    unready: Annotated[list[str], _says("Why the bridge is not ready; empty if it is.")]
    refused: Annotated[list[str], _says("What the settings name and the exchange does not list.")]
    waiting: Annotated[list[str], _says("The patterns whose symbols do not trade yet.")]
    events_per_s: Annotated[
        dict[str, float],
        _says("Received events per second, of the last seconds, by message type."),
    ]
    exchange_latency: Annotated[Latency, _says("From the exchange's time to the arrival.")]
    connectors: Annotated[list[ConnectorReport], _says("The connectors.")]
    symbols: Annotated[list[SymbolStatus], _says("The statuses of the symbols.")]
    streams: Annotated[list[StreamReport], _says("The streams.")]
    positions: Annotated[list[PositionReport], _says("The positions.")]
    gaps: Annotated[dict[str, int], _says("The gap events by state.")]
    sinks: Annotated[list[SinkReport], _says("The sinks.")]
