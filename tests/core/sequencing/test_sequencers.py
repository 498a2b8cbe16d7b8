"""Streams that are added and removed while the others continue."""

from collections.abc import Callable

import pytest

from bridge.core.binance.stream_names import stream_of
from bridge.core.model.events import Event, Gap
from bridge.core.model.stream import Stream
from bridge.core.sequencing.position import Position, StreamKey
from bridge.core.sequencing.sequencers import Sequencers
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
