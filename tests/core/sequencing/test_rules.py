"""Every stream passes once and in order: the sequencers with data recorded from the exchange."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bridge.core.model.events import BookDelta, Event, Gap, MiniTicker, Quote, Trade
from bridge.core.sequencing import contiguous
from bridge.core.sequencing.contiguous import Contiguous
from bridge.core.sequencing.handover import Handover
from bridge.core.sequencing.rules import Head, Marks, Sequencer
from bridge.core.sequencing.sequencers import new_sequencer
from tests.support.events import repeatable

SECOND_US = 1_000_000
HEAD = ("binance.spot", "BTCUSDT")


def trade(trade_id: int, *, seconds: float = 0, source: str = "websocket") -> Trade:
    time = int(seconds * SECOND_US) or trade_id
    return Trade(*HEAD, time, time, source, trade_id, "1.0", "2.0", "buy")  # type: ignore[arg-type]


def quote(update_id: int, *, seconds: int = 0) -> Quote:
    received = seconds * SECOND_US or update_id
    return Quote(*HEAD, None, received, "websocket", update_id, "1.0", "2.0", "3.0", "4.0")


def delta(first: int, last: int, time: int | None = None) -> BookDelta:
    time = last if time is None else time
    return BookDelta(*HEAD, time, time, "websocket", first, last, [], [])


def ticker(time: int, price: str = "1.0", received: int = 7) -> MiniTicker:
    return MiniTicker(*HEAD, time, received, "websocket", price, "1.0", "1.0", "1.0", "1.0", "1.0")


def head(last_id: int) -> Head:
    return Head(*HEAD, last_id * SECOND_US, 7, last_id, last_id)


def contiguous_sequencer(last: int | None = None) -> Contiguous:
    sequencer = new_sequencer(Trade)
    assert isinstance(sequencer, Contiguous)
    if last is not None:
        sequencer.resume(last, last)
    return sequencer


def accept_all(sequencer: Sequencer, events: Iterable[Event]) -> list[Event]:
    return [passed for event in events for passed in sequencer.accept(event)]


def ids(events: Sequence[Event]) -> list[int]:
    return [event.trade_id for event in events if isinstance(event, Trade)]


def test_trades_that_follow_each_other_pass_at_once() -> None:
    assert ids(accept_all(contiguous_sequencer(), map(trade, range(5, 9)))) == [5, 6, 7, 8]


def test_a_repeated_trade_is_dropped_and_counted() -> None:
    sequencer = contiguous_sequencer()
    assert ids(accept_all(sequencer, map(trade, [5, 6, 6, 5, 7]))) == [5, 6, 7]
    assert sequencer.duplicates == 2


def test_a_hole_holds_what_comes_behind_it_until_it_is_filled() -> None:
    sequencer = contiguous_sequencer(5)
    assert accept_all(sequencer, map(trade, [8, 9, 11])) == []
    assert sequencer.hole == (6, 7)
    assert ids(sequencer.fill([trade(6, source="rest")])) == [6]
    assert sequencer.hole == (7, 7)
    assert ids(sequencer.fill([trade(7, source="rest"), trade(8, source="rest")])) == [7, 8, 9]
    assert sequencer.hole == (10, 10)
    assert ids(accept_all(sequencer, map(trade, [10, 12]))) == [10, 11, 12]
    assert sequencer.hole is None


def test_the_other_connector_can_fill_a_hole_too() -> None:
    sequencer = contiguous_sequencer(5)
    assert ids(accept_all(sequencer, map(trade, [8, 7, 6]))) == [6, 7, 8]


def test_what_is_given_up_is_announced_before_the_next_trade() -> None:
    sequencer = contiguous_sequencer(5)
    accept_all(sequencer, map(trade, [8, 9, 12]))
    gap, *passed = sequencer.give_up("repair_timeout")
    assert isinstance(gap, Gap)
    assert (gap.kind, gap.first_id, gap.last_id, gap.state) == ("trade", 6, 7, "open")
    assert (gap.from_time, gap.to_time, gap.cause) == (5, 8, "repair_timeout")
    assert ids(passed) == [8, 9]
    assert sequencer.hole == (10, 11)


def test_an_open_gap_is_closed_part_by_part() -> None:
    sequencer = contiguous_sequencer(5)
    accept_all(sequencer, [trade(12)])
    gap = sequencer.give_up("too_large")[0]
    assert isinstance(gap, Gap)
    states = [(g.first_id, g.last_id, g.state) for g in sequencer.close_gap(gap, [7, 8, 10])]
    assert states == [
        (6, 6, "lost"),
        (7, 8, "filled"),
        (9, 9, "lost"),
        (10, 10, "filled"),
        (11, 11, "lost"),
    ]
    assert sequencer.open_gaps == ()


@pytest.mark.parametrize("ids_ahead", [12_000_000, 2 * 10**10, 2**62])
def test_an_id_far_ahead_costs_no_more_than_what_may_be_fetched(ids_ahead: int) -> None:
    sequencer = contiguous_sequencer(5)
    assert accept_all(sequencer, [trade(5 + ids_ahead)]) == []
    gaps = sequencer.give_up("too_many_ids")[:-1]
    assert ids(gaps) == []
    said = [(gap.state, gap.first_id, gap.last_id) for gap in gaps if isinstance(gap, Gap)]
    kept = contiguous.MAX_OPEN_GAPS * contiguous.MAX_GAP_IDS
    assert said[0] == ("lost", 6, 4 + ids_ahead - kept)
    assert {state for state, _, _ in said[1:]} == {"open"}
    assert len(said) == 1 + contiguous.MAX_OPEN_GAPS == 1 + len(sequencer.open_gaps)
    assert said[-1][2] == 4 + ids_ahead
    for (_, _, last), (_, first, _) in pairwise(said):
        assert first == (last or 0) + 1


def test_ids_that_start_again_are_announced_and_not_frozen_out() -> None:
    sequencer = contiguous_sequencer(1_000_000)
    accept_all(sequencer, [trade(1_000_001, seconds=5), trade(1_000_003, seconds=5)])
    passed = accept_all(sequencer, [trade(number, seconds=10) for number in (0, 1, 2, 3)])
    assert ids(passed) == [1_000_003, 0, 1, 2, 3]
    gaps = [(g.cause, g.state, g.first_id) for g in passed if isinstance(g, Gap)]
    assert gaps == [
        ("ids_restarted", "open", 1_000_002),
        ("ids_restarted", "lost", 1_000_002),
        ("ids_restarted", "lost", None),
    ]


def test_what_is_held_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contiguous, "MAX_HELD_EVENTS", 10)
    sequencer = contiguous_sequencer(5)
    passed = accept_all(sequencer, map(trade, range(7, 18)))
    assert ids(passed) == list(range(7, 18))
    assert isinstance(passed[0], Gap)
    assert passed[0].cause == "hold_limit"


def test_quotes_rise_and_a_loss_is_announced_only_where_an_interruption_is_known() -> None:
    sequencer = new_sequencer(Quote)
    assert accept_all(sequencer, map(quote, [5, 9, 7, 9])) == [quote(5), quote(9)]
    assert sequencer.duplicates == 2
    sequencer.interrupt("closed")
    gap, passed = sequencer.accept(quote(20))
    assert isinstance(gap, Gap)
    assert (gap.kind, gap.first_id, gap.from_time, gap.to_time) == ("quote", None, 9, 20)
    assert (gap.cause, gap.state) == ("closed", "lost")
    assert passed == quote(20)
    assert sequencer.accept(quote(21)) == (quote(21),)


def test_quotes_whose_ids_start_again_are_not_frozen_out() -> None:
    """Copies may come late over the other connection, so their ids alone prove nothing."""
    sequencer = new_sequencer(Quote)
    sequencer.accept(quote(10**9, seconds=1))
    again = [quote(number, seconds=1 + number) for number in range(1, 13)]
    assert accept_all(sequencer, again[:10]) == []
    gap, *passed = accept_all(sequencer, again[10:])
    assert isinstance(gap, Gap)
    assert (gap.cause, gap.from_time, gap.to_time) == ("ids_restarted", SECOND_US, 2 * SECOND_US)
    assert passed == again


@pytest.mark.parametrize(
    "events",
    [
        [quote(number) for number in range(1, 8)],
        [delta(number, number) for number in range(1, 8)],
        [ticker(number) for number in range(1, 8)],
    ],
)
@pytest.mark.parametrize("begin", range(6))
def test_after_a_start_the_events_up_to_the_last_published_one_are_dropped(
    events: list[Event], begin: int
) -> None:
    sequencer = new_sequencer(type(events[0]))
    sequencer.resume(-1, 4, Marks(4))
    passed = accept_all(sequencer, events[begin:])
    assert [event for event in passed if not isinstance(event, Gap)] == events[max(4, begin) :]
    assert sequencer.duplicates == max(0, 4 - begin)
    # One of the published events proves that none is missing; so do the ids of an order book.
    has_gap = begin > 4 or (begin == 4 and type(events[0]) is not BookDelta)
    assert any(isinstance(event, Gap) for event in passed) is has_gap


def test_a_gap_event_after_a_start_is_missing_only_if_the_ids_prove_that_nothing_is() -> None:
    for event, causes in ((quote(5), ["restart"]), (ticker(5), ["restart"]), (delta(5, 6), [])):
        sequencer = new_sequencer(type(event))
        sequencer.resume(-1, 4, Marks(4))
        passed = sequencer.accept(event)
        assert [gap.cause for gap in passed if isinstance(gap, Gap)] == causes
    sequencer = new_sequencer(BookDelta)
    sequencer.resume(-1, 4, Marks(4))
    gap = sequencer.accept(delta(8, 9))[0]
    assert isinstance(gap, Gap)
    assert (gap.cause, gap.first_id, gap.last_id) == ("restart", 5, 7)


def test_events_from_before_a_restart_of_the_ids_are_left_out_of_a_replay() -> None:
    """The previous process has published trades 0 to 5 since the restart."""
    sequencer = contiguous_sequencer()
    sequencer.resume(5, 6 * SECOND_US)
    sequencer.begin_replay()
    old = [trade(5_000_001 + number, seconds=0.5) for number in range(2)]
    new = [trade(number, seconds=number + 1) for number in range(8)]
    assert accept_all(sequencer, [*old, *new]) == new[6:]
    sequencer.end_replay()
    assert not sequencer.accept(trade(9, seconds=3))
    assert sequencer.held == 1


def test_one_low_id_long_after_the_last_published_event_proves_nothing() -> None:
    sequencer = new_sequencer(Quote)
    sequencer.resume(-1, SECOND_US, Marks(100))
    assert not sequencer.accept(quote(3, seconds=60))
    gap, passed = sequencer.accept(quote(101, seconds=61))
    assert isinstance(gap, Gap)
    assert passed == quote(101, seconds=61)


def test_a_published_time_far_ahead_drops_only_events_with_such_times_after_a_start() -> None:
    sequencer = new_sequencer(MiniTicker)
    sequencer.resume(-1, 100 * SECOND_US, Marks(4, ahead=100 * SECOND_US))
    assert not sequencer.accept(ticker(4))
    assert not sequencer.accept(ticker(100 * SECOND_US))
    assert sequencer.accept(ticker(5)) == (ticker(5),)
    assert sequencer.accept(ticker(101 * SECOND_US)) == (ticker(101 * SECOND_US),)


def test_after_a_start_the_events_of_the_last_time_that_were_not_published_pass() -> None:
    sequencer = new_sequencer(MiniTicker)
    sequencer.resume(-1, 5, Marks(5, mark_count=2))
    events = [ticker(5, price) for price in ("1", "2", "1", "3", "2", "3", "4")]
    assert accept_all(sequencer, events) == [ticker(5, "3"), ticker(5, "4")]


def test_quotes_of_a_slow_connection_after_a_long_silence_are_no_restart() -> None:
    sequencer = new_sequencer(Quote)
    sequencer.resume(-1, SECOND_US)
    late = [quote(number, seconds=101) for number in range(50, 90)]
    _, first = accept_all(sequencer, [quote(90, seconds=100), *late])
    assert first == quote(90, seconds=100)


def test_book_deltas_whose_ids_start_again_are_not_frozen_out() -> None:
    sequencer = new_sequencer(BookDelta)
    sequencer.accept(delta(10**6, 10**6 + 3))
    again = [delta(1, 3, 3 * SECOND_US), delta(4, 4, 4 * SECOND_US), delta(5, 9, 5 * SECOND_US)]
    gap, *passed = accept_all(sequencer, again)
    assert isinstance(gap, Gap)
    assert (gap.cause, gap.first_id) == ("ids_restarted", None)
    assert passed == again


def test_a_restart_of_the_ids_is_believed_in_the_same_way_over_two_connections() -> None:
    sequencer = contiguous_sequencer(1_000)
    again = [trade(number, seconds=10 + number) for number in (0, 0, 1, 0, 1, 2, 1, 3, 2, 3, 4)]
    assert ids(accept_all(sequencer, again)) == [0, 1, 2, 3, 4]


def test_what_came_after_a_restart_of_the_ids_and_before_this_process_is_fetched() -> None:
    """What came before the restart is lost, and events with the same ids from then stay out."""
    sequencer = contiguous_sequencer(1_000)
    sequencer.accept(trade(1_001, seconds=1_001))
    assert accept_all(sequencer, [trade(i, seconds=2_000 + i) for i in (7, 8, 9)]) == []
    assert sequencer.hole == (0, 6)
    before = [trade(number, seconds=number) for number in range(1, 6)]
    assert sequencer.fill(before) == []
    gap, *passed = sequencer.fill([*before, trade(5, seconds=2_005), trade(6, seconds=2_006)])
    assert isinstance(gap, Gap)
    assert (gap.cause, gap.to_time) == ("ids_restarted", 2_005 * SECOND_US)
    assert ids(passed) == [5, 6, 7, 8, 9]


def test_a_restart_of_the_ids_is_announced_before_what_cannot_be_fetched_after_it() -> None:
    sequencer = contiguous_sequencer(1_000)
    accept_all(sequencer, [trade(i, seconds=2_000 + i) for i in (7, 8, 9)])
    *gaps, _, _, _ = sequencer.give_up("repair_timeout")
    said = [(gap.cause, gap.first_id, gap.last_id) for gap in gaps if isinstance(gap, Gap)]
    assert said == [("ids_restarted", None, None), ("repair_timeout", 0, 6)]


def test_nothing_is_fetched_after_a_restart_of_the_ids_that_is_long_ago() -> None:
    """They may have started anywhere, and the bridge may have missed the beginning for months."""
    sequencer = contiguous_sequencer(10**6)
    first = contiguous.MAX_GAP_IDS + 1
    again = [trade(first + i, seconds=2 * 10**6 + i) for i in range(3)]
    gap, *passed = accept_all(sequencer, again)
    assert isinstance(gap, Gap)
    assert passed == again


def test_a_report_of_the_last_id_from_before_a_restart_of_the_ids_changes_nothing() -> None:
    """REST may be behind. Otherwise all ids up to the old one would be missing."""
    sequencer = contiguous_sequencer(1_000)
    again = [trade(number, seconds=2_000 + number) for number in range(3)]
    assert ids(accept_all(sequencer, again)) == [0, 1, 2]
    late = Head(*HEAD, 3_000 * SECOND_US, 7, 1_000, 1_000)
    old = Head(*HEAD, 1_999 * SECOND_US, 7, 990, 990)
    for outdated in (late, old):
        sequencer.reach(outdated)
        assert sequencer.hole is None
    sequencer.reach(Head(*HEAD, 3_000 * SECOND_US, 7, 5, 5))
    assert sequencer.hole == (3, 5)


def test_a_wrong_report_of_the_last_id_freezes_no_stream() -> None:
    sequencer = contiguous_sequencer(5)
    sequencer.reach(Head(*HEAD, 10 * SECOND_US, 7, 5_000, 5_000))
    (gap,) = sequencer.give_up("repair_timeout")
    late = [trade(6, seconds=8), trade(7, seconds=9), trade(8, seconds=10)]
    assert accept_all(sequencer, late) == []
    (closed,) = accept_all(sequencer, [trade(i, seconds=i + 3) for i in (9, 10, 11)])
    assert closed == msgspec.structs.replace(gap, state="lost")
    assert sequencer.hole == (6, 8)
    restarted, *passed = sequencer.fill(late)
    assert isinstance(restarted, Gap)
    assert restarted.cause == "ids_restarted"
    assert ids(passed) == [6, 7, 8, 9, 10, 11]


def test_events_from_before_a_restart_of_the_ids_are_dropped_after_it() -> None:
    """A stalled connection brings them."""
    sequencer = contiguous_sequencer(1_000)
    again = [trade(number, seconds=2_000 + number) for number in range(3)]
    assert ids(accept_all(sequencer, again)) == [0, 1, 2]
    assert accept_all(sequencer, [trade(1_001, seconds=1_001), trade(1_002, seconds=1_002)]) == []
    assert ids(sequencer.accept(trade(3, seconds=2_003))) == [3]


def test_an_interruption_before_a_restart_of_the_ids_is_certain_is_announced_in_its_place() -> None:
    sequencer = new_sequencer(Quote)
    sequencer.accept(quote(10**9, seconds=1))
    sequencer.interrupt("stalled")
    assert accept_all(sequencer, [quote(1, seconds=5)]) == []
    sequencer.interrupt("connection_lost")
    passed = accept_all(sequencer, [quote(5, seconds=8), quote(6, seconds=20)])
    causes = [event.cause if isinstance(event, Gap) else event.received for event in passed]
    seconds = SECOND_US
    assert causes == ["ids_restarted", 5 * seconds, "connection_lost", 8 * seconds, 20 * seconds]


def test_a_new_connection_overtakes_none_before_a_restart_of_the_ids_is_certain() -> None:
    sequencer = new_sequencer(Quote)
    sequencer.accept(quote(10**9, seconds=1))
    sequencer.interrupt("connection_lost")
    accept_all(sequencer, [quote(1, seconds=5)])
    handover = Handover({"quotes"})
    assert handover.take("quotes", sequencer, quote(7, seconds=6)) == ()
    accept_all(sequencer, [quote(4, seconds=6), quote(7, seconds=6)])
    assert len(handover.take("quotes", sequencer, quote(8, seconds=7))) == 2


def test_one_stray_id_from_long_ago_changes_nothing() -> None:
    sequencer = contiguous_sequencer(100)
    events = [
        *(trade(number, seconds=number) for number in (101, 102)),
        trade(1, seconds=110),
        *(trade(number, seconds=number) for number in (103, 104)),
        trade(2, seconds=120),
        *(trade(number, seconds=number) for number in (105, 106)),
        trade(3, seconds=130),
    ]
    assert accept_all(sequencer, events) == [
        trade(number, seconds=number) for number in range(101, 107)
    ]
    assert sequencer.duplicates == 3


def test_copies_of_fetched_trades_that_come_late_are_no_restart() -> None:
    """A connection stalls, its trades are fetched, and then it brings them all at once."""
    sequencer = contiguous_sequencer(100)
    events = [trade(number, seconds=number) for number in range(101, 131)]
    accept_all(sequencer, events[:5])
    sequencer.reach(head(125))
    assert sequencer.fill(events[5:25]) == events[5:25]
    assert accept_all(sequencer, events[5:]) == events[25:]


def test_one_trade_dated_early_does_not_let_the_copies_of_others_pass() -> None:
    sequencer = contiguous_sequencer(100)
    first = [trade(number, seconds=100) for number in range(101, 121)]
    early = trade(121, seconds=98)
    assert accept_all(sequencer, [*first, early]) == [*first, early]
    assert accept_all(sequencer, [*first, early]) == []
    assert ids(accept_all(sequencer, [trade(122, seconds=101)])) == [122]


HOUR_US = 3600 * SECOND_US


def test_a_trade_dated_far_ahead_passes_and_decides_nothing() -> None:
    sequencer = contiguous_sequencer(100)
    ahead = msgspec.structs.replace(trade(101, seconds=100), timestamp=HOUR_US)
    stray = msgspec.structs.replace(trade(1, seconds=100), timestamp=HOUR_US)
    assert accept_all(sequencer, [ahead, ahead, stray]) == [ahead]
    again = [trade(number, seconds=102 + number) for number in (0, 1, 2)]
    assert ids(accept_all(sequencer, again)) == [0, 1, 2]


def test_a_ticker_dated_far_ahead_passes_once_and_holds_none_back() -> None:
    sequencer = new_sequencer(MiniTicker)
    ahead = ticker(HOUR_US, received=7)
    events = [ticker(5), ahead, ticker(6), ticker(HOUR_US, received=9), ticker(7)]
    assert accept_all(sequencer, events) == [ticker(5), ahead, ticker(6), ticker(7)]


def test_with_a_slow_clock_every_ticker_passes_once() -> None:
    """All times are far ahead then, and both connections bring each event."""
    sequencer = new_sequencer(MiniTicker)
    events = [ticker(HOUR_US + number) for number in range(100)]
    passed = [
        passed
        for number, event in enumerate(events)
        for copy in (event, *events[max(0, number - 5) : number])
        for passed in sequencer.accept(copy)
    ]
    assert passed == events


def test_with_a_slow_clock_a_handover_waits_for_what_follows_the_last_published_ticker() -> None:
    """The next process begins with the frames of both connections."""
    sequencer = new_sequencer(MiniTicker)
    sequencer.resume(-1, HOUR_US, Marks(ahead=HOUR_US))
    assert not sequencer.accept(ticker(HOUR_US))
    handover = Handover({"tickers"})
    late = ticker(HOUR_US + 5)
    assert not handover.take("tickers", sequencer, late)
    assert [event for _, event in handover.finish("closed")] == [late]
    gap, passed = sequencer.accept(late)
    assert isinstance(gap, Gap)
    assert passed == late


def test_with_a_slow_clock_an_interruption_of_tickers_is_announced_and_a_handover_waits() -> None:
    sequencer = new_sequencer(MiniTicker)
    sequencer.accept(ticker(HOUR_US))
    handover = Handover({"tickers"})
    assert handover.take("tickers", sequencer, ticker(HOUR_US + 2)) == ()
    sequencer.accept(ticker(HOUR_US + 1))
    sequencer.interrupt("connection_lost")
    gap, _ = sequencer.accept(ticker(HOUR_US + 3))
    assert isinstance(gap, Gap)
    assert (gap.from_time, gap.to_time) == (HOUR_US + 1, HOUR_US + 3)


def test_a_gap_after_an_event_with_a_wrong_time_begins_no_later_than_the_event_before() -> None:
    sequencer = new_sequencer(MiniTicker)
    accept_all(sequencer, [ticker(5), ticker(6), ticker(HOUR_US)])
    sequencer.interrupt("connection_lost")
    gap, _ = sequencer.accept(ticker(9))
    assert isinstance(gap, Gap)
    assert (gap.from_time, gap.to_time) == (6, 9)


def test_trades_that_come_late_after_rest_has_brought_them_are_no_restart() -> None:
    """A connection that was stalled brings each one just after REST, while a newer one waits."""
    trades = [trade(number, seconds=2 * number) for number in range(100)]
    sequencer = contiguous_sequencer()
    accept_all(sequencer, [trades[1], trades[99]])
    for number in range(2, 90, 2):
        both = trades[number : number + 2]
        assert sequencer.fill(both) == both
        assert accept_all(sequencer, both) == []


def test_a_trade_that_comes_by_itself_into_an_open_gap_waits_for_its_closure() -> None:
    sequencer = contiguous_sequencer(5)
    sequencer.reach(head(8))
    (gap,) = sequencer.give_up("repair_timeout")
    assert isinstance(gap, Gap)
    late = [trade(number, seconds=8) for number in (6, 7, 8)]
    assert ids(accept_all(sequencer, [*late, late[0], trade(9, seconds=9)])) == [9]
    assert sequencer.take_late(gap) == {6: late[0], 7: late[1], 8: late[2]}
    assert sequencer.take_late(gap) == {}


@repeatable
@given(
    odd_id=st.integers(1, 40),
    odd_s=st.floats(-100, 100),
    at=st.integers(1, 59),
    lag=st.integers(0, 20),
)
def test_one_odd_event_lets_no_other_pass_twice_and_keeps_none_out(
    odd_id: int, odd_s: float, at: int, lag: int
) -> None:
    """Two connections bring the same trades, one of them later. One event has any id and time."""
    order = [number for number in range(1, 31 + lag) for number in (number, number - lag)]
    events = [trade(number, seconds=1000 + number / 10) for number in order if 1 <= number <= 30]
    odd = trade(odd_id, seconds=1000 + odd_s)
    received = events[min(at, len(events) - 1)].received
    events.insert(at, msgspec.structs.replace(odd, received=received))
    sequencer = contiguous_sequencer()
    passed = ids(accept_all(sequencer, events))
    assert passed == [*range(1, 31), *([31] if odd_id == 31 else [])]


def test_a_hole_in_a_chain_of_book_deltas_is_announced_with_its_ids() -> None:
    sequencer = new_sequencer(BookDelta)
    passed = accept_all(sequencer, [delta(1, 3), delta(4, 4), delta(4, 4), delta(8, 9)])
    assert passed[:2] == [delta(1, 3), delta(4, 4)]
    assert isinstance(passed[2], Gap)
    assert (passed[2].first_id, passed[2].last_id, passed[2].state) == (5, 7, "lost")
    assert passed[3] == delta(8, 9)


def test_an_interruption_that_broke_no_chain_lost_nothing() -> None:
    sequencer = new_sequencer(BookDelta)
    sequencer.accept(delta(1, 3))
    sequencer.interrupt("closed")
    assert sequencer.accept(delta(4, 6)) == (delta(4, 6),)


def test_of_events_with_one_time_only_equal_ones_are_repeats() -> None:
    sequencer = new_sequencer(MiniTicker)
    events = [ticker(5), ticker(5, received=9), ticker(5, "2.0"), ticker(4), ticker(6)]
    assert accept_all(sequencer, events) == [ticker(5), ticker(5, "2.0"), ticker(6)]


@repeatable
@given(st.data())
def test_two_connectors_that_lose_different_trades_make_one_whole_stream(
    data: st.DataObject,
) -> None:
    """Each connector is in order and loses any trades, but no trade is lost by both."""
    count = data.draw(st.integers(1, 30))
    lost = data.draw(st.lists(st.sampled_from(["a", "b", ""]), min_size=count, max_size=count))
    connectors = {
        connector: [i for i in range(count) if lost[i] != connector] for connector in "ab"
    }
    sequencer = contiguous_sequencer(-1)
    passed: list[Event] = []
    while any(connectors.values()):
        connector = data.draw(
            st.sampled_from([connector for connector in "ab" if connectors[connector]])
        )
        passed += sequencer.accept(trade(connectors[connector].pop(0)))
    assert ids(passed) == list(range(count))


def test_ids_that_the_exchange_reports_are_a_hole_until_they_come() -> None:
    sequencer = contiguous_sequencer(5)
    sequencer.reach(head(8))
    assert sequencer.hole == (6, 8)
    assert ids(accept_all(sequencer, map(trade, [6, 7]))) == [6, 7]
    assert sequencer.hole == (8, 8)
    assert ids(sequencer.fill([trade(8)])) == [8]
    assert ids(accept_all(sequencer, [trade(8), trade(9)])) == [9]
    assert not sequencer.hole


def test_the_newest_id_is_the_greatest_that_has_come_or_was_reported() -> None:
    sequencer = contiguous_sequencer()
    known = [sequencer.newest_id]
    for last_id in (-1, 4000):
        sequencer.reach(head(last_id))
        known.append(sequencer.newest_id)
    sequencer.accept(trade(5000))
    assert [*known, sequencer.newest_id] == [None, None, 4000, 5000]


def test_reported_ids_hold_back_no_trade_that_follows_directly() -> None:
    sequencer = contiguous_sequencer(5)
    sequencer.reach(head(8))
    assert sequencer.follows(6, 6, 6)
    assert sequencer.held == 0


def test_reported_ids_that_are_given_up_are_announced_and_the_stream_goes_on() -> None:
    sequencer = contiguous_sequencer(5)
    sequencer.reach(head(8))
    (gap,) = sequencer.give_up("repair_timeout")
    assert isinstance(gap, Gap)
    assert (gap.symbol, gap.first_id, gap.last_id, gap.state) == ("BTCUSDT", 6, 8, "open")
    assert (gap.from_time, gap.to_time) == (5, 8 * SECOND_US)
    assert ids(accept_all(sequencer, [trade(9)])) == [9]


@pytest.mark.parametrize("last_id", [3, 5])
def test_a_last_id_that_has_passed_already_changes_nothing(last_id: int) -> None:
    sequencer = contiguous_sequencer(5)
    sequencer.reach(head(last_id))
    assert sequencer.hole is None
    assert ids(accept_all(sequencer, [trade(6)])) == [6]


def test_a_stream_that_is_not_known_continues_after_the_last_id() -> None:
    sequencer = contiguous_sequencer()
    sequencer.reach(head(8))
    assert sequencer.hole is None
    assert accept_all(sequencer, [trade(8)]) == []
    assert ids(accept_all(sequencer, [trade(9)])) == [9]


@pytest.mark.parametrize("first", [0, 1, 700_000])
def test_the_first_trade_of_a_symbol_is_known_by_what_the_history_begins_with(first: int) -> None:
    sequencer = contiguous_sequencer()
    sequencer.reach(head(-1))
    passed = accept_all(sequencer, [trade(first + 2)])
    assert sequencer.hole == (0, first + 1)
    passed += sequencer.fill(map(trade, [first, first + 1, first + 2]))
    assert ids(passed) == [first, first + 1, first + 2]
    assert sequencer.has_begun


def test_a_first_trade_that_has_nothing_before_it_passes_after_one_answer() -> None:
    sequencer = contiguous_sequencer()
    sequencer.reach(head(-1))
    assert accept_all(sequencer, [trade(500)]) == []
    assert ids(sequencer.fill([trade(500)])) == [500]


def test_ids_before_a_first_trade_are_not_named_if_there_are_too_many() -> None:
    """They may never have existed: not every exchange counts from 0."""
    sequencer = contiguous_sequencer()
    sequencer.reach(head(-1))
    sequencer.accept(trade(700_000))
    gap, first = sequencer.give_up("repair_timeout")
    assert isinstance(gap, Gap)
    assert (gap.first_id, gap.last_id, gap.state) == (None, None, "lost")
    assert ids([first]) == [700_000]
    assert sequencer.open_gaps == ()


class ContiguousAgainstHistory(RuleBasedStateMachine):
    """A stream of ids with losses and duplicates, and a REST that returns all or some of the ids.

    The passed events are complete and in order, except for the announced gaps.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sequencer = contiguous_sequencer(0)
        self.sent = 0
        self.passed: list[Event] = []

    @rule(skipped=st.integers(0, 3))
    def arrive(self, skipped: int) -> None:
        self.sent += skipped + 1
        self.passed += self.sequencer.accept(trade(self.sent))

    @rule(back=st.integers(0, 10))
    def arrive_late(self, back: int) -> None:
        self.passed += self.sequencer.accept(trade(max(1, self.sent - back)))

    @rule(missed=st.integers(0, 3), behind=st.integers(0, 3))
    def learn_the_last_id(self, missed: int, behind: int) -> None:
        """Trades happen and do not arrive; the exchange reports a last id, perhaps an old one."""
        self.sent += missed
        self.sequencer.reach(head(max(0, self.sent - behind)))

    @precondition(lambda self: self.sequencer.hole)
    @rule(share=st.integers(0, 5), more=st.integers(0, 3))
    def fetch(self, share: int, more: int) -> None:
        """Fetch an answer that ends inside the hole, or that continues after it as REST does."""
        assert self.sequencer.hole
        first, last = self.sequencer.hole
        end = min(last + more, self.sent) if more else min(first + share, last)
        self.passed += self.sequencer.fill(map(trade, range(first, end + 1)))

    @precondition(lambda self: self.sequencer.hole)
    @rule()
    def time_out(self) -> None:
        self.passed += self.sequencer.give_up("repair_timeout")

    @precondition(lambda self: self.sequencer.open_gaps)
    @rule(found=st.sets(st.integers(0, 5)))
    def close_a_gap(self, found: set[int]) -> None:
        gap = self.sequencer.open_gaps[0]
        assert gap.first_id is not None
        assert gap.last_id is not None
        brought = sorted(
            i for i in range(gap.first_id, gap.last_id + 1) if i - gap.first_id in found
        )
        self.passed += [*map(trade, brought), *self.sequencer.close_gap(gap, brought)]

    @rule()
    def start_again(self) -> None:
        """Continue as another process after the last passed event; the held events are lost."""
        assert self.sequencer.expected is not None
        self.sequencer = contiguous_sequencer(self.sequencer.expected - 1)

    @invariant()
    def nothing_is_passed_twice(self) -> None:
        assert len(set(ids(self.passed))) == len(ids(self.passed))

    @invariant()
    def what_is_not_announced_is_whole_and_in_order(self) -> None:
        announced = {
            identity
            for gap in self.passed
            if isinstance(gap, Gap) and gap.first_id and gap.last_id
            for identity in range(gap.first_id, gap.last_id + 1)
        }
        in_order = [identity for identity in ids(self.passed) if identity not in announced]
        assert self.sequencer.expected is not None
        assert in_order == [i for i in range(1, self.sequencer.expected) if i not in announced]

    @invariant()
    def a_hole_is_announced_before_the_trade_behind_it(self) -> None:
        expected = 1
        for event in self.passed:
            if isinstance(event, Gap) and event.state == "open":
                assert event.first_id == expected
                assert event.last_id is not None
                expected = event.last_id + 1
            elif isinstance(event, Trade) and event.trade_id >= expected:
                assert event.trade_id == expected
                expected += 1

    @invariant()
    def closed_gaps_say_what_has_come(self) -> None:
        seen = set(ids(self.passed))
        for gap in self.passed:
            if isinstance(gap, Gap) and gap.state != "open":
                assert gap.first_id is not None
                assert gap.last_id is not None
                inside = set(range(gap.first_id, gap.last_id + 1))
                assert inside <= seen if gap.state == "filled" else not inside & seen


TestContiguousAgainstHistory = ContiguousAgainstHistory.TestCase
TestContiguousAgainstHistory.settings = repeatable


class MonotonicAgainstAList(RuleBasedStateMachine):
    """Quotes with duplicates, late events, interruptions and restarts.

    The model is the list of passed ids, and the cause of a gap event that is due.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sequencer = new_sequencer(Quote)
        self.sent = 0
        self.passed: list[int] = []
        self.cause = ""
        self.is_fresh = False

    @rule(step=st.integers(1, 5))
    def arrive(self, step: int) -> None:
        self.sent += step
        *gaps, passed = self.sequencer.accept(quote(self.sent))
        assert passed == quote(self.sent)
        assert [(gap.cause, gap.from_time) for gap in gaps if isinstance(gap, Gap)] == (
            [(self.cause, self.passed[-1])] if self.cause else []
        )
        self.passed.append(self.sent)
        self.cause, self.is_fresh = "", False

    @precondition(lambda self: self.passed)
    @rule(back=st.integers(0, 10))
    def arrive_late(self, back: int) -> None:
        """Let a late quote arrive; the sequencer drops it, because it has passed a higher id."""
        if self.sequencer.last_mark is not None:
            assert not self.sequencer.accept(quote(max(0, self.sent - back)))
            if self.is_fresh:
                self.cause = ""  # it has received the stream since then

    @rule()
    def interrupt(self) -> None:
        self.sequencer.interrupt("closed")
        if self.passed:
            self.cause = self.cause or "closed"

    @precondition(lambda self: self.passed)
    @rule()
    def start_again(self) -> None:
        self.sequencer = new_sequencer(Quote)
        self.sequencer.resume(-1, self.passed[-1], Marks(self.passed[-1]))
        self.cause, self.is_fresh = "restart", True


TestMonotonicAgainstAList = MonotonicAgainstAList.TestCase
TestMonotonicAgainstAList.settings = repeatable
