"""What the disk has lost of an outbox's overflow: counted, and noted to be announced."""

from collections import Counter
from collections.abc import Iterable

from bridge.core.delivery.losses import Loss, holes
from bridge.core.records.record import NO_IDENTITY, Announcement, Record
from bridge.core.sequencing.position import Name, Position
from bridge.core.sequencing.rules import Ids
from bridge.sinks.outbox.chunk_codec import RouteRow, counts, kinds
from bridge.sinks.outbox.chunk_store import Spill
from bridge.sinks.outbox.outbox import Outbox
from bridge.sinks.outbox.spill_accounts import Backlog
from bridge.telemetry import SinkCounts

BROKEN = "spill_broken"


class DiskLosses:
    """Looks after the accounts of one outbox and its file where records do not come back."""

    def __init__(
        self, outbox: Outbox, backlog: Backlog, spill: Spill, sink_counts: SinkCounts
    ) -> None:
        self._outbox = outbox
        self._backlog = backlog
        self._spill = spill
        self._counts = sink_counts
        # The last id of each stream that came back to the lanes.
        self._returned: dict[Name, int] = {}

    def came_back(self, rows: Iterable[RouteRow]) -> None:
        """Note how far the disk has been read."""
        for row in rows:
            if row.last_id != NO_IDENTITY:
                self._returned[row.message_type, row.symbol] = row.last_id

    def between(self, positions: dict[Name, Position]) -> None:
        """Note the ids that neither the topics had nor the disk, at the start."""
        for name, ranges in self._spill.ranges().items():
            known = positions.get(name)
            self._note_holes(name, _above(ranges, known.last_id) if known else ranges)

    def of_chunk(self, rows: Iterable[RouteRow]) -> None:
        """A chunk cannot be read: its records are lost."""
        for row in rows:
            self._backlog.left[row.key] -= row.count
            self._backlog.done[row.key] += row.count
            self._counts.dropped[row.message_type, BROKEN] += row.count
        self._outbox.losses.add_runs(row.loss(BROKEN) for row in rows)

    def of_file(self) -> None:
        """The file was begun anew, with what could be saved: the rest is lost."""
        backlog, found = self._backlog, self._spill.found
        in_lanes = [r for r in self._outbox.in_lanes() if not isinstance(r, Announcement)]
        lost = backlog.rebase(Counter(r.route.name for r in in_lanes), counts(found))
        backlog.unread = kinds(found)
        names = {key: self._spill.routes.name(key) for key in lost}
        for key, count in lost.items():
            self._counts.dropped[names[key][0], BROKEN] += count
        for name in names.values():
            self._note_lost(name, in_lanes)

    def _note_lost(self, name: Name, in_lanes: list[Record]) -> None:
        """Announce what a broken file has cost a stream: by its ids, if it has any around."""
        ranges = [
            (record.identity, record.identity)
            for record in (*in_lanes, *self._backlog.behind)
            if (record.route.message_type, record.route.symbol) == name
            and record.identity != NO_IDENTITY
        ]
        if (last := self._returned.get(name)) is not None:
            ranges.append((last, last))
        if ranges:
            end = self._spill.ends[name] + 1
            ranges.append((end, end))
        if not self._note_holes(name, [*ranges, *self._spill.ranges().get(name, [])]):
            ids = (NO_IDENTITY, NO_IDENTITY)
            self._outbox.losses.add_runs([Loss(*name, *ids, None, None, BROKEN)])

    def _note_holes(self, name: Name, ranges: list[Ids]) -> bool:
        found = [Loss(*name, *ids, None, None, BROKEN) for ids in holes(ranges)]
        self._outbox.losses.add_runs(found)
        return bool(found)


def _above(ranges: list[Ids], identity: int) -> list[Ids]:
    """What of the ranges is above an id, and the id."""
    above = [(max(first, identity + 1), last) for first, last in ranges if last > identity]
    return [(identity, identity), *above]
