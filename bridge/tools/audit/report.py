"""The report of an audit: plain data, the same for the table and for `--json`.

Ids are the values of the report's `id_field`. If that is `timestamp`, they are microseconds.
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
    "wrong_status",
    "several_partitions",
    "unreadable",
    "no_records",
]


class MissingRange(msgspec.Struct):
    """Ids that no record has, both ends included, with the cause and state of the gap event."""

    first_id: int
    last_id: int
    ids: int
    cause: str | None = None
    state: str | None = None

    def __str__(self) -> str:
        return f"{self.first_id}" if self.ids == 1 else f"{self.first_id}-{self.last_id}"


class Missing(msgspec.Struct):
    """The missing ranges of one category. All are counted, the lowest LISTED_MAX_RANGES listed."""

    ranges: int = 0
    ids: int = 0
    listed: list[MissingRange] = msgspec.field(default_factory=list)

    def add(self, found: MissingRange) -> None:
        self.ranges += 1
        self.ids += found.ids
        if len(self.listed) < LISTED_MAX_RANGES:
            self.listed.append(found)


class Place(msgspec.Struct):
    """The offset and the id of a record."""

    offset: int
    id: int


class Places(msgspec.Struct):
    """The records of one category. All are counted, the first LISTED_MAX_PLACES listed."""

    count: int = 0
    listed: list[Place] = msgspec.field(default_factory=list)

    def add(self, offset: int, identity: int) -> None:
        self.count += 1
        if len(self.listed) < LISTED_MAX_PLACES:
            self.listed.append(Place(offset, identity))


class StreamReport(msgspec.Struct, kw_only=True):
    """One symbol (and window or interval) in one partition.

    The proof begins at `first_id`, at `first_offset`: retention may have deleted earlier records.
    Both are null if every record lies inside an announced gap. `missing` are the ids that no gap
    event announced, `missing_filled` those announced as filled, `missing_announced` all others.
    `late` counts records that came later and lie inside an announced gap. `aggregated` counts the
    ranges that were judged early to limit memory: records that come later do not close them.
    `repeated` also counts records from before a restart of the ids that come again after it.
    `later_than_claimed` counts records that were missing although a status said that nothing up to
    their time was. `dated_early` counts those of them that the exchange dated earlier than records
    before them: they are no findings. `claimed_id` is the id up to which a status said that the
    topic is complete, if the topic ends before it. Statuses of a symbol whose ids have restarted
    are not checked.
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
    restarts_announced: Places = msgspec.field(default_factory=Places)
    restarts: Places = msgspec.field(default_factory=Places)
    wrong_key: Places = msgspec.field(default_factory=Places)
    later_than_claimed: Places = msgspec.field(default_factory=Places)
    dated_early: Places = msgspec.field(default_factory=Places)
    claimed_id: int | None = None
    aggregated: int = 0
    interruptions: int = 0

    @property
    def name(self) -> str:
        return f"{self.symbol} {self.detail}" if self.detail else self.symbol


class Finding(msgspec.Struct):
    """A fault that no gap event announced. `count` is the number of ids or records."""

    what: What
    symbol: str | None
    count: int
    text: str


class Unreadable(msgspec.Struct):
    """A record that cannot be read as an event of the message type."""

    partition: int
    offset: int
    reason: str


class Report(msgspec.Struct, kw_only=True):
    """The report of a whole audit.

    `proves` lists the claims that hold if there are no findings. `gap_events` counts the gap
    events of the message type, null if there is no gap topic. `statuses` counts the statuses, null
    if none are about this message type.
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
    statuses: int | None
    unreadable: int
    unreadable_listed: list[Unreadable]
    notes: list[str]
    findings: list[Finding]
    symbols: list[StreamReport]


def stream_findings(stream: StreamReport) -> Iterator[Finding]:
    """Yield the findings of one stream."""
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
        ("ids_restarted", stream.restarts, "restart(s) of the ids, not announced"),
        ("wrong_key", stream.wrong_key, "record(s) whose key is not the symbol"),
        (
            "wrong_status",
            stream.later_than_claimed,
            "record(s) came after a status said that nothing up to their time was missing",
        ),
    )
    for what, found, words in places:
        if found.count:
            where = _few([f"{p.id} at offset {p.offset}" for p in found.listed], found.count)
            yield Finding(what, stream.symbol, found.count, f"{found.count} {words}: {where}")
    if stream.claimed_id is not None:
        text = f"a status says complete to {stream.claimed_id}, the topic ends at {stream.last_id}"
        yield Finding("wrong_status", stream.symbol, 1, text)


def _few(texts: list[str], total: int, shown: int = 5) -> str:
    more = total - len(texts[:shown])
    return ", ".join(texts[:shown]) + (f" and {more} more" if more else "")
