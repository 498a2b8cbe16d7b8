"""Records that the disk has lost: counted, and noted to be announced."""

from collections import Counter
from collections.abc import Iterable

from bridge.core.delivery.losses import Loss, holes
from bridge.core.records.record import NO_IDENTITY, PriorityRecord, Record
from bridge.core.sequencing.position import Name, Position
from bridge.core.sequencing.rules import Ids
from bridge.sinks.outbox.chunk_codec import RouteRow, counts, message_types
from bridge.sinks.outbox.chunk_store import ChunkStore
from bridge.sinks.outbox.spilling_outbox import SpillingOutbox
from bridge.telemetry import SinkCounts

CORRUPT = "spill_corrupt"


class SpillLosses:
    """Corrects the accounts of an outbox and its file for records that do not come back."""

    def __init__(self, outbox: SpillingOutbox, store: ChunkStore, sink_counts: SinkCounts) -> None:
        self._outbox = outbox
        self._accounts = outbox.spill_accounts
        self._store = store
        self._counts = sink_counts
        # The last id of each stream that came back to the queues.
        self._returned: dict[Name, int] = {}

    def came_back(self, rows: Iterable[RouteRow]) -> None:
        """Note how far the disk has been read."""
        for row in rows:
            if row.last_id != NO_IDENTITY:
                self._returned[row.message_type, row.symbol] = row.last_id

    def between(self, positions: dict[Name, Position]) -> None:
        """Note the ids that neither the topics nor the disk had at start."""
        for name, ranges in self._store.ranges().items():
            known = positions.get(name)
            self._note_holes(name, _above(ranges, known.last_id) if known else ranges)

    def of_chunk(self, rows: Iterable[RouteRow]) -> None:
        """Note the loss of a chunk that cannot be read."""
        for row in rows:
            self._accounts.left[row.key] -= row.count
            self._accounts.done[row.key] += row.count
            self._counts.dropped[row.message_type, CORRUPT] += row.count
        self._outbox.losses.add_runs(row.loss(CORRUPT) for row in rows)

    def of_file(self) -> None:
        """Note what was lost when a new file replaced a corrupt one."""
        accounts, found = self._accounts, self._store.found
        in_queues = [r for r in self._outbox.in_queues() if not isinstance(r, PriorityRecord)]
        lost = accounts.rebase(Counter(r.route.name for r in in_queues), counts(found))
        accounts.unread = message_types(found)
        names = {key: self._store.routes.name(key) for key in lost}
        for key, count in lost.items():
            message_type, _ = names[key]
            self._counts.dropped[message_type, CORRUPT] += count
        for name in names.values():
            self._note_lost(name, in_queues)

    def _note_lost(self, name: Name, in_queues: list[Record]) -> None:
        """Note what a corrupt file has cost a stream: by ids, if ids around the loss are known."""
        ranges = [
            (record.identity, record.identity)
            for record in (*in_queues, *self._accounts.awaiting_write)
            if (record.route.message_type, record.route.symbol) == name
            and record.identity != NO_IDENTITY
        ]
        if (last := self._returned.get(name)) is not None:
            ranges.append((last, last))
        if ranges:
            end = self._store.ends[name] + 1
            ranges.append((end, end))
        if not self._note_holes(name, [*ranges, *self._store.ranges().get(name, [])]):
            ids = (NO_IDENTITY, NO_IDENTITY)
            self._outbox.losses.add_runs([Loss(*name, *ids, None, None, CORRUPT)])

    def _note_holes(self, name: Name, ranges: list[Ids]) -> bool:
        found = [Loss(*name, *ids, None, None, CORRUPT) for ids in holes(ranges)]
        self._outbox.losses.add_runs(found)
        return bool(found)


def _above(ranges: list[Ids], identity: int) -> list[Ids]:
    """Return the parts of the ranges above an id, and the id itself."""
    above = [(max(first, identity + 1), last) for first, last in ranges if last > identity]
    return [(identity, identity), *above]
