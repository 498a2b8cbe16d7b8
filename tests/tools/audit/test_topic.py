"""The audit of a topic: records reach their streams, and faults of the topic are found."""

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.brokers.kafka_reader import Partition
from bridge.core.model.events import EVENT_TYPES
from bridge.tools.audit import topic as bounds
from bridge.tools.audit.report import Report
from bridge.tools.audit.rules import RULES, record_format
from bridge.tools.audit.topic import TooManyStreams, TopicAudit
from tests.support.audit import Record, event, ids_at, ids_in, topic_audit, trades

PARTITIONS = [Partition(0, 0, 100)]


def finished(audit: TopicAudit) -> Report:
    return audit.finish(
        "binance.spot.trade", PARTITIONS, "binance.spot.gap", gap_events=0, statuses=0
    )


def found(audit: TopicAudit) -> list[tuple[str, str | None, int]]:
    return [(finding.what, finding.symbol, finding.count) for finding in finished(audit).findings]


def records(values: Sequence[bytes], key: bytes = b"BTCUSDT") -> list[Record]:
    return [Record(offset, key, value) for offset, value in enumerate(values)]


def test_every_kind_of_event_has_a_rule_and_its_fields() -> None:
    assert RULES.keys() == EVENT_TYPES.keys() - {"gap", "invalid", "status"}
    for kind, rule in RULES.items():
        fields = {rule.first, rule.last, rule.detail or "symbol"}
        assert fields <= set(EVENT_TYPES[kind].__struct_fields__)


@pytest.mark.parametrize("kind", RULES)
def test_what_cannot_be_proved_is_not_claimed(kind: str) -> None:
    claims = finished(topic_audit(kind)).proves
    assert "order" in claims
    assert ("completeness" in claims) == (kind in {"trade", "agg_trade", "book_delta"})
    assert ("no repeats" in claims) == (RULES[kind].first != "timestamp")


def test_symbols_are_judged_apart() -> None:
    audit = topic_audit()
    audit.observe(0, [*trades([1, 2, 3]), *trades([7, 9], "ETHUSDT")])
    assert found(audit) == [("missing", "ETHUSDT", 1)]


@pytest.mark.parametrize(("kind", "field"), [("candle", "interval"), ("ticker", "window")])
def test_windows_and_intervals_are_judged_apart(kind: str, field: str) -> None:
    audit = topic_audit(kind)
    times = [("1m", 10), ("1h", 5), ("1m", 11), ("1h", 6), ("1h", 4)]
    audit.observe(0, records([event(kind, timestamp=t, **{field: name}) for name, t in times]))
    report = finished(audit)
    assert [(s.name, ids_at(s.out_of_order)) for s in report.symbols] == [
        ("BTCUSDT 1h", [4]),
        ("BTCUSDT 1m", []),
    ]


def test_a_book_delta_continues_the_last_one() -> None:
    audit = topic_audit("book_delta")
    spans = [(1, 4), (5, 5), (8, 9)]
    values = [event("book_delta", first_update_id=f, last_update_id=u) for f, u in spans]
    audit.observe(0, records(values))
    (report,) = finished(audit).symbols
    assert ids_in(report.missing) == {6, 7}


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        event("quote", update_id=1),
        event("trade"),
        event("trade", trade_id="1"),
        event("trade", trade_id=-1),
        event("trade", trade_id=2**64),
    ],
)
def test_a_record_that_is_no_event_of_the_kind_is_a_finding_and_disturbs_no_other(
    value: bytes,
) -> None:
    audit = topic_audit()
    audit.observe(3, [*trades([1]), Record(1, b"BTCUSDT", value), *trades([2])])
    report = finished(audit)
    assert [(finding.what, finding.count) for finding in report.findings] == [("unreadable", 1)]
    (place,) = report.unreadable_listed
    assert (place.partition, place.offset) == (3, 1)


def test_a_range_of_ids_that_ends_before_it_begins_is_unreadable() -> None:
    audit = topic_audit("book_delta")
    audit.observe(0, records([event("book_delta", first_update_id=5, last_update_id=4)]))
    assert found(audit) == [("unreadable", None, 1)]


@given(st.binary())
def test_whatever_the_bytes_are_nothing_is_raised(value: bytes) -> None:
    audit = topic_audit()
    audit.observe(0, records([value]))
    assert finished(audit).unreadable == 1


@pytest.mark.parametrize("key", [None, b"ETHUSDT", b"btcusdt"])
def test_a_key_that_is_not_the_symbol_is_a_finding(key: bytes | None) -> None:
    audit = topic_audit()
    audit.observe(0, [record._replace(key=key) for record in trades([1, 2])])
    assert found(audit) == [("wrong_key", "BTCUSDT", 2)]


def test_a_symbol_in_two_partitions_is_a_finding_even_where_each_is_whole() -> None:
    audit = topic_audit()
    audit.observe(0, trades([1, 2]))
    audit.observe(4, trades([3, 4]))
    (finding,) = finished(audit).findings
    assert (finding.what, finding.symbol) == ("several_partitions", "BTCUSDT")
    assert "0, 4" in finding.text


def test_of_the_symbols_asked_for_only_these_are_judged_and_the_absent_is_named() -> None:
    audit = topic_audit("trade", "BTCUSDT", "NOUSDT")
    audit.observe(0, [*trades([1, 2]), *trades([7, 9], "ETHUSDT")])
    assert found(audit) == [("no_records", "NOUSDT", 0)]


def test_there_is_an_end_to_the_symbols_it_remembers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MAX_STREAMS", 1)
    audit = topic_audit()
    audit.observe(0, trades([1]))
    with pytest.raises(TooManyStreams, match="--symbol"):
        audit.observe(0, trades([1], "ETHUSDT"))


def test_what_was_judged_early_or_forgotten_is_said() -> None:
    audit = topic_audit()
    audit.observe(0, trades([1]))
    audit._streams[0]["BTCUSDT", "BTCUSDT"].report.aggregated = 5
    audit._announcements.of("BTCUSDT").forgotten = 2
    notes = finished(audit).notes
    assert ["judged early" in notes[0], "forgotten" in notes[1]] == [True, True]


def test_a_report_is_json_that_reads_back() -> None:
    audit = topic_audit()
    audit.observe(0, trades([1, 3, 3, 2]))
    report = finished(audit)
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report


@pytest.mark.parametrize("kind", RULES)
def test_of_a_record_only_what_the_rule_needs_is_read(kind: str) -> None:
    rule = RULES[kind]
    fields: dict[str, object] = {rule.first: 7, rule.last: 7}
    if rule.detail:
        fields[rule.detail] = "1h"
    audit_format = record_format(kind)
    tick = audit_format.decode(event(kind, **fields))
    assert audit_format.ids(tick) == (7, 7)
    assert audit_format.symbol_detail(tick)[0] == "BTCUSDT"
