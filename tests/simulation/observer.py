"""A third sink, which checks the records of the pipeline, in their order, against the rules."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from bridge.core.model.events import BlockTrade, Candle, Event, Gap, Quote
from bridge.core.records.record import Record, Route
from bridge.core.sequencing.rules import RESTARTED
from bridge.core.sequencing.sequencers import Sequencers
from bridge.sinks.memory import MemorySink
from tests.simulation.loop import is_clock_slow
from tests.simulation.market import CONTIGUOUS

Name = tuple[str, str]


class Observer(MemorySink):
    """Knows, for each stream, the next id and the ids that were announced as missing."""

    name = "observer"

    def __init__(self, problems: list[str]) -> None:
        super().__init__()
        # Those of its pipeline.
        self.sequencers: Sequencers | None = None
        self.first: dict[Name, int] = {}
        self.newest_trades: dict[str, int] = {}
        self._problems = problems
        self._expected: dict[Name, int] = {}
        self.missing: defaultdict[Name, set[int]] = defaultdict(set)
        self._last: dict[Name, int] = {}

    def push(self, records: Sequence[Record], latest: Mapping[Route, Event]) -> None:
        super().push(records, latest)
        for record, event in zip(records, self.events[-len(records) :], strict=True):
            self._look_at(record, event)

    def _look_at(self, record: Record, event: Event) -> None:
        kind = record.route.message_type
        if isinstance(event, Gap):
            self._see_gap(event)
        elif kind in CONTIGUOUS:
            self._see((kind, event.symbol), record.identity)
        elif (mark := mark_of(event)) is not None:
            self._see_mark((kind, event.symbol), mark)

    def _see(self, name: Name, identity: int) -> None:
        expected = self._expected.get(name)
        self.first.setdefault(name, identity)
        if name[0] == "trade":
            newest = self.newest_trades.get(name[1], identity)
            self.newest_trades[name[1]] = max(identity, newest)
        if expected is None or identity == expected:
            self._expected[name] = identity + 1
        elif identity in self.missing[name]:
            self.missing[name].remove(identity)
        else:
            self._problems.append(f"pipeline: {name} {identity} instead of {expected}")

    def _see_gap(self, gap: Gap) -> None:
        name = (gap.kind, gap.symbol)
        if gap.first_id is None or gap.last_id is None:
            if gap.cause == RESTARTED:
                self._restart(name)
            return
        ids = range(gap.first_id, gap.last_id + 1)
        expected = self._expected.get(name, gap.first_id)
        if gap.state == "open":
            if gap.first_id != expected:
                self._problems.append(f"pipeline: {name} gap {ids} instead of {expected}")
            self.missing[name].update(ids)
            self._expected[name] = gap.last_id + 1
        elif gap.state == "filled" and self.missing[name] & set(ids):
            self._problems.append(f"pipeline: {name} gap {ids} filled, but not completely")
        elif gap.state == "lost" and gap.first_id == expected:
            self._expected[name] = gap.last_id + 1  # too many to be fetched
        elif gap.state == "lost" and not set(ids) <= self.missing[name]:
            self._problems.append(f"pipeline: {name} gap {ids} lost, but not completely")

    def _restart(self, name: Name) -> None:
        """Begin again with the next id."""
        for known in (self._expected, self._last, self.missing):
            known.pop(name, None)
        if name[0] == "trade":
            self.newest_trades.pop(name[1], None)

    def _see_mark(self, name: Name, mark: int) -> None:
        """With a slow clock only the arrival of candles gives an order."""
        self.first.setdefault(name, mark)
        last = self._last.get(name, -1)
        if mark <= last and not (name[0] == "candle" and is_clock_slow()):
            self._problems.append(f"pipeline: {name} {mark} after {last}")
        self._last[name] = mark


def mark_of(event: Event) -> int | None:
    """Return the id of an event in the market's history; None if it has none."""
    match event:
        case Quote():
            return event.update_id
        case BlockTrade():
            return event.trade_id
        case Candle(closed=True):
            return event.open_time // 1_000_000
    return None
