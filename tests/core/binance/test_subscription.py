from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.binance.stream_names import parse_stream, stream_of, streams_path
from bridge.core.binance.subscription import (
    LISTED_MAX,
    MAX_PATH_CHARS,
    difference,
    is_pattern,
    make_bundles,
    subscribe,
    update_bundles,
    updated,
)
from bridge.core.model.stream import Stream
from tests.support.events import repeatable

STATUSES = {
    "BTCUSDT": "TRADING",
    "ETHUSDT": "HALT",
    "LUNAUSDT": "BREAK",
    "ETHBTC": "TRADING",
    "币安人生USDT": "TRADING",
}
LISTED = updated(None, STATUSES)


def names(*args: object, **kwargs: object) -> list[str]:
    subscription = subscribe(*args, **kwargs)  # type: ignore[arg-type]
    return [stream.name for stream in subscription.streams]


def test_every_symbol_has_every_kind() -> None:
    subscription = subscribe(["BTCUSDT", "ETHUSDT"], ["trade", "bookTicker"], [], LISTED)
    assert [stream.name for stream in subscription.streams] == [
        *("btcusdt@trade", "btcusdt@bookTicker", "ethusdt@trade", "ethusdt@bookTicker")
    ]
    assert subscription.refused == []


def test_a_pattern_takes_the_symbols_that_trade_or_are_halted() -> None:
    assert names(["*USDT"], ["trade"], [], LISTED) == [
        *("btcusdt@trade", "ethusdt@trade", "币安人生usdt@trade")
    ]


def test_a_question_mark_stands_for_one_character() -> None:
    assert names(["???BTC"], ["trade"], [], LISTED) == ["ethbtc@trade"]


@pytest.mark.parametrize(("symbol", "pattern"), [("*USDT", True), ("B?", True), ("BTC", False)])
def test_a_pattern_is_known_by_its_signs(symbol: str, pattern: bool) -> None:  # noqa: FBT001
    assert is_pattern(symbol) is pattern


def test_a_pattern_that_matches_nothing_is_named() -> None:
    subscription = subscribe(["*EUR"], ["trade"], [], LISTED)
    assert subscription.streams == []
    assert subscription.refused == ["the exchange lists no symbol that matches '*EUR'"]


def test_a_pattern_waits_for_its_symbols_if_all_are_in_break() -> None:
    subscription = subscribe(["LUNA*"], ["trade"], [], LISTED)
    assert (subscription.streams, subscription.refused) == ([], [])
    assert subscription.waiting == ["'LUNA*' waits until a symbol that it matches trades"]
    trading = updated(LISTED, STATUSES | {"LUNAUSDT": "TRADING"})
    assert names(["LUNA*"], ["trade"], [], trading) == ["lunausdt@trade"]


def test_a_pattern_waits_while_the_listing_is_not_known_and_names_do_not() -> None:
    subscription = subscribe(["*USDT", "BTCUSDT"], ["trade"], [], None)
    assert [stream.name for stream in subscription.streams] == ["btcusdt@trade"]
    (sentence,) = subscription.waiting
    assert "'*USDT'" in sentence


@pytest.mark.parametrize("status", ["BREAK", "HALT", "PENDING_TRADING", "nonsense"])
def test_a_symbol_that_is_listed_later_is_matched_before_it_trades(status: str) -> None:
    later = updated(LISTED, STATUSES | {"NEWUSDT": status})
    assert "newusdt@trade" in names(["*USDT"], ["trade"], [], later)


@given(
    st.lists(
        st.dictionaries(st.sampled_from("ABCD"), st.sampled_from(("TRADING", "BREAK", "HALT"))),
        min_size=1,
    )
)
def test_what_was_subscribed_to_stays_whatever_the_exchange_lists_later(
    answers: list[dict[str, str]],
) -> None:
    listed: dict[str, bool] | None = None
    before: set[str] = set()
    for statuses in answers:
        listed = updated(listed, statuses)
        now = set(names(["?", "A"], ["trade"], ["b@bookTicker"], listed))
        assert before <= now
        assert {f"{name.lower()}@trade" for name, it in statuses.items() if it != "BREAK"} <= now
        before = now


def test_an_exchange_that_lists_ever_new_symbols_does_not_fill_the_memory() -> None:
    listed: dict[str, bool] | None = None
    for begin in range(0, 10 * LISTED_MAX, LISTED_MAX // 2):
        new = {f"S{number}USDT": "TRADING" for number in range(begin, begin + LISTED_MAX // 2)}
        listed = updated(listed, new)
        assert set(new) <= set(listed)
        assert len(listed) <= LISTED_MAX


def test_an_unlisted_symbol_is_named_with_the_nearest_and_the_others_go_on() -> None:
    subscription = subscribe(["BTCUSD", "ETHUSDT"], ["trade"], ["XBTUSDT@trade"], LISTED)
    assert [stream.name for stream in subscription.streams] == ["ethusdt@trade"]
    assert subscription.refused == [
        "the exchange lists no symbol 'BTCUSD'; did you mean 'BTCUSDT'?",
        "the exchange lists no symbol 'XBTUSDT'; did you mean 'BTCUSDT'?",
    ]
    assert subscription.unlisted == ["BTCUSD", "XBTUSDT"]


def test_nothing_is_listed_by_an_exchange_without_symbols() -> None:
    assert subscribe(["BTCUSDT"], ["trade"], [], {}).unlisted == ["BTCUSDT"]
    assert subscribe(["BTCUSDT"], ["trade"], [], None).unlisted == []


def test_a_symbol_unlike_any_other_is_named_without_a_guess() -> None:
    subscription = subscribe(["QQQQ"], ["trade"], [], LISTED)
    assert subscription.refused == ["the exchange lists no symbol 'QQQQ'"]


def test_a_named_symbol_is_kept_while_it_does_not_trade() -> None:
    assert names(["LUNAUSDT"], ["trade"], [], LISTED) == ["lunausdt@trade"]


def test_names_are_taken_as_they_are_where_the_list_cannot_be_had() -> None:
    assert names(["NEWUSDT"], ["trade"], ["xusdt@depth"], None) == [
        *("newusdt@trade", "xusdt@depth")
    ]


def test_a_market_wide_stream_needs_no_listed_symbol() -> None:
    assert names([], [], ["!miniTicker@arr"], {}) == ["!miniTicker@arr"]


def test_what_is_asked_for_twice_is_opened_once() -> None:
    assert names(["BTCUSDT", "BTC*"], ["trade", "trade"], ["BTCUSDT@trade"], LISTED) == [
        "btcusdt@trade"
    ]


@repeatable
@given(st.integers(0, 400), st.integers(1, 50))
def test_streams_are_spread_evenly_under_the_bound_each_on_one_connection(
    count: int, most: int
) -> None:
    streams = [stream_of(f"S{index}USDT", "trade") for index in range(count)]
    bundles = make_bundles(streams, most)
    assert Counter(s.name for bundle in bundles for s in bundle) == Counter(s.name for s in streams)
    sizes = [len(bundle) for bundle in bundles]
    assert all(0 < size <= most for size in sizes)
    assert max(sizes, default=0) - min(sizes, default=0) <= 1
    assert len(bundles) == -(-count // most)


@repeatable
@given(st.integers(1, 1500), st.sampled_from(["A", "1000PEPE", "币安人生"]))
def test_no_url_is_longer_than_servers_take(count: int, word: str) -> None:
    streams = [stream_of(f"{word}{index}USDT", "bookTicker") for index in range(count)]
    bundles = make_bundles(streams, 1024)
    assert max(len(streams_path(bundle)) for bundle in bundles) <= MAX_PATH_CHARS
    assert sum(map(len, bundles)) == count


def test_a_name_too_long_for_any_url_does_not_keep_the_others_waiting() -> None:
    streams = [stream_of("币" * 3000, "trade"), parse_stream("btcusdt@trade")]
    assert make_bundles(streams, 1024) == [[streams[0]], [streams[1]]]


streams_of_names = st.sets(st.integers(0, 30), max_size=20).map(
    lambda numbers: [stream_of(f"S{number}USDT", "trade") for number in sorted(numbers)]
)


@repeatable
@given(streams_of_names, st.lists(streams_of_names, min_size=1, max_size=6), st.integers(1, 6))
def test_changed_streams_stay_on_their_connections_and_few_have_to_change(
    first: list[Stream], changes: list[list[Stream]], most: int
) -> None:
    bundles = make_bundles(first, most) if first else []
    for streams in changes:
        before = [[stream.name for stream in bundle] for bundle in bundles]
        wanted = {stream.name for stream in streams}
        after = update_bundles(before, streams, most)
        placed = [[stream.name for stream in bundle] for bundle in after]
        assert sorted(name for bundle in placed for name in bundle) == sorted(wanted)
        for had, has in zip(before, placed, strict=False):
            assert [name for name in had if name in wanted] == has[: len(set(had) & wanted)]
        assert all(len(bundle) <= most for bundle in placed)
        has_room = [number for number, bundle in enumerate(placed) if len(bundle) < most]
        gained = [
            number for number, bundle in enumerate(placed) if set(bundle) - set(_at(before, number))
        ]
        assert not has_room or not gained or has_room[0] >= gained[-1]
        bundles = [bundle for bundle in after if bundle]


def _at(bundles: list[list[str]], number: int) -> list[str]:
    return bundles[number] if number < len(bundles) else []


def test_streams_go_to_another_connection_where_the_url_would_get_too_long() -> None:
    streams = [stream_of(f"币安人生{number}USDT", "trade") for number in range(300)]
    first, *others = update_bundles([[]], streams, 1024)
    assert len(others) == 1
    assert len(streams_path(first)) <= MAX_PATH_CHARS < len(streams_path([*first, others[0][0]]))


def test_what_a_full_connection_has_stays_on_it() -> None:
    names = [f"币安人生{number}USDT" for number in range(300)]
    (first, second) = update_bundles([[]], [stream_of(name, "trade") for name in names], 1024)
    before = [[stream.name for stream in bundle] for bundle in (first, second)]
    assert update_bundles(before, [*first, *second], 1024) == [first, second]


def test_a_change_names_what_came_and_what_went() -> None:
    before = [stream_of("BTCUSDT", "trade"), stream_of("ETHUSDT", "trade")]
    after = [stream_of("BNBUSDT", "trade"), stream_of("BTCUSDT", "trade")]
    assert difference(before, after) == (["bnbusdt@trade"], ["ethusdt@trade"])
    assert difference(after, after) == ([], [])
