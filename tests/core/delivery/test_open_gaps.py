"""The gaps that a process has left open, by its gap events and the events published after them."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bridge.core.delivery.open_gaps import OpenGaps
from bridge.core.model.events import Gap
from bridge.core.sequencing.position import Position, StreamKey
from tests.support.events import repeatable

BTCUSDT = StreamKey("trade", "BTCUSDT")
ETHUSDT = StreamKey("trade", "ETHUSDT")


def gap(first_id: int | None, last_id: int | None, state: str = "open", **fields: Any) -> Gap:
    values: dict[str, Any] = {
        "kind": "trade",
        "symbol": "BTCUSDT",
        "cause": "repair_timeout",
        "from_time": 1_000,
    }
    return Gap(
        venue="binance.spot",
        timestamp=None,
        received=fields.pop("received", 9_000),
        source="websocket",
        to_time=2_000,
        first_id=first_id,
        last_id=last_id,
        state=state,  # type: ignore[arg-type]  # one of them
        **values | fields,
    )


def at(last_id: int, key: StreamKey = BTCUSDT, time: int = 0) -> dict[StreamKey, Position]:
    return {key: Position(key.message_type, key.symbol, last_id, time, 0, 0)}


def seen(*events: Gap) -> OpenGaps:
    gaps = OpenGaps()
    for event in events:
        gaps.see(event)
    return gaps


def ids(events: list[Gap]) -> list[tuple[int | None, int | None, str]]:
    return [(event.first_id, event.last_id, event.state) for event in events]


def test_what_nothing_is_said_of_any_more_is_left_open() -> None:
    gaps = seen(gap(3, 9), gap(20, 20), gap(4, 5, "filled"), gap(9, 9, "lost"))
    gaps.go_back(at(50))
    assert ids(gaps.left()) == [(3, 3, "open"), (6, 8, "open"), (20, 20, "open")]
    assert gaps.filled() == []


def test_what_was_brought_is_filled_and_not_asked_for_again() -> None:
    gaps = seen(gap(3, 9))
    gaps.go_back(at(50))
    for identity in (1, 3, 4, 7, 12):
        gaps.brought(BTCUSDT, identity)
    gaps.brought(ETHUSDT, 5)
    assert ids(gaps.filled()) == [(3, 4, "filled"), (7, 7, "filled")]
    assert ids(gaps.left()) == [(5, 6, "open"), (8, 9, "open")]


def test_what_lies_beyond_the_position_comes_with_the_stream_itself() -> None:
    """The gap event had overtaken the events before the gap, and those had not been written."""
    gaps = seen(gap(3, 9), gap(12, 13))
    gaps.go_back(at(5))
    assert ids(gaps.taken_back([BTCUSDT])) == [(6, 9, "filled"), (12, 13, "filled")]
    assert gaps.taken_back([BTCUSDT]) == []
    assert gaps.filled() == []
    assert ids(gaps.left()) == [(3, 5, "open")]


def test_what_lies_beyond_the_position_stays_open_until_the_stream_is_subscribed_to() -> None:
    gaps = seen(gap(3, 9))
    gaps.go_back(at(5))
    assert gaps.taken_back([ETHUSDT]) == []
    assert gaps.message_types == {"trade"}
    assert ids(gaps.left()) == [(3, 5, "open")]
    assert ids(gaps.taken_back([ETHUSDT, BTCUSDT])) == [(6, 9, "filled")]


def test_what_lies_beyond_a_restart_of_the_ids_and_the_position_comes_with_the_stream() -> None:
    gaps = seen(gap(None, None, "lost", cause="ids_restarted"), gap(0, 2))
    gaps.go_back(at(5_000, time=1_999))
    assert (gaps.filled(), gaps.left()) == ([], [])
    assert ids(gaps.taken_back([BTCUSDT])) == [(0, 2, "filled")]


def test_streams_without_a_position_are_left_alone() -> None:
    gaps = seen(gap(3, 9))
    gaps.go_back(at(50, ETHUSDT))
    assert (len(gaps), gaps.filled(), gaps.left()) == (0, [], [])


def test_ids_that_have_started_again_are_asked_for_no_more() -> None:
    gaps = seen(gap(3, 9), gap(None, None, "lost", cause="ids_restarted"), gap(2, 2))
    gaps.go_back(at(50, time=2_000))
    assert ids(gaps.left()) == [(2, 2, "open")]


def test_interruptions_without_ids_leave_nothing_open() -> None:
    gaps = seen(gap(3, 9), gap(None, None, "lost", kind="quote", cause="closed"))
    gaps.go_back(at(50))
    assert ids(gaps.left()) == [(3, 9, "open")]


def test_one_looks_from_the_earliest_time_on_and_not_where_it_is_unknown() -> None:
    gaps = seen(gap(3, 9, from_time=7_000), gap(12, 13, from_time=6_000))
    assert (gaps.since("trade"), gaps.since("agg_trade")) == (6_000, None)
    # The clock of this machine is slow, and records have its times.
    gaps.see(gap(15, 16, from_time=8_000, received=4_000))
    assert gaps.since("trade") == 4_000
    gaps.see(gap(20, 21, from_time=None))
    assert gaps.since("trade") is None
    gaps.forget("trade")
    assert gaps.left() == []


@repeatable
@given(
    said=st.lists(
        st.tuples(
            st.integers(1, 30), st.integers(0, 5), st.sampled_from(("open", "filled", "lost"))
        )
    ),
    last_id=st.integers(0, 40),
    there=st.sets(st.integers(1, 40)),
)
def test_each_open_id_is_left_or_filled_and_no_other_is(
    said: list[tuple[int, int, str]], last_id: int, there: set[int]
) -> None:
    latest: dict[int, str] = {}
    gaps = OpenGaps()
    for first, more, state in said:
        gaps.see(gap(first, first + more, state))
        latest |= dict.fromkeys(range(first, first + more + 1), state)
    gaps.go_back(at(last_id))
    for identity in there:
        gaps.brought(BTCUSDT, identity)
    still_open = {identity for identity, state in latest.items() if state == "open"}
    left = _spread(gaps.left())
    assert left == sorted(i for i in still_open if i <= last_id and i not in there)
    filled = [*gaps.filled(), *gaps.taken_back([BTCUSDT])]
    assert _spread(filled) == sorted(still_open.difference(left))


def _spread(events: list[Gap]) -> list[int]:
    ranges = [(event.first_id or 0, event.last_id or 0) for event in events]
    return sorted(i for first, last in ranges for i in range(first, last + 1))
