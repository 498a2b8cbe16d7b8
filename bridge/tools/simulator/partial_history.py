"""The history that REST shows under a plan: it lags behind the streams or lacks some ids."""

from collections.abc import Callable, Sequence

from bridge.tools.simulator.fault_engine import FaultEngine
from bridge.tools.simulator.fields import ascii_lower
from bridge.tools.simulator.history import History, Row
from bridge.tools.simulator.http_faults import RestBehind, RestLacks
from bridge.tools.simulator.incidents import Incident

_Fetch = Callable[[int | None, int], Sequence[Row]]


class PartialHistory:
    """Answers as `History` does, and records the withheld rows as incidents."""

    def __init__(self, history: History, fault_engine: FaultEngine) -> None:
        self._history = history
        self._engine = fault_engine

    def trades(self, symbol: str, from_id: int | None, limit: int) -> list[Row]:
        def fetch(begin: int | None, most: int) -> list[Row]:
            return self._history.trades(symbol, begin, most)

        sieve = _Sieve(self._engine, f"{ascii_lower(symbol)}@trade", "id", "time")
        return sieve.page(fetch, from_id, limit)

    def aggregate_trades(
        self, symbol: str, from_id: int | None, times_ms: tuple[int | None, int | None], limit: int
    ) -> list[Row]:
        def fetch(begin: int | None, most: int) -> list[Row]:
            return self._history.aggregate_trades(symbol, begin, times_ms, most)

        sieve = _Sieve(self._engine, f"{ascii_lower(symbol)}@aggTrade", "a", "T")
        if times_ms == (None, None):
            return sieve.page(fetch, from_id, limit)
        return sieve.let_through(fetch(None, limit))

    def block_trades(self, symbol: str, from_id: int, limit: int) -> list[Row]:
        def fetch(begin: int | None, most: int) -> list[Row]:
            return self._history.block_trades(symbol, begin or 0, most)

        sieve = _Sieve(self._engine, f"{ascii_lower(symbol)}@blockTrade", "id", "time")
        return sieve.page(fetch, from_id, limit)

    def price(self, symbol: str) -> str | None:
        return self._history.price(symbol)


class _Sieve:
    """Withholds rows of one stream now; `id_key` and `time_key` are keys of the rows."""

    def __init__(self, fault_engine: FaultEngine, stream: str, id_key: str, time_key: str) -> None:
        self._engine = fault_engine
        self._stream = stream
        self._id_key = id_key
        self._time_key = time_key
        self._now_s = fault_engine.now_s()
        self._faults = [
            fault
            for fault in fault_engine.plan.faults
            if isinstance(fault, RestBehind | RestLacks) and fault.covers(self._now_s)
        ]

    def page(self, fetch: _Fetch, from_id: int | None, limit: int) -> list[Row]:
        """Return up to `limit` visible rows, from an id on or the latest."""
        rows = fetch(from_id, limit)
        asked = limit
        while len(rows) == asked and self._shown(rows) < limit:
            asked *= 2
            rows = fetch(from_id, asked)
        found = self.let_through(rows)
        return found[-limit:] if from_id is None else found[:limit]

    def let_through(self, rows: Sequence[Row]) -> list[Row]:
        """Return the visible rows, and record the others as incidents."""
        for fault in self._faults:
            hidden = tuple(row[self._id_key] for row in rows if self._hides(fault, row))
            if hidden:
                incident = Incident(self._now_s, fault, subject=self._stream, ids=hidden)
                self._engine.incidents.add(incident)
        return [row for row in rows if self._visible(row)]

    def _shown(self, rows: Sequence[Row]) -> int:
        return sum(map(self._visible, rows))

    def _visible(self, row: Row) -> bool:
        return not any(self._hides(fault, row) for fault in self._faults)

    def _hides(self, fault: RestBehind | RestLacks, row: Row) -> bool:
        if isinstance(fault, RestLacks):
            return self._engine.plan.denies(fault, self._stream, row[self._id_key])
        known_until_ms: int = self._engine.source.now_ms - fault.by_ms
        return bool(row[self._time_key] > known_until_ms)
