from typing import Any

import pytest

from bridge.tools.simulator import (
    Fault,
    FaultPlan,
    History,
    Market,
    PlayedTrade,
    Replay,
    RestBehind,
    RestLacks,
)
from bridge.tools.simulator.fault_engine import FaultEngine
from bridge.tools.simulator.partial_history import PartialHistory
from tests.support.simulator import BEGIN_MS, capture_of, market, trades

Rows = list[dict[str, Any]]


class Known:
    """The REST view of 1,000 trades: ids 100 to 1,099, one per millisecond, the last one now."""

    def __init__(self, *faults: Fault, now_s: float = 1.0, seed: int = 7) -> None:
        replay = Replay([capture_of(trades(1_000))])
        history = History(replay.symbols)
        history.record(replay.take(None, 1_000))
        self.fault_engine = FaultEngine(FaultPlan(faults, seed), replay, lambda: now_s)
        self.history = PartialHistory(history, self.fault_engine)

    def ids(self, from_id: int | None, limit: int = 1_000) -> list[int]:
        return [row["id"] for row in self.history.trades("BTCUSDT", from_id, limit)]


def test_rest_behind_the_stream_does_not_know_its_newest_trades_yet() -> None:
    fault = RestBehind(by_ms=50)
    known = Known(fault)
    assert known.ids(1_000) == list(range(1_000, 1_051))
    (incident,) = known.fault_engine.incidents.happened()
    assert (incident.fault, incident.subject) == (fault, "btcusdt@trade")
    assert incident.ids == tuple(range(1_051, 1_100))
    assert known.ids(None, 5) == list(range(1_046, 1_051))


def test_rest_is_behind_only_as_long_as_the_fault_lasts() -> None:
    for now_s, newest in ((0.9, 1_099), (1.0, 1_050), (2.0, 1_099)):
        assert (
            Known(RestBehind(by_ms=50, at_s=1.0, until_s=2.0), now_s=now_s).ids(1_000)[-1] == newest
        )


def test_ids_that_rest_lacks_are_never_there_and_pages_are_full_all_the_same() -> None:
    gone = frozenset({101, 103, 1_099})
    known = Known(RestLacks(streams="btcusdt@trade", ids=gone))
    assert known.ids(100, 3) == [100, 102, 104]
    assert known.ids(None, 2) == [1_097, 1_098]
    assert set(known.ids(0)) == set(range(100, 1_100)) - gone
    assert known.fault_engine.plan.lacks("btcusdt@trade", 101)
    assert not known.fault_engine.plan.lacks("ethusdt@trade", 101)


def test_a_share_of_the_ids_is_lacking_for_good_as_the_seed_has_it() -> None:
    lacks = RestLacks(share=0.1)
    known = Known(lacks)
    found = known.ids(0)
    assert 850 < len(found) < 950
    assert known.ids(0) == Known(lacks).ids(0) == found
    assert Known(lacks, seed=8).ids(0) != found
    hidden = known.fault_engine.incidents.happened()[0].ids
    assert sorted([*found, *hidden]) == list(range(100, 1_100))
    assert all(known.fault_engine.plan.lacks("btcusdt@trade", number) for number in hidden)


def test_aggregate_trades_are_held_back_as_well() -> None:
    played = market("BTCUSDT")
    history = played_for(played, 30_000)
    ids = [one.id for one in history.played("btcusdt@aggTrade")]
    fault = RestLacks(streams="*@aggTrade", ids=frozenset(ids[:2]))
    known = PartialHistory(history, FaultEngine(FaultPlan((fault,)), played, lambda: 1.0))
    by_id = known.aggregate_trades("BTCUSDT", ids[0], (None, None), 3)
    assert [row["a"] for row in by_id] == ids[2:5]
    by_time = known.aggregate_trades("BTCUSDT", None, (BEGIN_MS, None), 1_000)
    assert [row["a"] for row in by_time] == ids[2:]
    assert len(known.trades("BTCUSDT", 0, 1_000)) == len(history.played("btcusdt@trade"))
    assert known.price("BTCUSDT") == history.price("BTCUSDT")


def played_for(source: Market, milliseconds: int, **settings: Any) -> History:
    history = History(source.symbols, **settings)
    history.record(source.step(BEGIN_MS + milliseconds))
    return history


def test_the_history_tells_what_was_played() -> None:
    history = History(["BTCUSDT"], trades_kept=3, counting=True)
    assert history.id_range("btcusdt@trade") is None
    history.record([*trades(5), ("btcusdt@bookTicker", b"{}")])
    assert history.id_range("btcusdt@trade") == (102, 104)
    assert history.played("btcusdt@trade")[0] == PlayedTrade(
        102, "61837.63000000", "0.02000000", BEGIN_MS + 2, buyer_is_maker=True
    )
    assert history.counts == {"btcusdt@trade": 5, "btcusdt@bookTicker": 1}


def test_a_stream_without_trades_has_no_history() -> None:
    with pytest.raises(KeyError):
        History(["BTCUSDT"]).played("btcusdt@bookTicker")


def test_the_history_of_two_minutes_of_a_busy_market_is_whole() -> None:
    """Keep all trades within the limit at 250 a second, a twentieth of 5,000."""
    source = market("BTCUSDT", trades_per_second=250)
    history = played_for(source, 120_000, counting=True)
    for stream in ("btcusdt@trade", "btcusdt@aggTrade"):
        ids = [one.id for one in history.played(stream)]
        assert len(ids) == history.counts[stream] > 20_000
        assert history.id_range(stream) == (ids[0], ids[-1])
        assert ids == list(range(ids[0], ids[-1] + 1))
