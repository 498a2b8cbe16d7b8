"""The position of a stream, and the committed records of a failed batch."""

from collections.abc import Sequence

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.binance.stream_names import parse_stream
from bridge.core.model.events import Event, Gap
from bridge.core.sequencing.contiguous import Contiguous
from bridge.core.sequencing.position import (
    Position,
    StreamKey,
    Tails,
    committed,
    furthest,
    unpublished,
)
from bridge.core.sequencing.rules import time_of
from bridge.core.sequencing.sequencers import Sequencers
from tests.core.sequencing.test_rules import (
    HEAD,
    SECOND_US,
    accept_all,
    delta,
    ids,
    quote,
    ticker,
    trade,
)

VALUES = st.lists(st.binary(min_size=1, max_size=2), max_size=8)
FOREIGN = b"foreign"


def position(
    last_id: int, *, time: int = 0, partition: int = 0, offset: int = 0, kind: str = "trade"
) -> Position:
    return Position(kind, HEAD[1], last_id, time or last_id, partition, offset)


@given(VALUES, st.integers(0, 8), st.lists(st.integers(0, 8), max_size=5))
def test_what_committed_is_found_in_its_order_whatever_others_have_written(
    waiting: list[bytes], count: int, foreign_at: list[int]
) -> None:
    tail = waiting[:count]
    for place in foreign_at:
        tail.insert(place, FOREIGN)
    places = committed(waiting, tail)
    assert [tail[place] for place in places] == waiting[:count]
    assert places == sorted(set(places))


@given(VALUES, VALUES)
def test_what_committed_is_always_a_beginning_of_what_waits(
    waiting: list[bytes], tail: list[bytes]
) -> None:
    assert [tail[place] for place in committed(waiting, tail)] == waiting[
        : len(committed(waiting, tail))
    ]


def test_a_tail_of_others_holds_nothing_of_ours() -> None:
    assert committed([b"1", b"2"], [FOREIGN, b"2", FOREIGN]) == []


@given(st.permutations([position(i, time=i * 1000, offset=i) for i in range(1, 7)]))
def test_the_greatest_id_is_the_furthest_in_whichever_partition(order: Sequence[Position]) -> None:
    assert furthest(order)[StreamKey("trade", HEAD[1])].last_id == 6


def test_a_symbol_listed_anew_is_further_than_its_old_ids() -> None:
    """After a change of the number of partitions, only ids and times can be compared."""
    old = position(9_000, time=1 * SECOND_US)
    new = position(3, time=9 * SECOND_US, partition=1)
    for order in ([old, new], [new, old]):
        assert furthest(order)[new.stream_key] is new


def test_a_position_is_small_json() -> None:
    written = msgspec.json.encode(position(7, time=8, partition=2, offset=5))
    assert written == (
        b'{"message_type":"trade","symbol":"BTCUSDT","last_id":7,"time":8,"partition":2,"offset":5}'
    )


def test_the_first_trade_behind_a_position_shows_the_hole() -> None:
    sequencers = sequencers_at(position(7))
    sequencer = sequencers.sequencer(parse_stream("btcusdt@trade"), trade(11))
    assert ids(accept_all(sequencer, [trade(11)])) == []
    assert sequencers.figures().held == 1


def test_the_trade_behind_a_position_passes_and_older_ones_are_repeats() -> None:
    sequencer = sequencers_at(position(7)).sequencer(parse_stream("btcusdt@trade"), trade(6))
    assert ids(accept_all(sequencer, map(trade, [6, 7, 8, 9]))) == [8, 9]
    assert sequencer.duplicates == 2


def test_a_symbol_listed_anew_while_no_bridge_ran_is_announced() -> None:
    sequencer = sequencers_at(position(7_000, time=1)).sequencer(
        parse_stream("btcusdt@trade"), trade(1)
    )
    again = [trade(number, seconds=60) for number in (1, 2, 3)]
    assert isinstance(sequencer, Contiguous)
    assert accept_all(sequencer, again) == []
    gap, *passed = sequencer.fill(again)
    assert isinstance(gap, Gap)
    assert (gap.cause, gap.state, passed) == ("ids_restarted", "lost", again)


def test_a_last_trade_dated_too_early_is_the_furthest_of_its_partition() -> None:
    tails = Tails({})
    tails.see(position(7, time=9 * SECOND_US, offset=5))
    tails.see(position(8, time=5 * SECOND_US, offset=6))
    (found,) = tails.positions.values()
    assert (found.last_id, found.offset, found.time) == (8, 6, 9 * SECOND_US)


def test_one_late_trade_dated_too_young_is_no_restart_of_the_ids_but_several_are() -> None:
    tails = Tails({})
    for offset, (last_id, seconds) in enumerate([(100, 50), (7, 40), (8, 90), (9, 40), (10, 90)]):
        tails.see(position(last_id, time=seconds * SECOND_US, offset=offset))
    (found,) = tails.positions.values()
    assert found.last_id == 100
    for last_id in (1, 2, 3):
        tails.see(position(last_id, time=90 * SECOND_US, offset=10 + last_id))
    (found,) = tails.positions.values()
    assert found.last_id == 3


def test_one_record_with_an_id_far_below_shows_a_restart_of_the_ids() -> None:
    """The process was killed just after the restart. No trade is fetched so late."""
    tails = Tails({})
    for last_id, seconds in ((5_000_000, 5), (0, 6)):
        tails.see(position(last_id, time=seconds * SECOND_US, offset=seconds))
    (found,) = tails.positions.values()
    assert found.last_id == 0


def test_trades_that_fill_a_gap_just_before_the_last_one_are_no_restart_of_the_ids() -> None:
    tails = Tails({})
    tails.see(position(13, time=5 * SECOND_US))
    tails.see(position(24, time=11 * SECOND_US, offset=1))
    for last_id in range(14, 24):
        tails.see(position(last_id, time=10 * SECOND_US, offset=last_id))
    (found,) = tails.positions.values()
    assert found.last_id == 24


def test_one_time_far_ahead_does_not_hide_a_later_restart_of_the_ids() -> None:
    tails = Tails({})
    for last_id, seconds in ((100, 50), (101, 10**6), (102, 51), (103, 52), (104, 53)):
        tails.see(position(last_id, time=seconds * SECOND_US, offset=last_id))
    for last_id in (1, 2, 3):
        tails.see(position(last_id, time=90 * SECOND_US, offset=200 + last_id))
    (found,) = tails.positions.values()
    assert found.last_id == 3


def test_a_stream_without_a_record_was_at_its_position_before_any_event() -> None:
    """Its time is that of this machine, whose clock may be fast."""
    first = position(0, time=SECOND_US)
    before = unpublished(first.stream_key, -1, 3600 * SECOND_US)
    for order in ([before, first], [first, before]):
        assert furthest(order)[first.stream_key] is first
    tails = Tails({first.stream_key: before})
    tails.see(first)
    assert tails.positions[first.stream_key] is first


def test_streams_without_contiguous_ids_announce_a_restart_once() -> None:
    cases: list[tuple[str, str, list[Event]]] = [
        ("bookTicker", "quote", [quote(5), quote(6)]),
        ("miniTicker", "mini_ticker", [ticker(50), ticker(60)]),
        ("depth", "book_delta", [delta(5, 6), delta(7, 8)]),
    ]
    for name, kind, events in cases:
        sequencers = sequencers_at(position(-1, time=3, kind=kind), name)
        sequencer = sequencers.sequencer(parse_stream(f"btcusdt@{name}"), events[0])
        gap, *others = accept_all(sequencer, events)
        assert isinstance(gap, Gap)
        assert (gap.kind, gap.cause, gap.state) == (kind, "restart", "lost")
        assert (gap.from_time, gap.to_time) == (3, time_of(events[0]))
        assert others == events


def sequencers_at(known: Position, name: str = "trade") -> Sequencers:
    return Sequencers([parse_stream(f"btcusdt@{name}")], {known.stream_key: known})
