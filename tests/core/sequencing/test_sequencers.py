"""Streams that are added and removed while the others continue."""

from collections.abc import Callable, Collection

import pytest

from bridge.core.binance.stream_names import stream_of
from bridge.core.model.events import Event, Gap
from bridge.core.model.stream import Stream
from bridge.core.sequencing.position import Position, StreamKey
from bridge.core.sequencing.rules import OVERLAP_US
from bridge.core.sequencing.sequencers import Continuity, Sequencers
from tests.core.sequencing.test_rules import HEAD, delta, quote, ticker, trade

SYMBOL = HEAD[1]
TRADES, QUOTES, OTHERS = (
    stream_of(SYMBOL, "trade"),
    stream_of(SYMBOL, "bookTicker"),
    stream_of("ETHUSDT", "trade"),
)


def passed(sequencers: Sequencers, stream: Stream, *events: Event) -> list[Event]:
    return [e for event in events for e in sequencers.sequencer(stream, event).accept(event)]


def test_what_is_still_on_its_way_of_a_stream_that_was_taken_away_is_dropped() -> None:
    sequencers = Sequencers([TRADES, QUOTES])
    passed(sequencers, TRADES, trade(1))
    sequencers.set_streams([QUOTES])
    assert passed(sequencers, TRADES, trade(2)) == []
    assert passed(sequencers, QUOTES, quote(5)) == [quote(5)]


def test_trades_that_were_missed_in_between_show_as_a_hole() -> None:
    sequencers = Sequencers([TRADES])
    passed(sequencers, TRADES, trade(1))
    sequencers.set_streams([OTHERS])
    sequencers.set_streams([TRADES])
    assert passed(sequencers, TRADES, trade(1)) == []
    assert passed(sequencers, TRADES, trade(4)) == []
    assert sequencers.figures().held == 1


def test_a_hole_outlives_the_stream_and_is_still_counted() -> None:
    sequencers = Sequencers([TRADES])
    passed(sequencers, TRADES, trade(1), trade(3), trade(3))
    sequencers.set_streams([OTHERS])
    assert sequencers.figures() == ({"trade": 1}, 1, 0)
    assert list(sequencers.named()) == []


@pytest.mark.parametrize(
    ("kind", "event"),
    [("bookTicker", quote), ("ticker", ticker), ("depth", lambda number: delta(number, number))],
)
def test_other_events_are_preceded_by_a_gap_event_when_they_come_again(
    kind: str, event: Callable[[int], Event]
) -> None:
    stream = stream_of(SYMBOL, kind)
    sequencers = Sequencers([stream])
    first, missed, last = event(1), event(50), event(100)
    passed(sequencers, stream, first)
    sequencers.set_streams([])
    passed(sequencers, stream, missed)
    sequencers.set_streams([stream])
    gap, after = passed(sequencers, stream, last)
    assert isinstance(gap, Gap)
    assert (gap.cause, gap.state, gap.symbol) == ("unsubscribed", "lost", SYMBOL)
    assert gap.from_time == (first.timestamp or first.received)
    assert gap.to_time == (last.timestamp or last.received)
    assert after is last


def test_streams_that_stay_never_notice() -> None:
    sequencers = Sequencers([TRADES, QUOTES])
    passed(sequencers, QUOTES, quote(1))
    sequencers.set_streams([QUOTES, OTHERS])
    sequencers.set_streams([QUOTES])
    assert passed(sequencers, QUOTES, quote(7)) == [quote(7)]


def test_a_stream_that_comes_goes_on_behind_what_is_known_of_it() -> None:
    sequencers = Sequencers(
        [QUOTES], {StreamKey("trade", SYMBOL): Position("trade", SYMBOL, 5, 1, 0, 0)}
    )
    sequencers.set_streams([QUOTES, TRADES])
    assert passed(sequencers, TRADES, trade(5), trade(6)) == [trade(6)]


def test_what_becomes_known_of_a_message_type_later_counts_as_well() -> None:
    sequencers = Sequencers([QUOTES])
    found = {StreamKey("trade", SYMBOL): Position("trade", SYMBOL, 5, 1, 0, 0)}
    sequencers.set_streams([QUOTES, TRADES], found)
    assert passed(sequencers, TRADES, trade(5), trade(6)) == [trade(6)]


SINCE_US = 1_000_000_000
QUOTE_KEY = StreamKey("quote", SYMBOL)


def silent_until_now(time: int, *, dropped: Collection[str] = ()) -> Sequencers:
    """Return the sequencers of a start at which the last quote is as old as `time`, and the bridges
    before have missed nothing since SINCE_US.
    """
    position = Position("quote", SYMBOL, -1, time, 0, 0, mark=5)
    return Sequencers([QUOTES], {QUOTE_KEY: position}, Continuity(SINCE_US, dropped))


def gap_causes(sequencers: Sequencers, event: Event) -> list[str]:
    events = passed(sequencers, QUOTES, event)
    assert events[-1] is event
    return [gap.cause for gap in events if isinstance(gap, Gap)]


def test_a_silent_stream_of_which_no_bridge_has_missed_an_event_goes_on_without_a_gap_event() -> (
    None
):
    assert gap_causes(silent_until_now(SINCE_US + OVERLAP_US), quote(7)) == []


@pytest.mark.parametrize(
    ("time", "dropped"), [(SINCE_US + OVERLAP_US - 1, []), (SINCE_US + OVERLAP_US, [QUOTES.name])]
)
def test_a_gap_event_precedes_the_first_event_if_some_may_be_missing(
    time: int, dropped: list[str]
) -> None:
    """The last one is too old, or this bridge has not kept what it has received since."""
    assert gap_causes(silent_until_now(time, dropped=dropped), quote(7)) == ["restart"]


def test_a_stream_that_is_interrupted_before_its_first_event_says_so() -> None:
    sequencers = silent_until_now(SINCE_US + OVERLAP_US)
    sequencers.interrupt(QUOTES, "closed")
    assert gap_causes(sequencers, quote(7)) == ["closed"]
    removed = silent_until_now(SINCE_US + OVERLAP_US)
    removed.set_streams([TRADES])
    removed.set_streams([TRADES, QUOTES])
    assert gap_causes(removed, quote(7)) == ["unsubscribed"]
