"""Builds the report of `/status` from the state of the components of a running bridge."""

from collections import Counter
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet

from bridge.binance.connector import Connector
from bridge.core.sequencing.contiguous import Contiguous
from bridge.core.sequencing.rules import Sequencer
from bridge.monitoring.recent import EXCHANGE
from bridge.monitoring.report import (
    ConnectorReport,
    Latency,
    PositionReport,
    Report,
    ShardReport,
    SinkReport,
    StreamReport,
)
from bridge.monitoring.shards import ShardStatus, SinkGroup
from bridge.monitoring.status import Status, age_s, version
from bridge.sinks.kafka.owner import this_bridge
from bridge.telemetry import accounts, now_us

_LIBRARIES = ("aiokafka", "msgspec", "redis", "uvloop", "websockets")


def report(status: Status) -> Report:
    """Return the report of a bridge at this moment."""
    subscription, bridge = status.subscription(), this_bridge(status.cluster).name
    return Report(
        version=version("tickbridge"),
        libraries={name: version(name) for name in _LIBRARIES},
        uptime_s=status.uptime_s(),
        settings_age_s=status.settings_age_s(),
        needs_restart=status.reloads.waiting,
        bridge=bridge,
        shards=[_shard(shard, bridge) for shard in status.shards],
        unready=status.unready(),
        refused=subscription.refused,
        waiting=subscription.waiting,
        events_per_s=status.recent.received_per_s(),
        exchange_latency=status.recent.latencies()[EXCHANGE],
        connectors=[connector_report(connector) for connector in status.feed.connectors]
        if status.feed
        else [],
        symbols=list(status.symbols.values()),
        streams=list(_streams(status)),
        positions=[
            _position(*named)
            for shard in status.shards
            if shard.sequencers
            for named in shard.sequencers.named()
        ],
        gaps=dict(status.counts.gaps),
        sinks=sink_reports(status),
    )


def connector_report(connector: Connector) -> ConnectorReport:
    """Return the report of one connector."""
    return ConnectorReport(
        name=connector.name,
        state=connector.state.value,
        age_s=connector.age_s(),
        streams=len(connector.streams),
        without_data=len(connector.without_data()),
        events=connector.arrivals.events,
        duplicates=connector.arrivals.duplicates,
    )


def _shard(shard: ShardStatus, bridge: str) -> ShardReport:
    name, other = str(shard.id), shard.role.other or None
    if shard.owner_watch:
        owner = shard.owner_watch.owner
        return ShardReport(name, "standby", owner.name if owner else None, bridge)
    if shard.is_owner:
        return ShardReport(name, "owner", bridge, other)
    return ShardReport(name, "starting", None, None)


def _streams(status: Status) -> Iterator[StreamReport]:
    heard = status.last_received()
    stalled = set(status.stalled_streams())
    for connectors in status.feed.bundles if status.feed else ():
        for stream in connectors[0].streams:
            yield stream_report(stream.name, heard, stalled)


def stream_report(name: str, heard: Mapping[str, int], stalled: AbstractSet[str]) -> StreamReport:
    """Return the report of one stream. `heard` is the result of `Status.last_received`."""
    silence_s = (now_us() - heard[name]) / 1e6 if name in heard else None
    return StreamReport(name, silence_s, name in stalled)


def _position(symbol: str, sequencer: Sequencer) -> PositionReport:
    open_gaps = sequencer.open_gaps if isinstance(sequencer, Contiguous) else ()
    return PositionReport(
        message_type=sequencer.message_type,
        symbol=symbol,
        last_id=sequencer.last_id,
        last_time=sequencer.last_time,
        held=sequencer.held,
        open_gaps=list(open_gaps),
    )


def sink_reports(status: Status) -> list[SinkReport]:
    """Return the reports of the sinks."""
    rates, latencies = status.recent.published_per_s(), status.recent.latencies()
    return [
        _sink(sink, status.counts.received, rates[sink.name], latencies[sink.name])
        for sink in status.sinks
    ]


def _sink(
    sink: SinkGroup, received: Mapping[str, int], published_per_s: float, latency: Latency
) -> SinkReport:
    dropped: Counter[str] = Counter(dict.fromkeys(sink.drop_causes, 0))
    for (_, cause), count in sink.counts.dropped.items():
        dropped[cause] += count
    return SinkReport(
        name=sink.name,
        ready=sink.ready,
        published_per_s=published_per_s,
        latency=latency,
        buffer_share=sink.buffer_share(),
        oldest_pending_s=age_s(sink.oldest_received()),
        accounts=accounts(received, sink.counts, sink.pending()),
        dropped=dict(dropped),
        failures={reason: sink.counts.failures[reason] for reason in sink.failure_reasons},
    )
