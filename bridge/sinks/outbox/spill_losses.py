"""Records that the disk has lost: counted, and noted to be announced."""

from collections import Counter
from collections.abc import Iterable

from bridge.core.delivery.losses import Loss, holes
from bridge.core.records.record import NO_IDENTITY, PriorityRecord, Record
from bridge.core.sequencing.position import Position, StreamKey
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
        self._returned: dict[StreamKey, int] = {}

    def came_back(self, rows: Iterable[RouteRow]) -> None:
        """Note how far the disk has been read."""
        for row in rows:
            if row.last_id != NO_IDENTITY:
                self._returned[row.stream_key] = row.last_id

    def between(self, positions: dict[StreamKey, Position]) -> None:
        """Note the ids that neither the topics nor the disk had at start."""
        for key, ranges in self._store.ranges().items():
            known = positions.get(key)
            self._note_holes(key, _above(ranges, known.last_id) if known else ranges)

    def of_chunk(self, rows: Iterable[RouteRow]) -> None:
        """Note the loss of a chunk that cannot be read."""
        for row in rows:
            self._accounts.left[row.route_key] -= row.count
            self._accounts.done[row.route_key] += row.count
            self._counts.dropped[row.message_type, CORRUPT] += row.count
        self._outbox.losses.add_runs(row.loss(CORRUPT) for row in rows)

    def of_file(self) -> None:
        """Note what was lost when a new file replaced a corrupt one."""
        accounts, found = self._accounts, self._store.found
        in_queues = [r for r in self._outbox.in_queues() if not isinstance(r, PriorityRecord)]
        lost = accounts.rebase(Counter(r.route.route_key for r in in_queues), counts(found))
        accounts.unread = message_types(found)
        for route_key, count in lost.items():
            key = self._store.routes.stream_key(route_key)
            self._counts.dropped[key.message_type, CORRUPT] += count
            self._note_lost(key, in_queues)

    def _note_lost(self, key: StreamKey, in_queues: list[Record]) -> None:
        """Note what a corrupt file has cost a stream: by ids, if ids around the loss are known."""
        ranges = [
            (record.identity, record.identity)
            for record in (*in_queues, *self._accounts.awaiting_write)
            if record.route.stream_key == key and record.identity != NO_IDENTITY
        ]
        if (last := self._returned.get(key)) is not None:
            ranges.append((last, last))
        if ranges:
            end = self._store.greatest_ids[key] + 1
            ranges.append((end, end))
        if not self._note_holes(key, [*ranges, *self._store.ranges().get(key, [])]):
            self._outbox.losses.add_runs([_loss(key, (NO_IDENTITY, NO_IDENTITY))])

    def _note_holes(self, key: StreamKey, ranges: list[Ids]) -> bool:
        found = [_loss(key, ids) for ids in holes(ranges)]
        self._outbox.losses.add_runs(found)
        return bool(found)


def _loss(key: StreamKey, ids: Ids) -> Loss:
    return Loss(key.message_type, key.symbol, *ids, None, None, CORRUPT)


def _above(ranges: list[Ids], identity: int) -> list[Ids]:
    """Return the parts of the ranges above an id, and the id itself."""
    above = [(max(first, identity + 1), last) for first, last in ranges if last > identity]
    return [(identity, identity), *above]
