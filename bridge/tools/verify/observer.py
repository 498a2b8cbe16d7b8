"""Counts the records that would go to the sinks, and audits them with independent rules."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from bridge.core.model.events import Event, Invalid
from bridge.core.records.record import Record, Route
from bridge.sinks.memory import Unbuffered
from bridge.telemetry import FINE_BOUNDS_S, Histogram, SinkCounts
from bridge.tools.audit.announced import Announcements
from bridge.tools.audit.claims import AllClaims
from bridge.tools.audit.rules import RULES
from bridge.tools.audit.topic import TopicAudit
from bridge.tools.verify.report import PROBLEMS_MAX, Moment, Problem, StreamReport
from bridge.tools.verify.statistics import StreamStatistics, Timeline

# An audit needs a partition for each record.
_PARTITION = 0


class _Row(NamedTuple):
    """The attributes of a record that an audit needs."""

    offset: int
    key: bytes
    value: bytes


class Observer(Unbuffered):
    """A sink that observes.

    `latency` covers all streams, with one sample for each stream and read. `first_received` is the
    arrival of the first frame in microseconds since the epoch, 0 before.
    """

    name = "observer"

    def __init__(self) -> None:
        self.counts = SinkCounts()
        self.latency = Histogram(FINE_BOUNDS_S)
        self.most_in_a_second = 0
        self.first_received = 0
        self._second = self._in_this_second = 0
        self._streams: dict[tuple[str, str], StreamStatistics] = {}
        self._timeline = Timeline()
        self._problems: dict[tuple[str, str], Problem] = {}
        self._announced = {kind: Announcements(kind) for kind in RULES}
        self._audits = {
            kind: TopicAudit(kind, said, AllClaims(kind)) for kind, said in self._announced.items()
        }

    def push(self, records: Sequence[Record], latest: Mapping[Route, Event]) -> None:
        """Count the records of one read, and audit them."""
        received = records[0].received
        self.first_received = self.first_received or received
        self._count(records)
        self._timeline.add(received, len(records))
        for route, event in latest.items():
            if event.timestamp is not None and event.source == "websocket":
                latency_s = max(0, event.received - event.timestamp) / 1e6
                self.latency.observe(latency_s)
                self._timeline.observe(received, latency_s)
                self._streams[route.message_type, route.symbol].latency.observe(latency_s)

    def streams(self, begun: int, ended: int) -> list[StreamReport]:
        """Return a report per message type and symbol. `begun` and `ended` are in microseconds."""
        return [
            seen.report(begun, ended)
            for (message_type, _), seen in sorted(self._streams.items())
            if message_type in RULES
        ]

    def moments(self) -> list[Moment]:
        """Return the events and latencies over time."""
        return self._timeline.moments()

    def problems(self) -> list[Problem]:
        """Return the problems of invalid messages, the most frequent first."""
        return sorted(self._problems.values(), key=lambda problem: -problem.count)

    def findings(self) -> list[str]:
        """Return the findings of the audit, a sentence each. Do not call `push` afterwards."""
        reports = [
            audit.finish(kind, [], "gap", gap_events=None, statuses=None)
            for kind, audit in self._audits.items()
        ]
        return [
            f"{report.kind} of {finding.symbol}: {finding.text}"
            for report in reports
            for finding in report.findings
        ]

    def proven(self) -> dict[str, int]:
        """Return the number of audited events of each message type with contiguous ids."""
        return {
            kind: audit.records
            for kind, audit in self._audits.items()
            if RULES[kind].contiguous and audit.records
        }

    def _count(self, records: Sequence[Record]) -> None:
        rows: defaultdict[str, list[_Row]] = defaultdict(list)
        for record in records:
            kind, symbol = record.route.message_type, record.route.symbol
            self._count_second(record.received // 1_000_000)
            self.counts.published[kind] += 1
            seen = self._streams.get((kind, symbol))
            if seen is None:
                seen = self._streams[kind, symbol] = StreamStatistics(kind, symbol, record.received)
            seen.add(record)
            if kind == "gap":
                for said in self._announced.values():
                    said.observe(record.value)
            elif kind == "invalid":
                self._note(msgspec.json.decode(record.value, type=Invalid))
            elif kind in self._audits:
                rows[kind].append(_Row(self.counts.published[kind], record.route.key, record.value))
        for kind, of_kind in rows.items():
            self._audits[kind].observe(_PARTITION, of_kind)

    def _note(self, invalid: Invalid) -> None:
        key = (invalid.symbol, invalid.reason)
        if problem := self._problems.get(key):
            problem.count += 1
        elif len(self._problems) < PROBLEMS_MAX:
            self._problems[key] = Problem(*key, 1, invalid.detail)

    def _count_second(self, second: int) -> None:
        if second != self._second:
            self._second, self._in_this_second = second, 0
        self._in_this_second += 1
        self.most_in_a_second = max(self.most_in_a_second, self._in_this_second)
