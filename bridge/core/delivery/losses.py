"""The records a sink has dropped: one run of ids or times per announcement, bounded in number."""

from collections.abc import Iterable, Sequence

import msgspec

from bridge.core.model.events import Gap
from bridge.core.records.record import NO_IDENTITY, Record
from bridge.core.sequencing.position import StreamKey
from bridge.core.sequencing.rules import Ids

# Limit of runs of one message type and symbol that wait to be announced. Beyond this limit the last
# run is extended: to announce too wide a range is better than to announce none.
MAX_RUNS = 100


class Loss(msgspec.Struct, gc=False):
    """A run of dropped records of one stream, and the cause.

    The ids are -1 if the stream's ids are not contiguous. The times are microseconds, or None if
    unknown. `is_exact` is true if none of the ids in the run was published.
    """

    message_type: str
    symbol: str
    first_id: int
    last_id: int
    from_time: int | None
    to_time: int | None
    cause: str
    is_exact: bool = True

    @property
    def stream_key(self) -> StreamKey:
        return StreamKey(self.message_type, self.symbol)


class Losses:
    """The runs of each stream that have not been announced yet."""

    def __init__(self) -> None:
        self._runs: dict[StreamKey, list[Loss]] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, records: Iterable[Record], cause: str) -> None:
        """Add dropped records; the records of each symbol are oldest first."""
        for record in records:
            route, time = record.route, record.timestamp_ms * 1000
            runs = self._runs.setdefault(route.stream_key, [])
            if not runs or not _extend(runs[-1], record, cause, is_full=len(runs) >= MAX_RUNS):
                ids = (record.identity, record.identity)
                runs.append(Loss(route.message_type, route.symbol, *ids, time, time, cause))

    def add_runs(self, runs: Iterable[Loss]) -> None:
        """Add complete runs."""
        for loss in runs:
            self._runs.setdefault(loss.stream_key, []).append(loss)

    def take(self) -> list[Loss]:
        """Return all runs added since the last call, and remove them."""
        runs, self._runs = self._runs, {}
        return [loss for of_stream in runs.values() for loss in of_stream]


def holes(ranges: Sequence[Ids]) -> list[Ids]:
    """Return the holes between ranges of ids, as the first and last id of each hole."""
    found: list[Ids] = []
    end: int | None = None
    for first, last in sorted(ranges):
        if end is not None and first > end + 1:
            found.append((end + 1, first - 1))
        end = last if end is None else max(end, last)
    return found


def _extend(run: Loss, record: Record, cause: str, *, is_full: bool) -> bool:
    """Add the record if it continues the run, or if the list of runs is full.

    Return whether it was added.
    """
    identity = record.identity
    follows = identity in (NO_IDENTITY, run.last_id + 1) and cause == run.cause
    if not follows and not is_full:
        return False
    run.is_exact &= follows
    run.first_id = min(run.first_id, identity)
    run.last_id = max(run.last_id, identity)
    run.to_time = record.timestamp_ms * 1000
    return True


def log_fields(gap: Gap) -> dict[str, object]:
    """Return what a log entry says of a gap event."""
    return {
        "symbol": gap.symbol,
        "message_type": gap.kind,
        "first_id": gap.first_id,
        "last_id": gap.last_id,
        "cause": gap.cause,
        "state": gap.state,
    }
