"""What a sink has given up: one run of ids or of time for each announcement, bounded."""

from collections.abc import Iterable, Sequence

import msgspec

from bridge.core.records.record import NO_IDENTITY, Record
from bridge.core.sequencing.position import Name
from bridge.core.sequencing.rules import Ids

# Runs of one message type and symbol that wait to be announced. Beyond it the last one is
# stretched: a range announced too wide is better than one not announced.
MAX_RUNS = 100


class Loss(msgspec.Struct, gc=False):
    """What was given up of one stream, and why.

    The ids are -1 where ids are not contiguous, the times (microseconds) None where they are
    unknown. `is_exact` where none of the ids in between was published.
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
    def name(self) -> Name:
        return self.message_type, self.symbol


class Losses:
    """The runs that have not been announced yet, of each stream."""

    def __init__(self) -> None:
        self._runs: dict[Name, list[Loss]] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, records: Iterable[Record], cause: str) -> None:
        """Note records that were given up, each symbol's oldest first."""
        for record in records:
            route, time = record.route, record.timestamp_ms * 1000
            runs = self._runs.setdefault((route.message_type, route.symbol), [])
            if not runs or not _extend(runs[-1], record, cause, is_full=len(runs) >= MAX_RUNS):
                ids = (record.identity, record.identity)
                runs.append(Loss(route.message_type, route.symbol, *ids, time, time, cause))

    def add_runs(self, runs: Iterable[Loss]) -> None:
        """Note runs that are known as such."""
        for loss in runs:
            self._runs.setdefault(loss.name, []).append(loss)

    def take(self) -> list[Loss]:
        """All runs noted since the last call."""
        runs, self._runs = self._runs, {}
        return [loss for of_stream in runs.values() for loss in of_stream]


def holes(ranges: Sequence[Ids]) -> list[Ids]:
    """What lies between ranges of ids, first and last of each hole."""
    found: list[Ids] = []
    end: int | None = None
    for first, last in sorted(ranges):
        if end is not None and first > end + 1:
            found.append((end + 1, first - 1))
        end = last if end is None else max(end, last)
    return found


def _extend(run: Loss, record: Record, cause: str, *, is_full: bool) -> bool:
    """Whether a run goes on with this record."""
    identity = record.identity
    follows = identity in (NO_IDENTITY, run.last_id + 1) and cause == run.cause
    if not follows and not is_full:
        return False
    run.is_exact &= follows
    run.first_id = min(run.first_id, identity)
    run.last_id = max(run.last_id, identity)
    run.to_time = record.timestamp_ms * 1000
    return True
