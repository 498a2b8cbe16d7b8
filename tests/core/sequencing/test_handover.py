"""A connection that opens while another one is open does not overtake it."""

from collections.abc import Iterable

from bridge.core.binance.stream_names import stream_of
from bridge.core.model.events import Event, Gap, Quote
from bridge.core.model.stream import SPOT
from bridge.core.sequencing.handover import MAX_WAIT_US, Handover
from bridge.core.sequencing.sequencers import Sequencers, new_sequencer

QUOTES = stream_of("BTCUSDT", "bookTicker")


def quote(number: int, received: int = 0) -> Quote:
    return Quote(
        venue=SPOT,
        symbol="BTCUSDT",
        timestamp=None,
        received=received,
        source="websocket",
        update_id=number,
        bid_price="1",
        bid_volume="1",
        ask_price="2",
        ask_volume="1",
    )


class Bench:
    """One stream of quotes and two connections: `old` is open first, `new` joins it."""

    def __init__(self) -> None:
        self.sequencer = new_sequencer(Quote)
        self.handover = Handover({QUOTES.name})
        self.passed: list[int | str] = []

    def old(self, *ids: int) -> None:
        self._accept(quote(number) for number in ids)

    def new(self, *ids: int, received: int = 0) -> None:
        for number in ids:
            taken = self.handover.take(
                QUOTES.name, self.sequencer, quote(number, received=received)
            )
            self._accept(taken)

    def finish(self) -> None:
        self._accept(event for _, event in self.handover.finish("closed"))

    def _accept(self, events: Iterable[Event]) -> None:
        for event in events:
            for passed in self.sequencer.accept(event):
                assert isinstance(passed, Gap | Quote)
                self.passed.append(passed.cause if isinstance(passed, Gap) else passed.update_id)


def test_what_still_waits_on_the_old_connection_comes_first() -> None:
    bench = Bench()
    bench.old(1, 2)
    bench.new(7, 9)
    bench.old(4, 5, 7)
    bench.new(12)
    bench.old(9, 12)
    bench.new(15)
    assert bench.passed == [1, 2, 4, 5, 7, 9, 12, 15]


def test_beside_a_connection_that_has_brought_nothing_nothing_waits() -> None:
    bench = Bench()
    bench.new(7, 9)
    assert bench.passed == [7, 9]


def test_what_a_lost_connection_had_not_brought_is_announced() -> None:
    bench = Bench()
    bench.old(1, 2)
    bench.new(7, 9)
    bench.old(4)
    bench.finish()
    assert bench.passed == [1, 2, 4, "closed", 7, 9]


def test_a_connection_that_had_brought_all_is_lost_without_a_word() -> None:
    bench = Bench()
    bench.old(1, 2)
    bench.new(7, 9)
    bench.old(4, 7)
    bench.finish()
    assert bench.passed == [1, 2, 4, 7, 9]


def test_a_connection_too_far_behind_is_overtaken_and_that_is_announced() -> None:
    bench = Bench()
    bench.old(1, 2)
    bench.new(7)
    bench.new(9, received=MAX_WAIT_US + 1)
    assert bench.passed == [1, 2, "handover_timeout", 7, 9]


def test_behind_an_interruption_nothing_waits() -> None:
    bench = Bench()
    bench.old(1, 2)
    bench.sequencer.interrupt("stalled")
    bench.new(7)
    assert bench.passed == [1, 2, "stalled", 7]


def test_what_waited_when_the_stream_was_taken_away_stays_behind_when_it_comes_again() -> None:
    """Events are missing between the waiting event and the next ones."""
    sequencers = Sequencers([QUOTES])
    bench = Bench()
    bench.sequencer = sequencers.sequencer(QUOTES, quote(1))
    bench.old(1)
    bench.new(5)
    sequencers.set_streams([])
    sequencers.set_streams([QUOTES])
    bench.new(9)
    bench.finish()
    assert bench.passed == [1, "unsubscribed", 9]


def test_only_streams_that_an_older_connection_carries_wait_and_only_as_long_as_it_does() -> None:
    others = new_sequencer(Quote)
    handover = Handover({QUOTES.name, "others"})
    free, sequencer = new_sequencer(Quote), new_sequencer(Quote)
    for each in (free, sequencer, others):
        each.accept(quote(1))
    assert list(handover.take("free", free, quote(7))) == [quote(7)]
    assert handover.take(QUOTES.name, sequencer, quote(7)) == ()
    assert handover.take("others", others, quote(7)) == ()
    released = list(handover.finish("closed", carried={"others"}))
    assert released == [(sequencer, quote(7))]
    assert list(handover.take(QUOTES.name, sequencer, quote(8))) == [quote(8)]
    assert handover.take("others", others, quote(8)) == ()
    assert list(handover.finish("closed")) == [(others, quote(7)), (others, quote(8))]
