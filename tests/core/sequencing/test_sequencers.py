"""Streams that come and go while the others go on."""

from collections.abc import Callable

import pytest

from bridge.core.model.events import Event, Gap
from bridge.core.model.stream import Stream, stream_of
from bridge.core.sequencing.position import Position
from bridge.core.sequencing.sequencers import Tracks
from tests.core.sequencing.test_rules import HEAD, delta, quote, ticker, trade

SYMBOL = HEAD[1]
TRADES, QUOTES, OTHERS = (
    stream_of(SYMBOL, "trade"),
    stream_of(SYMBOL, "bookTicker"),
    stream_of("ETHUSDT", "trade"),
)


def passed(tracks: Tracks, stream: Stream, *events: Event) -> list[Event]:
    return [e for event in events for e in tracks.track(stream, event).accept(event)]


def test_what_is_still_on_its_way_of_a_stream_that_was_taken_away_is_dropped() -> None:
    tracks = Tracks([TRADES, QUOTES])
    passed(tracks, TRADES, trade(1))
    tracks.change([QUOTES])
    assert passed(tracks, TRADES, trade(2)) == []
    assert passed(tracks, QUOTES, quote(5)) == [quote(5)]


def test_trades_that_were_missed_in_between_show_as_a_hole() -> None:
    tracks = Tracks([TRADES])
    passed(tracks, TRADES, trade(1))
    tracks.change([OTHERS])
    tracks.change([TRADES])
    assert passed(tracks, TRADES, trade(1)) == []
    assert passed(tracks, TRADES, trade(4)) == []
    assert tracks.figures().held == 1


def test_a_hole_outlives_the_stream_and_is_still_counted() -> None:
    tracks = Tracks([TRADES])
    passed(tracks, TRADES, trade(1), trade(3), trade(3))
    tracks.change([OTHERS])
    assert tracks.figures() == ({"trade": 1}, 1, 0)
    assert list(tracks.named()) == []


@pytest.mark.parametrize(
    ("kind", "event"),
    [("bookTicker", quote), ("ticker", ticker), ("depth", lambda number: delta(number, number))],
)
def test_other_events_are_preceded_by_a_gap_event_when_they_come_again(
    kind: str, event: Callable[[int], Event]
) -> None:
    stream = stream_of(SYMBOL, kind)
    tracks = Tracks([stream])
    first, missed, last = event(1), event(50), event(100)
    passed(tracks, stream, first)
    tracks.change([])
    passed(tracks, stream, missed)
    tracks.change([stream])
    gap, after = passed(tracks, stream, last)
    assert isinstance(gap, Gap)
    assert (gap.cause, gap.state, gap.symbol) == ("removed", "lost", SYMBOL)
    assert gap.from_time == (first.timestamp or first.received)
    assert gap.to_time == (last.timestamp or last.received)
    assert after is last


def test_streams_that_stay_never_notice() -> None:
    tracks = Tracks([TRADES, QUOTES])
    passed(tracks, QUOTES, quote(1))
    tracks.change([QUOTES, OTHERS])
    tracks.change([QUOTES])
    assert passed(tracks, QUOTES, quote(7)) == [quote(7)]


def test_a_stream_that_comes_goes_on_behind_what_is_known_of_it() -> None:
    tracks = Tracks([QUOTES], {("trade", SYMBOL): Position("trade", SYMBOL, 5, 1, 0, 0)})
    tracks.change([QUOTES, TRADES])
    assert passed(tracks, TRADES, trade(5), trade(6)) == [trade(6)]


def test_what_becomes_known_of_a_message_type_later_counts_as_well() -> None:
    tracks = Tracks([QUOTES])
    found = {("trade", SYMBOL): Position("trade", SYMBOL, 5, 1, 0, 0)}
    tracks.change([QUOTES, TRADES], found)
    assert passed(tracks, TRADES, trade(5), trade(6)) == [trade(6)]
