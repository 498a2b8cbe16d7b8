"""The audit of one topic: passes each record to its stream, and counts unreadable records."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Protocol

from bridge.brokers.kafka_reader import Partition
from bridge.errors import TickbridgeError
from bridge.tools.audit.announced import Announcements
from bridge.tools.audit.claims import AllClaims
from bridge.tools.audit.report import (
    LISTED_MAX_PLACES,
    Finding,
    Report,
    StreamReport,
    Unreadable,
    stream_findings,
)
from bridge.tools.audit.rules import NO_EVENT, RULES, SymbolDetail, record_format
from bridge.tools.audit.stream import StreamAudit

# Symbols times windows and partitions: 30 times the number of symbols the exchange lists.
MAX_STREAMS = 100_000


class TooManyStreams(TickbridgeError):
    """The topic has more streams than an audit can track."""

    def __init__(self) -> None:
        super().__init__(
            f"the topic has more than {MAX_STREAMS:,} streams; audit fewer with --symbol"
        )


class Record(Protocol):
    """The attributes of a Kafka record that the audit needs."""

    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes: ...


class TopicAudit:
    """Audits the records of each partition in order, only those of `symbols` if any are given.

    Raises TooManyStreams.
    """

    def __init__(
        self,
        kind: str,
        announcements: Announcements,
        claims: AllClaims,
        symbols: Collection[str] = (),
    ) -> None:
        self.records = 0
        self._kind = kind
        self._rule = RULES[kind]
        self._format = record_format(kind)
        self._announcements = announcements
        self._claims = claims
        self._symbols = frozenset(symbols)
        self._streams: defaultdict[int, dict[SymbolDetail, StreamAudit]] = defaultdict(dict)
        self._stream_count = 0
        self._unreadable = 0
        self._unreadable_listed: list[Unreadable] = []

    def observe(self, partition: int, records: Iterable[Record]) -> None:
        """Process the next records of a partition."""
        decode, ids = self._format.decode, self._format.ids
        symbol_detail_of = self._format.symbol_detail
        streams = self._streams[partition]
        for record in records:
            self.records += 1
            try:
                tick = decode(record.value)
            except NO_EVENT as error:
                self._count_unreadable(partition, record.offset, str(error))
                continue
            symbol_detail = symbol_detail_of(tick)
            symbol = symbol_detail[0]
            if self._symbols and symbol not in self._symbols:
                continue
            first_id, last_id = ids(tick)
            if last_id < first_id:
                self._count_unreadable(partition, record.offset, "last id is below first id")
                continue
            stream = streams.get(symbol_detail) or self._add_stream(partition, symbol_detail)
            stream.observe(first_id, last_id, record.offset, tick.timestamp or tick.received)
            if record.key != symbol.encode():
                stream.report.wrong_key.add(record.offset, first_id)

    def finish(
        self,
        topic: str,
        partitions: list[Partition],
        gap_topic: str,
        *,
        gap_events: int | None,
        statuses: int | None,
    ) -> Report:
        """Return the report. Do not call `observe` afterwards."""
        audits = [audit for streams in self._streams.values() for audit in streams.values()]
        reports = sorted(
            (audit.finish() for audit in audits),
            key=lambda stream: (stream.symbol, stream.detail or "", stream.partition),
        )
        findings = [*self._topic_findings(reports)]
        for report in reports:
            findings += stream_findings(report)
        return Report(
            topic=topic,
            kind=self._kind,
            id_field=self._rule.last,
            verdict="findings" if findings else "ok",
            proves=self._rule.claims,
            records=self.records,
            partitions=partitions,
            gap_topic=gap_topic,
            gap_events=gap_events,
            statuses=statuses,
            unreadable=self._unreadable,
            unreadable_listed=self._unreadable_listed,
            notes=self._notes(reports),
            findings=findings,
            symbols=reports,
        )

    def _add_stream(self, partition: int, symbol_detail: SymbolDetail) -> StreamAudit:
        if self._stream_count >= MAX_STREAMS:
            raise TooManyStreams
        self._stream_count += 1
        symbol, detail = symbol_detail
        report = StreamReport(
            symbol=symbol, detail=detail if self._rule.detail else None, partition=partition
        )
        stream = StreamAudit(
            self._rule, self._announcements.of(symbol), report, self._claims.of(symbol)
        )
        self._streams[partition][symbol_detail] = stream
        return stream

    def _count_unreadable(self, partition: int, offset: int, reason: str) -> None:
        self._unreadable += 1
        if len(self._unreadable_listed) < LISTED_MAX_PLACES:
            self._unreadable_listed.append(Unreadable(partition, offset, reason[:200]))

    def _topic_findings(self, reports: list[StreamReport]) -> Iterable[Finding]:
        if self._unreadable:
            first = self._unreadable_listed[0]
            where = f"the first at partition {first.partition}, offset {first.offset}"
            text = f"{self._unreadable} unreadable {self._kind} records, {where}: {first.reason}"
            yield Finding("unreadable", None, self._unreadable, text)
        if count := self._announcements.unreadable:
            yield Finding("unreadable", None, count, f"{count} unreadable gap records")
        if count := self._claims.unreadable:
            yield Finding("unreadable", None, count, f"{count} unreadable statuses")
        homes: defaultdict[str, set[int]] = defaultdict(set)
        for report in reports:
            homes[report.symbol].add(report.partition)
        for symbol, partitions in homes.items():
            if len(partitions) > 1:
                names = ", ".join(map(str, sorted(partitions)))
                text = f"records in partitions {names}: Kafka keeps no order between partitions"
                yield Finding("several_partitions", symbol, len(partitions), text)
        for symbol in sorted(self._symbols - homes.keys()):
            yield Finding("no_records", symbol, 0, "no records")

    def _notes(self, reports: list[StreamReport]) -> list[str]:
        """Return the notes on what limits the proof."""
        early = [f"{report.name}: {report.aggregated}" for report in reports if report.aggregated]
        forgotten = {
            report.symbol: lost
            for report in reports
            if (lost := self._announcements.of(report.symbol).forgotten)
        }
        return [
            *(f"{text} ranges judged early; later records did not close them" for text in early),
            *(f"{name}: {count} announced ranges forgotten" for name, count in forgotten.items()),
        ]
