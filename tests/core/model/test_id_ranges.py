"""Missing ids as ranges, compared with a set of ids."""

from hypothesis import given
from hypothesis import strategies as st

from bridge.core.model.id_ranges import IdRanges

spans = st.tuples(st.integers(0, 80), st.integers(0, 8)).map(lambda s: (s[0], s[0] + s[1]))


@given(lengths=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4))), removed=st.lists(spans))
def test_ranges_hold_what_a_set_holds(
    lengths: list[tuple[int, int]], removed: list[tuple[int, int]]
) -> None:
    ranges, ids, end = IdRanges(), set[int](), 0
    for space, length in lengths:
        first, end = end + space, end + space + length
        ranges.append(first, end - 1)
        ids |= set(range(first, end))
    for first, last in removed:
        gone = ids & set(range(first, last + 1))
        assert ranges.remove(first, last) == len(gone)
        ids -= gone
        assert {i for begin, end in ranges for i in range(begin, end + 1)} == ids


def test_the_lowest_ranges_are_taken_first() -> None:
    ranges = IdRanges()
    for first in (1, 4, 7):
        ranges.append(first, first + 1)
    assert ranges.take(2) == [(1, 2), (4, 5)]
    assert list(ranges) == [(7, 8)]
