"""One stream: missing, repeated, late and out-of-order ids, compared with a model of sets."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.tools.audit import stream as bounds
from bridge.tools.audit.announced import GapRecord
from bridge.tools.audit.report import LISTED_MAX_RANGES, stream_findings
from tests.support.audit import announced, audited, gap, ids_at, ids_in, ranges
from tests.support.naive_audit import NaiveAudit, states

FIRST = 3_735_683_259
SPAN = st.tuples(st.integers(0, 60), st.integers(0, 4)).map(lambda s: (s[0], s[0] + s[1]))
GAPS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 15), st.sampled_from(["open", "filled", "lost"])),
    max_size=4,
).map(lambda gaps: [(first, first + length, state) for first, length, state in gaps])


@given(ids=st.lists(st.integers(0, 60)), gaps=GAPS)
def test_trades_are_judged_as_sets_of_ids_would_judge_them(
    ids: list[int], gaps: list[tuple[int, int, str]]
) -> None:
    _compare([(i, i) for i in ids], gaps)


@given(spans=st.lists(SPAN), gaps=GAPS)
def test_events_that_cover_several_ids_are_judged_as_sets_would_judge_them(
    spans: list[tuple[int, int]], gaps: list[tuple[int, int, str]]
) -> None:
    _compare(spans, gaps)


@given(st.permutations(range(40)).map(lambda ids: ids[:30]))
def test_any_order_of_any_ids_is_judged_as_sets_would_judge_it(ids: list[int]) -> None:
    _compare([(i, i) for i in ids], [])


def _compare(spans: list[tuple[int, int]], gaps: list[tuple[int, int, str]]) -> None:
    model = NaiveAudit(states(gaps))
    for span in spans:
        model.observe(*span)
    report = audited(spans, *(gap(*told) for told in gaps), kind="book_delta")
    assert report.records == len(spans)
    assert report.first_id == model.first
    assert report.last_id == (None if model.first is None else model.last)
    assert ids_in(report.missing) == model.missing(None)
    assert ids_in(report.missing_filled) == model.missing("filled")
    assert ids_in(report.missing_announced) == model.missing("open", "lost")
    assert report.missing.ids == len(model.missing(None))
    assert report.late == model.late
    assert (report.repeated.count, ids_at(report.repeated)) == _listed(model.repeated)
    assert (report.out_of_order.count, ids_at(report.out_of_order)) == _listed(model.out_of_order)


def _listed(ids: list[int]) -> tuple[int, list[int]]:
    return len(ids), ids[:10]


@pytest.mark.parametrize("seed", range(50))
def test_what_was_done_to_a_sequence_is_found_and_nothing_else(seed: int) -> None:
    chance = random.Random(seed)
    ids = list(range(FIRST, FIRST + 2000))
    spots = chance.sample(range(10, 1990, 5), 24)
    deleted, repeated, swapped = ({ids[spot] for spot in spots[n::3]} for n in range(3))
    changed: list[int] = []
    for identity in ids:
        changed += {
            identity in deleted: [],
            identity in repeated: [identity, identity],
            identity in swapped: [identity + 1],
            identity - 1 in swapped: [identity - 1],
        }.get(True, [identity])
    report = audited(changed)
    assert ids_in(report.missing) == deleted
    assert ids_at(report.repeated) == sorted(repeated)
    assert ids_at(report.out_of_order) == sorted(swapped)
    assert report.restarts.count == 0
    assert len(list(stream_findings(report))) == 3


def test_a_whole_sequence_has_no_finding_wherever_it_begins() -> None:
    report = audited(range(FIRST, FIRST + 100))
    assert (report.first_id, report.first_offset, report.last_id) == (FIRST, 0, FIRST + 99)
    assert list(stream_findings(report)) == []


def test_a_gap_that_was_announced_in_part_is_a_finding_in_part() -> None:
    report = audited([1, 10], gap(2, 5, "lost", cause="patience"))
    assert ranges(report.missing) == [(6, 9)]
    (known,) = report.missing_announced.listed
    assert (known.first_id, known.ids, known.cause, known.state) == (2, 4, "patience", "lost")


def test_what_is_brought_later_into_an_announced_gap_is_late_and_closes_it() -> None:
    report = audited([1, 5, 2, 6, 3, 4, 7], gap(2, 4), gap(2, 4, "filled"))
    assert report.late == 3
    assert list(stream_findings(report)) == []
    assert report.missing_announced.ids == 0


def test_what_was_announced_as_filled_must_be_there() -> None:
    report = audited([1, 5, 3], gap(2, 4), gap(2, 4, "filled"))
    assert ranges(report.missing_filled) == [(2, 2), (4, 4)]
    (finding,) = stream_findings(report)
    assert finding.what == "filled_but_missing"
    assert finding.text == "2 announced as filled, but missing: 2, 4"


def test_a_repeat_inside_a_filled_gap_is_a_repeat() -> None:
    report = audited([1, 5, 2, 3, 4, 3], gap(2, 4, "filled"))
    assert ids_at(report.repeated) == [3]


def test_a_topic_whose_head_ends_inside_a_late_filling_is_proved_from_behind_it() -> None:
    """The log: 201-300 (deleted by retention), then 198-200 of an announced gap, then 301."""
    report = audited([198, 199, 200, 301, 302], gap(100, 200, "filled"))
    assert (report.late, report.first_id, report.first_offset) == (3, 301, 3)
    assert list(stream_findings(report)) == []


def test_ids_that_start_again_are_no_finding_where_it_was_announced() -> None:
    report = audited([FIRST, FIRST + 1, 1, 2, 4], gap(None, None, "lost", cause="ids_restarted"))
    assert ids_at(report.restarts_announced) == [1]
    assert (report.first_id, report.last_id) == (FIRST, 4)
    assert ranges(report.missing) == [(3, 3)]


def test_ids_that_start_again_a_little_lower_are_told_by_the_announced_time() -> None:
    report = audited([100, 101, 90, 91], restart_at(1))
    assert ids_at(report.restarts_announced) == [90]
    assert list(stream_findings(report)) == []


def restart_at(time: int) -> GapRecord:
    restart = gap(None, None, "lost", cause="ids_restarted")
    restart.to_time = time
    return restart


def test_trades_that_come_again_after_a_restart_of_the_ids_are_repeats() -> None:
    """A bridge that takes late copies for a restart must not be able to prove itself right."""
    ids = [*range(100, 121), *range(100, 121), 121]
    report = audited(ids, restart_at(100), times=ids)
    assert report.restarts_announced.count == 1
    assert report.repeated.count == 21
    assert [finding.what for finding in stream_findings(report)] == ["repeated"]


def test_a_restart_that_reaches_the_ids_of_before_with_younger_trades_repeats_nothing() -> None:
    times = itertools.count(100)
    report = audited([*range(100, 121), *range(90, 130)], restart_at(121), times=times)
    assert report.restarts_announced.count == 1
    assert list(stream_findings(report)) == []


def test_a_trade_from_before_a_restart_that_comes_again_much_later_is_a_repeat() -> None:
    times = [100, 101, 102, 200, 201, 202, 203, 101, 205]
    report = audited([10, 11, 12, 8, 9, 10, 11, 12, 13], restart_at(200), times=times)
    assert ids_at(report.repeated) == [12]


def test_ids_that_start_again_unannounced_are_one_finding() -> None:
    report = audited([FIRST, FIRST + 1, 1, 2, 3])
    assert [finding.what for finding in stream_findings(report)] == ["ids_restarted"]
    assert ids_at(report.restarts) == [1]


def test_what_is_missing_before_a_restart_stays_missing() -> None:
    report = audited([FIRST, FIRST + 2, 1, 2])
    assert ranges(report.missing) == [(FIRST + 1, FIRST + 1)]


@pytest.mark.parametrize("kind", ["quote", "book", "block_trade"])
def test_ids_that_only_rise_show_repeats_and_order_but_no_loss(kind: str) -> None:
    report = audited([5, 9, 9, 7, 12], kind=kind)
    assert ids_at(report.repeated) == [9]
    assert ids_at(report.out_of_order) == [7]
    assert report.missing.ids == 0


@pytest.mark.parametrize("kind", ["ticker", "mini_ticker", "candle", "average_price"])
def test_times_may_stand_still_but_not_fall(kind: str) -> None:
    report = audited([FIRST, FIRST, FIRST + 9, FIRST + 8, 1], kind=kind)
    assert report.repeated.count == 0
    assert ids_at(report.out_of_order) == [FIRST + 8, 1]


def test_more_ranges_than_the_bound_are_judged_early_and_counted_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounds, "OPEN_MAX_RANGES", 10)
    report = audited([*range(0, 60, 2), 1, 57])
    assert report.aggregated > 0
    assert report.missing.ids == 28  # 1 came after its range had been judged, 57 came in time
    assert ids_at(report.out_of_order) == [1, 57]


def test_ranges_beyond_the_list_are_counted() -> None:
    report = audited(range(0, 2 * LISTED_MAX_RANGES + 10, 2))
    assert len(report.missing.listed) == LISTED_MAX_RANGES
    assert report.missing.ranges == report.missing.ids == LISTED_MAX_RANGES + 4


def test_interruptions_without_ids_are_counted_beside_the_stream() -> None:
    said = announced(gap(None, None), gap(None, None))
    assert audited([1, 2], kind="quote", said=said).interruptions == 2
