from hypothesis import given
from hypothesis import strategies as st

from bridge.core.delivery.replay import ReplayMatcher
from bridge.core.records.record import Record
from tests.support.events import repeatable
from tests.support.spilling import record, route

BTC, ETH = route("BTCUSDT"), route("ETHUSDT")


def seen(waiting: list[Record], topic: list[Record]) -> ReplayMatcher:
    restored = ReplayMatcher(waiting)
    for one in topic:
        restored.see(one.route.topic, one.route.key, one.value)
    return restored


def records(*numbers: int) -> list[Record]:
    return [record(BTC, number, received=number * 1000) for number in numbers]


@repeatable
@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20), st.sets(st.integers(1, 20)))
def test_what_is_up_to_the_last_that_committed_has_committed(
    first: int, committed: int, begin: int, given_up: set[int]
) -> None:
    """The topic is read from some record on, and some records were dropped and never sent."""
    waiting = records(*range(first, 21))
    topic = records(*(n for n in range(begin, committed) if n not in given_up))
    last = max(
        (n for n in range(max(begin, first), committed) if n not in given_up), default=first - 1
    )
    assert seen(waiting, topic).committed[BTC.route_key] == last - first + 1


def test_each_symbol_has_its_own() -> None:
    waiting = [record(BTC, 1), record(ETH, 1), record(BTC, 2), record(ETH, 2)]
    restored = seen(waiting, [record(BTC, 1), record(BTC, 2), record(route("XRPUSDT"), 1)])
    assert restored.committed == {BTC.route_key: 2}


def test_of_two_records_that_say_the_same_one_may_have_committed() -> None:
    assert seen(records(1, 1, 2), records(1)).committed[BTC.route_key] == 1
    assert seen(records(1, 1, 2), records(1, 1)).committed[BTC.route_key] == 2


def test_where_to_begin_is_the_least_time_of_each_topic() -> None:
    assert seen(records(5, 3, 9), []).first_ms == {"binance.spot.trade": 3}
