"""Records for an audit, and its reports as plain numbers."""

import json
from collections.abc import Iterable
from itertools import repeat
from typing import NamedTuple

from bridge.tools.audit.announced import Announced, Announcements, GapRecord
from bridge.tools.audit.claims import AllClaims, Claims
from bridge.tools.audit.report import Missing, Places, StreamReport
from bridge.tools.audit.rules import RULES
from bridge.tools.audit.stream import StreamAudit
from bridge.tools.audit.topic import TopicAudit

Ids = tuple[int, int]


class Record(NamedTuple):
    """The part of a Kafka record that an audit needs."""

    offset: int
    key: bytes | None
    value: bytes


def event(message_type: str, symbol: str = "BTCUSDT", /, **fields: object) -> bytes:
    """Return the value of a record: incomplete, but with all fields that an audit reads."""
    head = {"message_type": message_type, "symbol": symbol, "timestamp": 1, "received": 1}
    return json.dumps(head | fields).encode()


def trades(ids: Iterable[int], symbol: str = "BTCUSDT") -> list[Record]:
    values = [event("trade", symbol, trade_id=identity) for identity in ids]
    return [Record(offset, symbol.encode(), value) for offset, value in enumerate(values)]


def gap(first: int | None, last: int | None, state: str = "open", cause: str = "cut") -> GapRecord:
    return GapRecord("BTCUSDT", "trade", first, last, None, cause, state)


def announced(*gaps: GapRecord) -> Announced:
    said = Announced()
    for told in gaps:
        said.add(told)
    return said


def audited(
    spans: Iterable[Ids | int],
    *gaps: GapRecord,
    kind: str = "trade",
    said: Announced | None = None,
    claims: Claims | None = None,
    times: Iterable[int] = repeat(1),
) -> StreamReport:
    """Return the report on records with these ids, at the offsets 0, 1, 2..."""
    report = StreamReport(symbol="BTCUSDT", detail=None, partition=0)
    audit = StreamAudit(RULES[kind], said or announced(*gaps), report, claims or Claims())
    for offset, (span, time) in enumerate(zip(spans, times, strict=False)):
        first, last = (span, span) if isinstance(span, int) else span
        audit.observe(first, last, offset, time)
    return audit.finish()


def topic_audit(kind: str = "trade", *symbols: str) -> TopicAudit:
    return TopicAudit(kind, Announcements(kind), AllClaims(kind), symbols)


def ranges(missing: Missing) -> list[Ids]:
    return [(found.first_id, found.last_id) for found in missing.listed]


def ids_in(missing: Missing) -> set[int]:
    return {i for first, last in ranges(missing) for i in range(first, last + 1)}


def ids_at(places: Places) -> list[int]:
    return [place.id for place in places.listed]
