"""Candles and block trades: after an interruption, what REST has comes in its place."""

from collections.abc import Sequence
from itertools import count, pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bridge.core.model.events import BlockTrade, Candle, Event, Gap, Source
from bridge.core.records.record import encode
from bridge.core.records.recorded import position_of
from bridge.core.sequencing import backfilled
from bridge.core.sequencing.backfilled import Backfilled
from bridge.core.sequencing.handover import Handover
from bridge.core.sequencing.sequencers import new_sequencer
from tests.support.events import repeatable

HEAD = ("binance.spot", "BTCUSDT")
MINUTE_US = 60_000_000


def candle(
    minute: int, second: float = 60.02, source: Source = "websocket", unit_us: int = 1000
) -> Candle:
    """Return an event of a candle that comes so many seconds after the candle has begun."""
    begin = minute * MINUTE_US
    at = begin + int(second * 1e6)
    times = (begin, begin + MINUTE_US - unit_us)
    prices = ("1.0",) * 4
    return Candle(
        *(*HEAD, at, at, source, "1m", *times, *prices, "1.0", "1.0", 1, "1.0", "1.0"),
        closed=second > 60,
    )


def block_trade(trade_id: int, source: Source = "websocket") -> BlockTrade:
    time = trade_id * MINUTE_US
    return BlockTrade(*HEAD, time, time, source, trade_id, "1.0", "2.0", "buy")


# Block trades after a restart of the ids.
LOW = [
    BlockTrade(*HEAD, time, time, "websocket", trade_id, "1.0", "2.0", "buy")
    for trade_id, time in ((i, (200 + i) * MINUTE_US) for i in range(1, 6))
]


def sequencer_of(event_type: type[Event]) -> Backfilled:
    sequencer = new_sequencer(event_type)
    assert isinstance(sequencer, Backfilled)
    return sequencer


def places(events: Sequence[Event]) -> list[object]:
    """Return the id of each block trade, the minute of each closed candle, and the state of each
    gap event.
    """
    found: list[object] = []
    for event in events:
        if isinstance(event, Gap):
            found.append(event.state)
        elif isinstance(event, BlockTrade):
            found.append(event.trade_id)
        elif isinstance(event, Candle) and event.closed:
            found.append(event.open_time // MINUTE_US)
    return found


def test_candles_that_closed_meanwhile_come_in_their_place() -> None:
    sequencer = sequencer_of(Candle)
    sequencer.accept(candle(1))
    sequencer.accept(candle(2, 30))
    sequencer.interrupt("connection_lost")
    assert sequencer.accept(candle(5, 10)) == ()
    assert sequencer.accept(candle(5, 12)) == ()
    assert sequencer.held == 2
    assert sequencer.hole == (2 * MINUTE_US, 5 * MINUTE_US - 1)
    passed = sequencer.fill([candle(minute, source="rest") for minute in range(1, 6)])
    assert places(passed) == ["filled", 2, 3, 4]
    assert passed[-2:] == [candle(5, 10), candle(5, 12)]
    gap = passed[0]
    assert isinstance(gap, Gap)
    assert gap.cause == "connection_lost"
    assert gap.from_time == candle(2, 30).timestamp
    assert gap.to_time == candle(5, 10).timestamp
    assert sequencer.held == 0


@pytest.mark.parametrize("unit_us", [1, 1000])
def test_nothing_is_fetched_if_no_candle_has_closed_meanwhile(unit_us: int) -> None:
    for before, after in [((1, 60.02), (2, 10)), ((2, 10), (2, 30)), ((2, 10), (2, 60.02))]:
        sequencer = sequencer_of(Candle)
        sequencer.accept(candle(*before, unit_us=unit_us))
        sequencer.interrupt("connection_lost")
        passed = sequencer.accept(candle(*after, unit_us=unit_us))
        assert [type(event) for event in passed] == [Gap, Candle]
        assert places(passed)[0] == "filled"


def test_what_is_given_up_is_announced_as_lost() -> None:
    sequencer = sequencer_of(BlockTrade)
    sequencer.accept(block_trade(3))
    sequencer.interrupt("connection_lost")
    assert sequencer.accept(block_trade(9)) == ()
    assert places(sequencer.give_up("repair_timeout")) == ["lost", 9]
    assert places(sequencer.accept(block_trade(10))) == [10]


def test_a_second_interruption_meanwhile_is_a_hole_of_its_own() -> None:
    sequencer = sequencer_of(BlockTrade)
    sequencer.accept(block_trade(3))
    sequencer.interrupt("connection_lost")
    sequencer.accept(block_trade(6))
    sequencer.interrupt("stalled")
    sequencer.accept(block_trade(9))
    sequencer.interrupt("connection_lost")
    assert sequencer.hole == (4, 5)
    assert places(sequencer.fill([block_trade(5, "rest")])) == ["filled", 5, 6]
    assert sequencer.hole == (7, 8)
    assert places(sequencer.give_up("repair_timeout")) == ["lost", 9]
    assert places(sequencer.accept(block_trade(10))) == ["filled", 10]


def test_events_that_wait_are_not_overtaken() -> None:
    sequencer = sequencer_of(BlockTrade)
    sequencer.accept(block_trade(3))
    sequencer.interrupt("connection_lost")
    sequencer.accept(block_trade(6))
    assert not sequencer.follows(7, 7 * MINUTE_US, 7 * MINUTE_US)
    sequencer.interrupt("connection_lost")
    sequencer.accept(block_trade(9))
    sequencer.fill([])
    assert sequencer.held == 1
    assert not sequencer.follows(10, 10 * MINUTE_US, 10 * MINUTE_US)


def test_a_stream_that_continues_after_a_record_knows_what_is_missing() -> None:
    for last, first in ((candle(2, 30), candle(5, 10)), (block_trade(3), block_trade(6))):
        position = position_of(str(last.__struct_config__.tag), encode(last), 0, 0)
        assert position
        sequencer = sequencer_of(type(first))
        sequencer.resume(position.last_id, position.time)
        assert sequencer.accept(first) == ()
        assert sequencer.hole == (sequencer.end_of(last) + 1, sequencer.begin_of(first))


def test_without_a_place_nothing_can_be_fetched_after_a_restart() -> None:
    for first in (candle(5, 10), block_trade(6)):
        sequencer = sequencer_of(type(first))
        sequencer.resume(-1, 1)
        assert [type(event) for event in sequencer.accept(first)] == [Gap, type(first)]


def test_a_candle_closes_once_whatever_the_times_of_its_events_are() -> None:
    """With a slow clock of ours all times are far ahead, and keep no order."""
    sequencer = sequencer_of(Candle)
    slow = [msgspec.structs.replace(each, received=0) for each in (candle(1), candle(2), candle(3))]
    sequencer.accept(slow[0])
    sequencer.interrupt("connection_lost")
    assert sequencer.accept(msgspec.structs.replace(candle(4, 10), received=0)) == ()
    assert sequencer.accept(slow[1]) == ()
    passed = sequencer.fill([candle(minute, source="rest") for minute in (2, 3)])
    assert places(passed) == ["filled", 2, 3]
    assert sequencer.accept(slow[2]) == ()
    assert sequencer.duplicates == 2


def test_a_new_connection_does_not_overtake_another_one_while_events_wait() -> None:
    sequencer = sequencer_of(BlockTrade)
    handover = Handover({"trades"})
    sequencer.accept(block_trade(3))
    sequencer.interrupt("connection_lost")
    sequencer.accept(block_trade(6))
    assert handover.take("trades", sequencer, block_trade(9)) == ()
    for event in (block_trade(7), block_trade(9)):
        sequencer.accept(event)
    assert handover.take("trades", sequencer, block_trade(10)) == [block_trade(9), block_trade(10)]


def test_more_events_than_fit_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfilled, "MAX_HELD_EVENTS", 2)
    sequencer = sequencer_of(BlockTrade)
    sequencer.accept(block_trade(3))
    sequencer.interrupt("connection_lost")
    assert sequencer.accept(block_trade(6)) == ()
    assert sequencer.accept(block_trade(7)) == ()
    assert places(sequencer.accept(block_trade(8))) == ["lost", 6, 7, 8]


def test_ids_that_restart_while_events_wait_are_not_mixed() -> None:
    sequencer = sequencer_of(BlockTrade)
    sequencer.accept(block_trade(103))
    sequencer.interrupt("connection_lost")
    for event in (block_trade(106), *LOW):
        assert sequencer.accept(event) == ()
    passed = sequencer.fill([block_trade(105, "rest")])
    assert places(passed) == ["filled", 105, 106, "lost", 1, 2, 3, 4, 5]


def test_an_interruption_while_low_ids_wait_is_announced_in_its_place() -> None:
    sequencer = sequencer_of(BlockTrade)
    sequencer.accept(block_trade(103))
    sequencer.interrupt("connection_lost")
    for event in (block_trade(106), *LOW[:2]):
        assert sequencer.accept(event) == ()
    sequencer.interrupt("stalled")
    for event in LOW[3:]:
        assert sequencer.accept(event) == ()
    passed = sequencer.fill([block_trade(105, "rest")])
    assert places(passed) == ["filled", 105, 106, "lost", 1, 2, "lost", 4, 5]
    assert [gap.cause for gap in passed if isinstance(gap, Gap)][1:] == ["ids_restarted", "stalled"]


@repeatable
@given(st.integers(1, 10), st.integers(1, 10), st.sampled_from((1, 1000)))
def test_each_closed_candle_counts_once_whatever_its_unit(
    minute: int, further: int, unit_us: int
) -> None:
    sequencer = sequencer_of(Candle)
    last, first = candle(minute, unit_us=unit_us), candle(minute + further, 1, unit_us=unit_us)
    begin, end = sequencer.end_of(last), sequencer.begin_of(first)
    between = [candle(minute + step, unit_us=unit_us) for step in range(-1, further + 2)]
    inside = [each for each in between if begin < sequencer.end_of(each) <= end]
    assert places(inside) == list(range(minute + 1, minute + further))


class Market(RuleBasedStateMachine):
    """A stream that is cut and repaired in any order, by processes that are killed."""

    event_type: type[Event]

    def __init__(self) -> None:
        super().__init__()
        self.sequencer = sequencer_of(self.event_type)
        self.happened: list[Event] = []
        self.published: list[Event] = []
        self.is_connected = True
        self.steps = count(1)

    def happens(self, step: int) -> list[Event]:
        """Return the events of one step of the market."""
        raise NotImplementedError

    def arrive(self, event: Event) -> None:
        """Take an event as the pipeline does."""
        first = self.sequencer.first_of(event)
        if self.sequencer.follows(first, event.timestamp or 0, event.received):
            self.published.append(event)
        else:
            self.published += self.sequencer.accept(event)

    @rule(skipped=st.integers(0, 2))
    def happen(self, skipped: int) -> None:
        for _ in range(skipped):
            next(self.steps)
        for event in self.happens(next(self.steps)):
            self.happened.append(event)
            if self.is_connected:
                self.arrive(event)

    @precondition(lambda self: self.is_connected and self.sequencer.last_mark is not None)
    @rule()
    def repeat(self) -> None:
        """Bring the last event again, as a second connection does. After a restart none does."""
        self.arrive(self.happened[-1])

    @precondition(lambda self: self.is_connected)
    @rule()
    def cut(self) -> None:
        self.is_connected = False
        self.sequencer.interrupt("connection_lost")

    @precondition(lambda self: not self.is_connected)
    @rule()
    def connect(self) -> None:
        self.is_connected = True

    @precondition(lambda self: self.sequencer.held)
    @rule()
    def fill(self) -> None:
        self.published += self.sequencer.fill([e for e in self.happened if places([e])])

    @precondition(lambda self: self.sequencer.held)
    @rule()
    def give_up(self) -> None:
        self.published += self.sequencer.give_up("repair_timeout")

    @rule()
    def kill(self) -> None:
        """Start another process; what waited in this one is gone."""
        self.sequencer = sequencer_of(self.event_type)
        if events := self.events():
            message_type = str(self.event_type.__struct_config__.tag)
            position = position_of(message_type, encode(events[-1]), 0, 0)
            assert position
            self.sequencer.resume(position.last_id, position.time)

    def events(self) -> list[Event]:
        return [event for event in self.published if not isinstance(event, Gap)]

    @invariant()
    def each_is_there_once_and_in_order_or_announced_as_lost(self) -> None:
        events = self.events()
        there = places(events)
        assert all(a < b for a, b in pairwise(there))  # type: ignore[operator]
        times = [event.timestamp or 0 for event in events]
        lost = [e for e in self.published if isinstance(e, Gap) and e.state == "lost"]
        for event in self.happened:
            time = event.timestamp or 0
            if places([event]) and events and times[0] <= time <= times[-1]:
                is_announced = any(
                    (gap.from_time or 0) <= time <= (gap.to_time or 0) for gap in lost
                )
                assert places([event])[0] in there or is_announced


class CandleMarket(Market):
    event_type = Candle

    def happens(self, step: int) -> list[Event]:
        return [candle(step, 20), candle(step, 40), candle(step)]


class BlockTradeMarket(Market):
    event_type = BlockTrade

    def happens(self, step: int) -> list[Event]:
        return [block_trade(step)]


TestCandles = CandleMarket.TestCase
TestCandles.settings = repeatable
TestBlockTrades = BlockTradeMarket.TestCase
TestBlockTrades.settings = repeatable
