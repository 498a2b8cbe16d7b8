"""Makes the report of `/status` from what the parts of a running bridge say of themselves."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping

from bridge.binance.connector import Leg
from bridge.core.sequencing.contiguous import Contiguous
from bridge.core.sequencing.rules import Track
from bridge.monitoring.report import LegReport, PositionReport, Report, SinkReport, StreamReport
from bridge.monitoring.status import Status, age_s, version
from bridge.pipeline.sink import Sink
from bridge.telemetry import accounts

_LIBRARIES = ("aiokafka", "msgspec", "redis", "uvloop", "websockets")


def report(status: Status) -> Report:
    """A bridge as it is now."""
    return Report(
        version=version("tickbridge"),
        libraries={name: version(name) for name in _LIBRARIES},
        uptime_s=status.uptime_s(),
        settings_age_s=status.settings_age_s(),
        needs_restart=status.reloads.waiting,
        unready=status.unready(),
        refused=list(status.refused),
        legs=[_leg(leg) for leg in status.feed.legs] if status.feed else [],
        streams=list(_streams(status)),
        positions=[_position(*named) for named in status.tracks.named()] if status.tracks else [],
        gaps=dict(status.counts.gaps),
        sinks=[_sink(sink, status.counts.received) for sink in status.sinks],
    )


def _leg(leg: Leg) -> LegReport:
    return LegReport(
        name=leg.name,
        state=leg.state.value,
        age_s=leg.age_s(),
        streams=len(leg.streams),
        silent=len(leg.silent()),
        events=leg.arrivals.events,
        repeats=leg.arrivals.repeats,
    )


def _streams(status: Status) -> Iterator[StreamReport]:
    heard = status.last_received()
    overdue = set(status.overdue_streams())
    now = time.time_ns() // 1000
    for legs in status.feed.parts if status.feed else ():
        for name in (stream.name for stream in legs[0].streams):
            silence_s = (now - heard[name]) / 1e6 if name in heard else None
            yield StreamReport(name, silence_s, name in overdue)


def _position(symbol: str, track: Track) -> PositionReport:
    held, open_gaps = (
        (0, ()) if not isinstance(track, Contiguous) else (track.held, track.open_gaps)
    )
    return PositionReport(
        message_type=track.kind,
        symbol=symbol,
        last_id=track.last_id,
        last_time=track.last_time,
        held=held,
        open_gaps=list(open_gaps),
    )


def _sink(sink: Sink, received: Mapping[str, int]) -> SinkReport:
    dropped: Counter[str] = Counter(dict.fromkeys(sink.drop_causes, 0))
    for (_, cause), count in sink.counts.dropped.items():
        dropped[cause] += count
    return SinkReport(
        name=sink.name,
        ready=sink.ready,
        oldest_pending_s=age_s(sink.oldest_received()),
        accounts=accounts(received, sink.counts, sink.pending()),
        dropped=dict(dropped),
        failures={kind: sink.counts.failures[kind] for kind in sink.failure_kinds},
    )
