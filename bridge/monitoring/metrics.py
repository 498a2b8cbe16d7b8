"""The Prometheus metrics: collected at each scrape, at no cost between scrapes."""

import asyncio
import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Any, get_args

from prometheus_client import ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from bridge.errors import INVALID_REASONS, RECONNECT_CAUSES
from bridge.monitoring.status import FencedCause, Status, age_s, version
from bridge.sinks.kafka.owner_watch import Reason
from bridge.telemetry import RELOAD_OUTCOMES, Histogram

PREFIX = "tickbridge_"
HEAD_CHECK_OUTCOMES = ("done", "failed")
GAP_STATES = ("open", "filled", "lost")
GAP_CAUSES = (
    *RECONNECT_CAUSES,
    *("restart", "unsubscribed", "ids_restarted", "handover_timeout", "missing_ids"),
    *("repair_timeout", "too_many_ids", "not_in_history", "hold_limit", "stopped"),
    *("outbox_full", "too_large", "spill_corrupt"),  # "refused" is one of a connection, too
)
LIMITS = {
    "outbox_limit_bytes": "Limit of pending_bytes: kafka.outbox_max_bytes.",
    "spill_limit_bytes": "Limit of spill_bytes: spill_max_bytes less 16 MiB; 0 without data_dir.",
    "queue_limit_events": "Limit of events_pending: redis.publish_max_records.",
}
REPAIRABLE = ("trade", "agg_trade")
# The values of the series of one metric, by label values.
Series = Mapping[tuple[str, ...], float]


class BridgeCollector(Collector):
    """All metrics of one bridge. The series of all expected message types start at zero."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        yield from self._feed()
        yield from self._accounts()
        yield from self._sinks()
        yield from self._process()

    def _feed(self) -> Iterator[Metric]:
        status, counts = self._status, self._status.counts
        sequencers, heard = status.sequencer_stats(), status.last_received()
        yield _counter("frames_received", "Frames received.", {(): counts.frames})
        yield _counter(
            "events_received",
            "Events received.",
            _series(counts.received, status.message_types),
            "message_type",
        )
        yield _counter(
            "frames_invalid",
            "Invalid frames, by reason. At most 1,000 in a second become events.",
            _series(counts.invalid, INVALID_REASONS),
            "reason",
        )
        yield _counter(
            "reconnects",
            "Connections to the exchange that closed, failed or were replaced.",
            _series(counts.reconnects, RECONNECT_CAUSES),
            "cause",
        )
        yield _counter(
            "events_duplicate",
            "Events dropped because they were duplicates.",
            _series(sequencers.duplicates, status.message_types),
            "message_type",
        )
        yield _counter(
            "events_ahead",
            "Events whose time is far ahead of this machine's clock.",
            _series(counts.ahead, status.message_types),
            "message_type",
        )
        yield _counter(
            "id_restarts",
            "Restarts of a symbol's ids, for example because it was listed again.",
            _series(counts.id_restarts, status.message_types),
            "message_type",
        )
        yield _counter(
            "events_repaired",
            "Missing events fetched over REST and published in order.",
            _series(counts.repaired, REPAIRABLE),
            "message_type",
        )
        yield self._gap_events()
        yield _gauge("events_held", "Events held back after a hole.", {(): sequencers.held})
        yield _gauge(
            "events_held_seconds",
            "The longest time that a hole has held a stream back.",
            {(): max(status.held_s().values(), default=0.0)},
        )
        yield _gauge(
            "gaps_open", "Announced gaps that may still be filled.", {(): sequencers.open_gaps}
        )
        yield _gauge("symbols", "Symbols, by the state of their feed.", status.feeds(), "feed")
        yield _gauge(
            "symbols_unlisted",
            "Symbols and patterns of the settings that match nothing that the exchange lists.",
            {(): len(status.subscription().refused)},
        )
        yield _gauge(
            "symbols_unproven_seconds",
            "Time up to now for which a symbol is not yet proven to be complete: the longest one.",
            {(): status.unproven_s()},
        )
        yield _counter(
            "rest_rows_unreadable",
            "Rows left out of REST answers because they cannot be read.",
            {(): status.unreadable_rows()},
        )
        yield _counter(
            "head_checks",
            "Comparisons of all streams of trades with the exchange's last ids, by outcome.",
            _series(counts.head_checks, HEAD_CHECK_OUTCOMES),
            "outcome",
        )
        yield _gauge(
            "rest_weight_used",
            "Request weight used in the current minute, by all programs on this IP address.",
            {(): status.weight_used()},
        )
        yield _gauge(
            "rest_weight_limit",
            "Request weight that the exchange allows per minute.",
            {(): status.weight_allowed()},
        )
        yield _histogram(
            "exchange_latency_seconds",
            "Time from the exchange's timestamp of an event to its arrival; one sample per read.",
            {(): counts.latency},
        )
        yield _gauge(
            "connections", "Connections to the exchange, by state.", status.connectors(), "state"
        )
        yield _gauge(
            "streams_without_data",
            "Streams that have never sent anything.",
            {(): status.streams() - len(heard)},
        )
        yield from self._lines(heard)

    def _gap_events(self) -> Metric:
        """Return the gap events of the pipeline and of the sinks."""
        counts: Counter[tuple[str, str]] = Counter(self._status.counts.gap_events)
        for sink in self._status.sinks:
            counts.update(sink.counts.gap_events)
        known = product(GAP_STATES, GAP_CAUSES)
        series: Series = {labels: counts[labels] for labels in (*known, *counts)}
        return _counter("gap_events", "Gap events, by state and cause.", series, "state", "cause")

    def _lines(self, heard: Mapping[str, int]) -> Iterator[Metric]:
        """Yield the metrics by line.

        Two connectors with the same streams have the lines `a` and `b`; all others have `a`.
        """
        status = self._status
        figures = status.line_figures()
        yield _gauge(
            "connection_age_seconds",
            "Age of the oldest open connection of the line.",
            {(label,): f.age_s for label, f in figures.items()},
            "line",
        )
        yield _counter(
            "line_events",
            "Events received on the line, including duplicates.",
            {(label,): f.events for label, f in figures.items()},
            "line",
        )
        yield _counter(
            "line_first",
            "Events received on the line that were not duplicates.",
            {(label,): f.first for label, f in figures.items()},
            "line",
        )
        lead = SummaryMetricFamily(
            f"{PREFIX}line_lead_seconds",
            "Time by which the line was ahead of the other line, over sampled events.",
            labels=["line"],
        )
        for label, f in figures.items():
            lead.add_metric([label], f.leads, f.lead_s)
        yield lead
        yield _gauge(
            "stream_silence_seconds",
            "Longest silence of a stream that has sent data before.",
            {(message_type,): seconds for message_type, seconds in status.silence_s(heard).items()},
            "message_type",
        )
        yield _gauge(
            "streams_stalled",
            "Streams that are silent for longer than their usual interval explains.",
            {(): len(status.stalled_streams())},
        )

    def _accounts(self) -> Iterator[Metric]:
        """Yield the balance of each sink and message type, as described in `bridge.telemetry`."""
        published: dict[tuple[str, ...], float] = {}
        dropped: dict[tuple[str, ...], float] = {}
        pending: dict[tuple[str, ...], float] = {}
        restored: dict[tuple[str, ...], float] = {}
        for sink in self._status.sinks:
            waiting = sink.pending()
            for message_type in self._status.message_types:
                published[sink.name, message_type] = sink.counts.published[message_type]
                pending[sink.name, message_type] = waiting[message_type]
                restored[sink.name, message_type] = sink.counts.restored[message_type]
                for cause in sink.drop_causes:
                    dropped[sink.name, message_type, cause] = sink.counts.dropped[
                        message_type, cause
                    ]
        yield _counter(
            "events_published",
            "Events acknowledged by the sink.",
            published,
            "sink",
            "message_type",
        )
        yield _counter(
            "events_dropped",
            "Events dropped before the sink acknowledged them.",
            dropped,
            "sink",
            "message_type",
            "cause",
        )
        yield _gauge(
            "events_pending", "Events that wait for the sink.", pending, "sink", "message_type"
        )
        yield _counter(
            "events_restored",
            "Events that only this sink received: from disk, fetched again, or its own.",
            restored,
            *("sink", "message_type"),
        )

    def _sinks(self) -> Iterator[Metric]:
        sinks = self._status.sinks
        yield _gauge(
            "sink_ready",
            "1 while the sink accepts events, 0 otherwise; absent while the bridge owns no shard.",
            {(s.name,): s.ready for s in sinks} if not self._status.is_waiting else {},
            "sink",
        )
        yield _gauge(
            "spill_bytes",
            "Size of the records that wait for the sink on disk, in bytes.",
            {(s.name,): s.spill_bytes() for s in sinks},
            "sink",
        )
        failures: Series = {
            (s.name, reason): s.counts.failures[reason]
            for s in sinks
            for reason in s.failure_reasons
        }
        yield _counter("sink_failures", "Failures of the sink.", failures, "sink", "reason")
        yield _gauge(
            "oldest_pending_seconds",
            "Age of the oldest event that waits for the sink.",
            {(s.name,): age_s(s.oldest_received()) for s in sinks},
            "sink",
        )
        yield _counter(
            "stale_values",
            "Latest values that Redis rejected because it had newer ones.",
            {(s.name,): s.counts.stale_values for s in sinks},
            "sink",
        )
        yield _counter(
            "sink_sent_bytes",
            "Bytes sent: kafka: acknowledged batches, compressed; redis: commands.",
            {(s.name,): s.counts.sent_bytes for s in sinks},
            "sink",
        )
        yield _gauge(
            "pending_bytes",
            "Size of the records that wait for the sink in memory, in bytes.",
            {(s.name,): s.pending_bytes() for s in sinks},
            "sink",
        )
        for name, help_text in LIMITS.items():
            limits: Series = {(s.name,): s.limits[name] for s in sinks if name in s.limits}
            yield _gauge(name, help_text, limits, "sink")
        yield _histogram(
            "sink_latency_seconds",
            "kafka: time from a frame's arrival to its acknowledgement; redis: time of one flush.",
            {(s.name,): s.counts.latency for s in sinks},
            "sink",
        )

    def _process(self) -> Iterator[Metric]:
        yield _gauge(
            "ready", "1 while /readyz answers 200, 0 otherwise.", {(): not self._status.unready()}
        )
        status = self._status
        yield _gauge(
            "shards",
            "Shards that the bridge owns, and that it stands by for, by role.",
            status.shards_by_role(),
            "role",
        )
        yield _gauge(
            "shards_wanted",
            "Shards by the settings, which all bridges share, and standbys for them, by role.",
            status.shards_wanted(),
            "role",
        )
        yield _counter(
            "takeovers",
            "Shards that the bridge has taken over, by reason. The first start is one, too.",
            _series(status.takeovers, get_args(Reason)),
            "reason",
        )
        yield _counter(
            "fenced",
            "Shards that another bridge has taken over from this one, by cause.",
            _series(status.fenced, get_args(FencedCause)),
            "cause",
        )
        reloads = self._status.reloads.outcomes
        yield _counter(
            "settings_reloads",
            "Reloads of the settings, by outcome.",
            _series(reloads, RELOAD_OUTCOMES),
            "outcome",
        )
        yield _histogram(
            "event_loop_lag_seconds", "Delay of a timer in the event loop.", {(): self._status.lag}
        )
        versions = (version("tickbridge"), platform.python_version())
        yield _gauge(
            "build_info",
            "Versions of Tickbridge and Python; always 1.",
            {versions: 1},
            "version",
            "python",
        )


class _Family(Collector):
    """A collector of one family, so that it can be rendered alone."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return (self._family,)


async def exposition(status: Status) -> bytes:
    """Return the metrics in Prometheus' text format, all read at the same moment.

    Rendering takes a millisecond, in which every event would wait. So the event loop runs other
    tasks after each family.
    """
    families = [*BridgeCollector(status).collect(), *ProcessCollector(registry=None).collect()]
    texts = []
    for family in families:
        texts.append(generate_latest(_Family(family)))
        await asyncio.sleep(0)
    return b"".join(texts)


def _series(counts: Mapping[Any, int], known: Iterable[str]) -> Series:
    return {(label,): counts[label] for label in (*known, *counts)}


def _counter(name: str, help_text: str, series: Series, *labels: str) -> Metric:
    family = CounterMetricFamily(PREFIX + name, help_text, labels=labels)
    for values, count in series.items():
        family.add_metric(values, count)
    return family


def _gauge(name: str, help_text: str, series: Series, *labels: str) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, help_text, labels=labels)
    for values, value in series.items():
        family.add_metric(values, value)
    return family


def _histogram(
    name: str, help_text: str, series: Mapping[tuple[str, ...], Histogram], *labels: str
) -> Metric:
    family = HistogramMetricFamily(PREFIX + name, help_text, labels=labels)
    for values, histogram in series.items():
        buckets, total = [], 0
        for bound, count in zip((*histogram.bounds, "+Inf"), histogram.counts, strict=True):
            total += count
            buckets.append((str(bound), total))
        family.add_metric(values, buckets, histogram.total)
    return family
