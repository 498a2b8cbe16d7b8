"""The checks of the published statuses: what each says must have been true when it was written."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

import msgspec

from bridge.core.model.events import STATUS, Gap, SymbolStatus
from bridge.core.model.stream import SPOT
from tests.simulation.market import CONTIGUOUS, FIRST_ID
from tests.simulation.world import World

NEVER_S = float("inf")


class Known(NamedTuple):
    """A stream: from when on all ids up to each one were in Kafka, and the latest time so far."""

    complete_s: list[float]
    times: list[int]

    def last_until(self, time: int) -> int:
        """Return the last id up to a time."""
        return FIRST_ID - 1 + bisect_right(self.times, time)


def status_problems(world: World, begins: dict[tuple[str, str], int]) -> Iterator[str]:
    """Yield the statuses that said more than Kafka had. `begins` are the first ids that must be
    there.
    """
    faults = {entry["fault"] for entry in world.journal.named("fault_begins")}
    if world.unknown_starts:
        return  # what those missed is hidden from their successors too
    are_dated = "misdate_some_events" not in faults
    known = {name: _known(world, name, begin) for name, begin in begins.items()}
    for _, log in world.broker.records(f"{SPOT}.{STATUS}"):
        for stored in log:
            status = msgspec.json.decode(stored.value, type=SymbolStatus)
            for kind in CONTIGUOUS:
                stream, said = known.get((kind, status.symbol)), getattr(status, f"{kind}_id")
                if stream and (said is not None or not world.file.left_out):
                    last_id = FIRST_ID - 1 if said is None else said
                    if are_dated and status.complete_to is not None:
                        last_id = max(last_id, stream.last_until(status.complete_to))
                    if not _holds(stream, last_id, stored.written_s):
                        yield f"{kind} of {status.symbol} at {stored.written_s:.3f} s: {status}"


def _holds(known: Known, last_id: int, at_s: float) -> bool:
    """Return whether all ids up to this one were there at that time."""
    return last_id < FIRST_ID or known.complete_s[last_id - FIRST_ID] <= at_s


def _known(world: World, name: tuple[str, str], begin: int) -> Known:
    kind, symbol = name
    written: defaultdict[int, float] = defaultdict(lambda: NEVER_S)
    for _, log in world.broker.records(f"{SPOT}.{kind}"):
        for stored in log:
            if stored.key.decode() == symbol:
                identity = msgspec.json.decode(stored.value)[CONTIGUOUS[kind]]
                written[identity] = min(written[identity], stored.written_s)
    for _, log in world.broker.records(f"{SPOT}.gap"):
        for stored in log:
            gap = msgspec.json.decode(stored.value, type=Gap)
            if (gap.kind, gap.symbol) == name and gap.first_id is not None:
                for identity in range(gap.first_id, (gap.last_id or 0) + 1):
                    written[identity] = min(written[identity], stored.written_s)
    ids = [tick.identity for tick in world.market.history[name]]
    complete_s = accumulate((0.0 if i < begin else written[i] for i in ids), max)
    times = accumulate((tick.time_ms * 1000 for tick in world.market.history[name]), max)
    return Known([*complete_s], [*times])
