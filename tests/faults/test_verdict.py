"""The verdict of the fault tests finds the errors that the tests look for."""

from array import array

import pytest

from bridge.tools.simulator import PlayedTrade
from tests.faults.bridges import Samples
from tests.faults.reading import GapRow, Read, Row
from tests.faults.scenarios import SCENARIOS
from tests.faults.verdict import (
    judge_quotes,
    judge_trades,
    left_open,
    may_be_seen,
    restarted,
    unbalanced,
)

PLAYED = [PlayedTrade(number, "1.0", "2.0", 1000 + number, True) for number in range(1, 6)]


def read(number: int, price: str = "1.0") -> Read:
    time = (1000 + number) * 1000
    row = Row("BTCUSDT", time, "websocket", time, price, "2.0", "sell")
    return Read(number, row, 1000 + number)


@pytest.mark.parametrize(
    ("ids", "lost", "repeated", "disordered"),
    [
        ([1, 2, 3, 4, 5], 0, 0, 0),
        ([3, 4, 5], 0, 0, 0),
        ([1, 2, 4, 5], 1, 0, 0),
        ([1, 2, 3], 2, 0, 0),
        ([1, 2, 2, 3, 4, 5], 0, 1, 0),
        ([1, 3, 2, 4, 5], 0, 0, 1),
        ([], 5, 0, 0),
    ],
    ids=["whole", "late start", "missing_ids", "end", "repeat", "disorder", "nothing"],
)
def test_trades_are_held_against_what_was_played(
    ids: list[int], lost: int, repeated: int, disordered: int
) -> None:
    events = {"BTCUSDT": [read(number) for number in ids]}
    tally = judge_trades("trade", events, {"BTCUSDT": PLAYED}, {("trade", "BTCUSDT"): (1, 5)})
    assert (tally.lost, tally.repeated, tally.disordered) == (lost, repeated, disordered)
    assert tally.wrong == 0


def gap(first: int, last: int, state: str) -> GapRow:
    return GapRow("BTCUSDT", "trade", "outbox_full", state, 0, 0, first, last)


@pytest.mark.parametrize(
    ("ids", "state", "lost", "repeated", "disordered"),
    [
        ([1, 4, 5, 2, 3], "filled", 0, 0, 0),
        ([1, 4, 2, 3, 5], "filled", 0, 0, 0),
        ([1, 4, 5], "lost", 0, 0, 0),
        ([1, 4, 5, 2], "lost", 0, 0, 0),
        ([1, 4, 5], "filled", 2, 0, 0),
        ([1, 4, 5], "open", 2, 0, 0),
        ([1, 4, 5, 2, 3, 2], "filled", 0, 1, 0),
        ([1, 5, 4, 2, 3], "filled", 0, 0, 1),
    ],
    ids=[
        *("late", "in between", "lost", "lost in part", "not filled", "open", "late twice"),
        *("disorder elsewhere",),
    ],
)
def test_what_gap_events_tell_of_comes_late_or_is_lost_and_nothing_else_may(
    ids: list[int], state: str, lost: int, repeated: int, disordered: int
) -> None:
    events = {"BTCUSDT": [read(number) for number in ids]}
    wanted = {("trade", "BTCUSDT"): (1, 5)}
    gaps = [gap(2, 3, "open"), gap(2, 3, state)]
    tally = judge_trades("trade", events, {"BTCUSDT": PLAYED}, wanted, gaps)
    assert (tally.lost, tally.repeated, tally.disordered) == (lost, repeated, disordered)
    assert tally.events == len(ids)


def test_a_gap_of_which_nothing_says_what_became_is_left_open() -> None:
    gaps = [gap(1, 5, "open"), gap(1, 2, "filled"), gap(3, 3, "lost")]
    assert left_open(gaps) == ["trade BTCUSDT: 2 ids"]
    assert left_open([*gaps, gap(4, 5, "filled")]) == []


@pytest.mark.parametrize(
    ("name", "cause", "states", "kind"),
    [
        ("everything", "repair_timeout", {"open", "filled"}, "trade"),
        ("everything", "not_in_history", set(), "trade"),
        ("everything", "closed", {"lost"}, "quote"),
        ("kafka-killed", "repair_timeout", set(), "trade"),
        ("kafka-killed", "closed", set(), "quote"),
        ("disk-full", "outbox_full", {"open", "filled", "lost"}, "trade"),
    ],
)
def test_only_gaps_that_a_scenario_explains_may_be_seen(
    name: str, cause: str, states: set[str], kind: str
) -> None:
    scenario = next(scenario for scenario in SCENARIOS if scenario.name == name)
    possible = ("lost",) if kind == "quote" else ("open", "filled", "lost")
    gaps = [GapRow("BTCUSDT", kind, cause, state, 0, 0, 2, 3) for state in possible]
    assert {gap.state for gap in gaps if may_be_seen(scenario, gap)} == states


def test_a_restart_of_the_ids_is_known_by_its_gap_event() -> None:
    of_ids = GapRow("ETHUSDT", "agg_trade", "ids_restarted", "lost", 0, 0)
    assert restarted([gap(2, 3, "open"), of_ids]) == {("agg_trade", "ETHUSDT")}


def test_a_trade_with_another_price_is_wrong() -> None:
    events = {"BTCUSDT": [read(number, "1.1" if number == 3 else "1.0") for number in range(1, 6)]}
    tally = judge_trades("trade", events, {"BTCUSDT": PLAYED}, {("trade", "BTCUSDT"): (1, 5)})
    assert tally.wrong == 1


@pytest.mark.parametrize(("from_id", "to_id", "lost"), [(2, 5, 0), (1, 9, 0), (2, 4, 2), (3, 5, 2)])
def test_missing_quotes_are_lost_unless_a_gap_covers_them(
    from_id: int, to_id: int, lost: int
) -> None:
    events = {"BTCUSDT": [read(1), read(2), read(5)]}
    times = (read(from_id).row.received, read(to_id).row.received)
    gap = GapRow("BTCUSDT", "quote", "closed", "lost", *times)
    tally = judge_quotes(events, {"BTCUSDT": array("q", [1, 2, 3, 4, 5])}, [gap])
    assert tally.lost == lost


@pytest.mark.parametrize(("from_id", "to_id", "lost"), [(3, 4, 0), (1, 4, 0), (0, 1, 2), (6, 7, 2)])
def test_quotes_that_were_given_up_are_announced_from_the_first_of_them_to_the_last(
    from_id: int, to_id: int, lost: int
) -> None:
    events = {"BTCUSDT": [read(2), read(5)]}
    times = (read(from_id).row.received, read(to_id).row.received)
    given_up = GapRow("BTCUSDT", "quote", "outbox_full", "lost", *times)
    tally = judge_quotes(events, {"BTCUSDT": array("q", [1, 2, 3, 4, 5, 6])}, [given_up])
    assert tally.lost == lost


@pytest.mark.parametrize(("pending", "sums"), [(5, []), (4, ["kafka trade: received 9"])])
def test_accounts_that_do_not_add_up_are_named(pending: int, sums: list[str]) -> None:
    of_kafka = {("sink", "kafka"), ("message_type", "trade")}
    of_redis = frozenset({("sink", "redis"), ("message_type", "trade")})
    samples: Samples = {
        ("tickbridge_events_received_total", frozenset({("message_type", "trade")})): 9,
        ("tickbridge_events_published_total", frozenset(of_kafka)): 6,
        ("tickbridge_events_dropped_total", frozenset(of_kafka | {("cause", "outbox_full")})): 1,
        ("tickbridge_events_pending", frozenset(of_kafka)): pending,
        ("tickbridge_events_restored_total", frozenset(of_kafka)): 3,
        ("tickbridge_events_published_total", of_redis): 9,
    }
    assert [text.partition(",")[0] for text in unbalanced(samples)] == sums
