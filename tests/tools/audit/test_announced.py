"""The announced state of each id: the latest gap event decides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.model.events import Gap
from bridge.tools.audit import announced as bounds
from bridge.tools.audit.announced import Announced, Announcements, GapRecord
from tests.support.audit import announced, event, gap
from tests.support.naive_audit import states

spans = st.tuples(st.integers(0, 40), st.integers(0, 12)).map(lambda s: (s[0], s[0] + s[1]))
gaps = st.lists(st.tuples(spans, st.sampled_from(["open", "filled", "lost"])))


@given(gaps=gaps, asked=spans)
def test_each_id_has_the_state_that_was_announced_last(
    gaps: list[tuple[tuple[int, int], str]], asked: tuple[int, int]
) -> None:
    said = announced(*(gap(*span, state) for span, state in gaps))
    expected = states((*span, state) for span, state in gaps)
    pieces = list(said.split(*asked))
    found = {i: word for first, last, word in pieces for i in range(first, last + 1)}
    assert list(found) == list(range(asked[0], asked[1] + 1))
    assert {i: word.state for i, word in found.items() if word} == {
        i: state for i, state in expected.items() if i in found
    }
    assert said.covers(*asked) == (found.keys() <= expected.keys())


def test_a_gap_without_ids_is_an_interruption() -> None:
    said = announced(gap(None, None), gap(None, 7), gap(5, 4))
    assert said.interruptions == 2
    assert not said.covers(5, 7)


def test_a_restart_serves_once_and_at_its_time() -> None:
    said = announced()
    said.add(restart := gap(None, None, "lost", cause="ids_restarted"))
    assert not said.take_restart(5, is_far=False)
    assert said.take_restart(5, is_far=True)
    assert not said.take_restart(5, is_far=True)
    restart.to_time = 7
    said.add(restart)
    assert not said.take_restart(5, is_far=True)
    assert said.take_restart(7, is_far=False)


def test_ranges_over_the_bound_are_forgotten_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "ANNOUNCED_MAX_RANGES", 2)
    said = announced(*(gap(first, first) for first in (1, 3, 5)))
    assert (said.forgotten, said.covers(1, 1), said.covers(5, 5)) == (1, False, True)


def test_only_gaps_of_the_kind_count_and_what_is_none_is_counted_apart() -> None:
    announcements = Announcements("trade")
    fields = {"first_id": 1, "last_id": 2, "to_time": None, "cause": "cut", "state": "open"}
    announcements.observe(event("gap", kind="trade", **fields))
    announcements.observe(event("gap", kind="quote", **fields))
    announcements.observe(event("trade", trade_id=1))
    assert (announcements.records, announcements.unreadable) == (1, 1)
    assert announcements.of("BTCUSDT").covers(1, 2)
    assert not announcements.of("ETHUSDT").covers(1, 2)


def test_what_is_read_of_a_gap_event_is_in_the_contract() -> None:
    assert set(GapRecord.__struct_fields__) <= set(Gap.__struct_fields__)
    assert GapRecord.__struct_config__.tag == Gap.__struct_config__.tag


def test_what_is_filled_behind_the_end_of_the_data_is_no_promise() -> None:
    announcements = Announcements("trade")
    fields = {"first_id": 1, "last_id": 1, "to_time": None, "cause": "cut", "state": "filled"}
    announcements.observe(event("gap", kind="trade", **fields), is_settled=False)
    assert _state(announcements.of("BTCUSDT")) == "open"
    announcements.observe(event("gap", kind="trade", **fields))
    assert _state(announcements.of("BTCUSDT")) == "filled"


def _state(said: Announced) -> str:
    ((_, _, word),) = said.split(1, 1)
    assert word
    return word.state
