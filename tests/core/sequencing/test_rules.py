"""Every stream once and in order: the tracks against what the exchange really sent."""

from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bridge.core.model.events import BookDelta, Event, Gap, MiniTicker, Quote, Trade
from bridge.core.sequencing import contiguous
from bridge.core.sequencing.contiguous import Contiguous
from bridge.core.sequencing.rules import Track
from bridge.core.sequencing.sequencers import new_track
from tests.support.events import repeatable

SECOND_US = 1_000_000
HEAD = ("binance.spot", "BTCUSDT")


def trade(trade_id: int, *, seconds: float = 0, source: str = "websocket") -> Trade:
    time = int(seconds * SECOND_US) or trade_id
    return Trade(*HEAD, time, time, source, trade_id, "1.0", "2.0", "buy")  # type: ignore[arg-type]


def quote(update_id: int) -> Quote:
    return Quote(*HEAD, None, update_id, "websocket", update_id, "1.0", "2.0", "3.0", "4.0")


def delta(first: int, last: int) -> BookDelta:
    return BookDelta(*HEAD, last, last, "websocket", first, last, [], [])


def ticker(time: int, price: str = "1.0", received: int = 7) -> MiniTicker:
    return MiniTicker(*HEAD, time, received, "websocket", price, "1.0", "1.0", "1.0", "1.0", "1.0")


def contiguous_track(last: int | None = None) -> Contiguous:
    track = new_track(Trade)
    assert isinstance(track, Contiguous)
    if last is not None:
        track.resume(last, last)
    return track


def accept_all(track: Track, events: Iterable[Event]) -> list[Event]:
    return [passed for event in events for passed in track.accept(event)]


def ids(events: Sequence[Event]) -> list[int]:
    return [event.trade_id for event in events if isinstance(event, Trade)]


def test_trades_that_follow_each_other_pass_at_once() -> None:
    assert ids(accept_all(contiguous_track(), map(trade, range(5, 9)))) == [5, 6, 7, 8]


def test_a_repeated_trade_is_dropped_and_counted() -> None:
    track = contiguous_track()
    assert ids(accept_all(track, map(trade, [5, 6, 6, 5, 7]))) == [5, 6, 7]
    assert track.repeats == 2


def test_a_hole_holds_what_comes_behind_it_until_it_is_filled() -> None:
    track = contiguous_track(5)
    assert accept_all(track, map(trade, [8, 9, 11])) == []
    assert track.hole == (6, 7)
    assert ids(track.fill([trade(6, source="rest")])) == [6]
    assert track.hole == (7, 7)
    assert ids(track.fill([trade(7, source="rest"), trade(8, source="rest")])) == [7, 8, 9]
    assert track.hole == (10, 10)
    assert ids(accept_all(track, map(trade, [10, 12]))) == [10, 11, 12]
    assert track.hole is None


def test_the_other_leg_can_fill_a_hole_too() -> None:
    track = contiguous_track(5)
    assert ids(accept_all(track, map(trade, [8, 7, 6]))) == [6, 7, 8]


def test_what_is_given_up_is_announced_before_the_next_trade() -> None:
    track = contiguous_track(5)
    accept_all(track, map(trade, [8, 9, 12]))
    gap, *passed = track.give_up("repair_patience")
    assert isinstance(gap, Gap)
    assert (gap.kind, gap.first_id, gap.last_id, gap.state) == ("trade", 6, 7, "open")
    assert (gap.from_time, gap.to_time, gap.cause) == (5, 8, "repair_patience")
    assert ids(passed) == [8, 9]
    assert track.hole == (10, 11)


def test_an_open_gap_is_closed_part_by_part() -> None:
    track = contiguous_track(5)
    accept_all(track, [trade(12)])
    gap = track.give_up("too_large")[0]
    assert isinstance(gap, Gap)
    states = [(g.first_id, g.last_id, g.state) for g in track.close_gap(gap, [7, 8, 10])]
    assert states == [
        (6, 6, "lost"),
        (7, 8, "filled"),
        (9, 9, "lost"),
        (10, 10, "filled"),
        (11, 11, "lost"),
    ]
    assert track.open_gaps == ()


def test_ids_that_start_again_are_announced_and_not_frozen_out() -> None:
    track = contiguous_track(1_000_000)
    accept_all(track, [trade(1_000_001, seconds=5), trade(1_000_003, seconds=5)])
    passed = accept_all(track, [trade(1, seconds=10), trade(2, seconds=10)])
    assert ids(passed) == [1_000_003, 1, 2]
    gaps = [(g.cause, g.state, g.first_id) for g in passed if isinstance(g, Gap)]
    assert gaps == [
        ("restarted", "open", 1_000_002),
        ("restarted", "lost", 1_000_002),
        ("restarted", "lost", None),
    ]


def test_what_is_held_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contiguous, "MAX_HELD_EVENTS", 10)
    track = contiguous_track(5)
    passed = accept_all(track, map(trade, range(7, 18)))
    assert ids(passed) == list(range(7, 18))
    assert isinstance(passed[0], Gap)
    assert passed[0].cause == "held_full"


def test_quotes_rise_and_a_loss_is_announced_only_where_an_interruption_is_known() -> None:
    track = new_track(Quote)
    assert accept_all(track, map(quote, [5, 9, 7, 9])) == [quote(5), quote(9)]
    assert track.repeats == 2
    track.interrupt("closed")
    gap, passed = track.accept(quote(20))
    assert isinstance(gap, Gap)
    assert (gap.kind, gap.first_id, gap.from_time, gap.to_time) == ("quote", None, 9, 20)
    assert (gap.cause, gap.state) == ("closed", "lost")
    assert passed == quote(20)
    assert track.accept(quote(21)) == (quote(21),)


def test_quotes_whose_ids_start_again_are_not_frozen_out() -> None:
    track = new_track(Quote)
    track.accept(quote(10**9))
    passed = accept_all(track, map(quote, range(1, 1002)))
    assert [type(event) for event in passed] == [Gap, Quote, Quote]


def test_a_hole_in_a_chain_of_book_deltas_is_announced_with_its_ids() -> None:
    track = new_track(BookDelta)
    passed = accept_all(track, [delta(1, 3), delta(4, 4), delta(4, 4), delta(8, 9)])
    assert passed[:2] == [delta(1, 3), delta(4, 4)]
    assert isinstance(passed[2], Gap)
    assert (passed[2].first_id, passed[2].last_id, passed[2].state) == (5, 7, "lost")
    assert passed[3] == delta(8, 9)


def test_an_interruption_that_broke_no_chain_lost_nothing() -> None:
    track = new_track(BookDelta)
    track.accept(delta(1, 3))
    track.interrupt("closed")
    assert track.accept(delta(4, 6)) == (delta(4, 6),)


def test_of_events_with_one_time_only_equal_ones_are_repeats() -> None:
    track = new_track(MiniTicker)
    events = [ticker(5), ticker(5, received=9), ticker(5, "2.0"), ticker(4), ticker(6)]
    assert accept_all(track, events) == [ticker(5), ticker(5, "2.0"), ticker(6)]


@repeatable
@given(st.data())
def test_two_legs_that_lose_different_trades_make_one_whole_stream(data: st.DataObject) -> None:
    """Each leg is in order and loses what it likes, but no trade is lost by both."""
    count = data.draw(st.integers(1, 30))
    lost = data.draw(st.lists(st.sampled_from(["a", "b", ""]), min_size=count, max_size=count))
    legs = {leg: [i for i in range(count) if lost[i] != leg] for leg in "ab"}
    track = contiguous_track(-1)
    passed: list[Event] = []
    while any(legs.values()):
        leg = data.draw(st.sampled_from([leg for leg in "ab" if legs[leg]]))
        passed += track.accept(trade(legs[leg].pop(0)))
    assert ids(passed) == list(range(count))


class ContiguousAgainstHistory(RuleBasedStateMachine):
    """A stream of ids with losses and repeats, REST that brings what it is asked for or a part of
    it: what has been passed on is whole and in order but for what gaps have announced."""

    def __init__(self) -> None:
        super().__init__()
        self.track = contiguous_track(0)
        self.sent = 0
        self.passed: list[Event] = []

    @rule(skipped=st.integers(0, 3))
    def arrive(self, skipped: int) -> None:
        self.sent += skipped + 1
        self.passed += self.track.accept(trade(self.sent))

    @rule(back=st.integers(0, 10))
    def arrive_late(self, back: int) -> None:
        self.passed += self.track.accept(trade(max(1, self.sent - back)))

    @precondition(lambda self: self.track.hole)
    @rule(share=st.integers(0, 5), more=st.integers(0, 3))
    def fetch(self, share: int, more: int) -> None:
        """An answer that stops short, or goes on behind the hole as REST does."""
        assert self.track.hole
        first, last = self.track.hole
        end = min(last + more, self.sent) if more else min(first + share, last)
        self.passed += self.track.fill(map(trade, range(first, end + 1)))

    @precondition(lambda self: self.track.hole)
    @rule()
    def lose_patience(self) -> None:
        self.passed += self.track.give_up("repair_patience")

    @precondition(lambda self: self.track.open_gaps)
    @rule(found=st.sets(st.integers(0, 5)))
    def close_a_gap(self, found: set[int]) -> None:
        gap = self.track.open_gaps[0]
        assert gap.first_id is not None
        assert gap.last_id is not None
        brought = sorted(
            i for i in range(gap.first_id, gap.last_id + 1) if i - gap.first_id in found
        )
        self.passed += [*map(trade, brought), *self.track.close_gap(gap, brought)]

    @rule()
    def start_again(self) -> None:
        """Another process goes on behind what this one has passed on; what it held is forgotten."""
        assert self.track.expected is not None
        self.track = contiguous_track(self.track.expected - 1)

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
        assert self.track.expected is not None
        assert in_order == [i for i in range(1, self.track.expected) if i not in announced]

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


class RisingAgainstAList(RuleBasedStateMachine):
    """Quotes with repeats, late ones, interruptions and restarts: the model is what has been passed
    on, and whether a gap event is due.
    """

    def __init__(self) -> None:
        super().__init__()
        self.track = new_track(Quote)
        self.sent = 0
        self.passed: list[int] = []
        self.cause = ""

    @rule(step=st.integers(1, 5))
    def arrive(self, step: int) -> None:
        self.sent += step
        *gaps, passed = self.track.accept(quote(self.sent))
        assert passed == quote(self.sent)
        assert [(gap.cause, gap.from_time) for gap in gaps if isinstance(gap, Gap)] == (
            [(self.cause, self.passed[-1])] if self.cause else []
        )
        self.passed.append(self.sent)
        self.cause = ""

    @precondition(lambda self: self.passed)
    @rule(back=st.integers(0, 10))
    def arrive_late(self, back: int) -> None:
        """Dropped by the track that has passed on something above it."""
        if self.track.last_mark is not None:
            assert not self.track.accept(quote(max(0, self.sent - back)))

    @rule()
    def interrupt(self) -> None:
        self.track.interrupt("closed")
        self.cause = "closed" if self.track.last_mark is not None else self.cause

    @precondition(lambda self: self.passed)
    @rule()
    def start_again(self) -> None:
        self.track = new_track(Quote)
        self.track.resume(-1, self.passed[-1])
        self.cause = "restart"


TestRisingAgainstAList = RisingAgainstAList.TestCase
TestRisingAgainstAList.settings = repeatable
