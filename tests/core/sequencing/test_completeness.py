"""Up to which id and time a stream is complete in Kafka."""

from hypothesis import given
from hypothesis import strategies as st

from bridge.core.sequencing.completeness import HEAD_MARGIN_US, Committed, Completeness
from bridge.core.sequencing.rules import MAX_AHEAD_US, Head

NOW_US = 1_790_000_000_000_000


def head(last_id: int, timestamp: int | None = NOW_US) -> Head:
    return Head("binance.spot", "BTCUSDT", timestamp, NOW_US, last_id, last_id)


def test_the_times_of_the_events_prove_the_past() -> None:
    assert Completeness().advance(Committed(7, 100), None) == Completeness(7, 100, None)


def test_the_exchanges_last_id_proves_the_time_up_to_its_report() -> None:
    found = Completeness().advance(Committed(7, 100), head(7))
    assert found == Completeness(7, NOW_US - HEAD_MARGIN_US, NOW_US)


def test_a_stream_behind_the_exchanges_last_id_is_neither_complete_nor_checked() -> None:
    assert Completeness().advance(Committed(6, 100), head(7)) == Completeness(6, 100, None)


def test_a_stream_beyond_the_exchanges_last_id_is_checked_and_has_times_of_its_own() -> None:
    """The report may be behind the stream: it says nothing of the time after its last trade."""
    assert Completeness().advance(Committed(8, 100), head(7)) == Completeness(8, 100, NOW_US)


def test_a_report_whose_time_is_far_ahead_or_unknown_proves_no_time() -> None:
    for timestamp in (None, NOW_US + MAX_AHEAD_US + 1):
        found = Completeness().advance(Committed(7, 100), head(7, timestamp))
        assert found == Completeness(7, 100, NOW_US)


@given(
    st.lists(
        st.tuples(
            st.builds(Committed, st.integers(-1, 5), st.none() | st.integers(0, 9)),
            st.none() | st.builds(head, st.integers(-1, 5)),
        )
    )
)
def test_what_is_complete_stays_complete(steps: list[tuple[Committed, Head | None]]) -> None:
    found = Completeness()
    for committed, reported in steps:
        before, found = found, found.advance(committed, reported)
        assert (found.complete_to or 0) >= (before.complete_to or 0)
        assert (found.checked or 0) >= (before.checked or 0)
        assert found.last_id == committed.last_id
