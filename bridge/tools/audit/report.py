"""What an audit says: plain data, the same for the table and for `--json`.

Ids are the values of the report's `id_field`: where that is `timestamp`, they are microseconds.
"""

from collections.abc import Iterator
from typing import Literal

import msgspec

from bridge.brokers.kafka_reader import Partition
from bridge.tools.audit.rules import Claim

LISTED_MAX_RANGES = 1000
LISTED_MAX_PLACES = 10

What = Literal[
    "missing",
    "filled_but_missing",
    "repeated",
    "out_of_order",
    "ids_restarted",
    "wrong_key",
    "several_partitions",
    "unreadable",
    "no_records",
]


class MissingRange(msgspec.Struct):
    """Ids that no record has, both ends included; cause and state as a gap event put it."""

    first_id: int
    last_id: int
    ids: int
    cause: str | None = None
    state: str | None = None

    def __str__(self) -> str:
        return f"{self.first_id}" if self.ids == 1 else f"{self.first_id}-{self.last_id}"


class Missing(msgspec.Struct):
    """All ranges of one sort, counted; the lowest LISTED_MAX_RANGES of them listed."""

    ranges: int = 0
    ids: int = 0
    listed: list[MissingRange] = msgspec.field(default_factory=list)

    def add(self, found: MissingRange) -> None:
        self.ranges += 1
        self.ids += found.ids
        if len(self.listed) < LISTED_MAX_RANGES:
            self.listed.append(found)


class Place(msgspec.Struct):
    """Where a record stands."""

    offset: int
    id: int


class Places(msgspec.Struct):
    """All records of one sort, counted; the first LISTED_MAX_PLACES of them listed."""

    count: int = 0
    listed: list[Place] = msgspec.field(default_factory=list)

    def add(self, offset: int, identity: int) -> None:
        self.count += 1
        if len(self.listed) < LISTED_MAX_PLACES:
            self.listed.append(Place(offset, identity))


class StreamReport(msgspec.Struct, kw_only=True):
    """One symbol (and window or interval) in one partition.

    The proof begins at `first_id`, at `first_offset`: what was before, retention may have taken.
    Both are null where every record lies inside an announced gap. `missing` are ids nobody
    announced, `missing_filled` those announced as filled, `missing_announced` all others. `late`
    counts records that came afterwards, inside an announced gap; `aggregated` ranges that were
    judged early, for the memory's sake: what came for them afterwards no longer closes them.
    """

    symbol: str
    detail: str | None
    partition: int
    records: int = 0
    first_id: int | None = None
    first_offset: int | None = None
    last_id: int | None = None
    missing: Missing = msgspec.field(default_factory=Missing)
    missing_filled: Missing = msgspec.field(default_factory=Missing)
    missing_announced: Missing = msgspec.field(default_factory=Missing)
    late: int = 0
    repeated: Places = msgspec.field(default_factory=Places)
    out_of_order: Places = msgspec.field(default_factory=Places)
    restarts_announced: int = 0
    restarts: Places = msgspec.field(default_factory=Places)
    wrong_key: Places = msgspec.field(default_factory=Places)
    aggregated: int = 0
    interruptions: int = 0

    @property
    def name(self) -> str:
        return f"{self.symbol} {self.detail}" if self.detail else self.symbol


class Finding(msgspec.Struct):
    """Something that is wrong and was not announced: how many ids or records, and in words."""

    what: What
    symbol: str | None
    count: int
    text: str


class Unreadable(msgspec.Struct):
    """A record that is no event of the kind."""

    partition: int
    offset: int
    reason: str


class Report(msgspec.Struct, kw_only=True):
    """The whole audit. `proves` is what it proves where nothing is found; `gap_events` those of
    the kind, null where there is no gap topic.
    """

    topic: str
    kind: str
    id_field: str
    verdict: Literal["ok", "findings"]
    proves: tuple[Claim, ...]
    records: int
    partitions: list[Partition]
    gap_topic: str
    gap_events: int | None
    unreadable: int
    unreadable_listed: list[Unreadable]
    notes: list[str]
    findings: list[Finding]
    symbols: list[StreamReport]


def stream_findings(stream: StreamReport) -> Iterator[Finding]:
    """What is wrong with one stream."""
    ranges: tuple[tuple[What, Missing, str], ...] = (
        ("missing", stream.missing, "missing, not announced"),
        ("filled_but_missing", stream.missing_filled, "announced as filled, but missing"),
    )
    for what, missing, words in ranges:
        if missing.ids:
            where = _few([str(found) for found in missing.listed], missing.ranges)
            yield Finding(what, stream.symbol, missing.ids, f"{missing.ids} {words}: {where}")
    places: tuple[tuple[What, Places, str], ...] = (
        ("repeated", stream.repeated, "repeated"),
        ("out_of_order", stream.out_of_order, "out of order, not announced"),
        ("ids_restarted", stream.restarts, "start of the ids anew, not announced"),
        ("wrong_key", stream.wrong_key, "with a key that is not the symbol"),
    )
    for what, found, words in places:
        if found.count:
            where = _few([f"{p.id} at offset {p.offset}" for p in found.listed], found.count)
            yield Finding(what, stream.symbol, found.count, f"{found.count} {words}: {where}")


def _few(texts: list[str], total: int, shown: int = 5) -> str:
    more = total - len(texts[:shown])
    return ", ".join(texts[:shown]) + (f" and {more} more" if more else "")
