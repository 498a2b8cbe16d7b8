"""Ids that are missing or repeated are found, and what a gap event announces is not."""

from dataclasses import dataclass, field
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from bridge.client import Gap, Quote, Trade, continuity
from bridge.client.continuity import CONTIGUOUS, Continuity, Finding

HEAD = ("binance.spot", "BTCUSDT", 1_790_000_000_000_000, 1_790_000_000_000_500, "websocket")


def trade(number: int, time: int = 0) -> Trade:
    head = (*HEAD[:2], time or HEAD[2], *HEAD[3:])
    return Trade(*head, number, Decimal(1), Decimal(1), "buy")


def gap(
    first: int | None, last: int | None, cause: str = "closed", to_time: int | None = None
) -> Gap:
    return Gap(*HEAD, "trade", first, last, None, to_time, cause, "open")


@dataclass
class Reading:
    """What a reader does: it announces all gap events that were published before an event."""

    continuity: Continuity = field(default_factory=Continuity)
    findings: list[str] = field(default_factory=list)

    def read(self, *events: Trade | Gap) -> list[str]:
        for event in events:
            if isinstance(event, Gap):
                self.continuity.announce(event)
            elif not self.continuity.follows(event):
                self.findings += [str(finding) for finding in self.continuity.findings(event)]
                self.continuity.accept(event)
        return self.findings


def test_trades_one_after_the_other_leave_nothing_to_find() -> None:
    assert Reading().read(*map(trade, range(7, 20))) == []


def test_missing_ids_are_named() -> None:
    assert Reading().read(trade(1), trade(4), trade(6)) == [
        "trade of BTCUSDT: ids 2 to 3 missing and not announced",
        "trade of BTCUSDT: id 5 missing and not announced",
    ]


def test_a_gap_event_explains_exactly_its_ids() -> None:
    assert Reading().read(trade(1), gap(2, 3), trade(4)) == []
    assert Reading().read(trade(1), gap(3, 4), gap(6, 6), trade(8)) == [
        f"trade of BTCUSDT: id {number} missing and not announced" for number in (2, 5, 7)
    ]


def test_gap_events_may_be_read_long_before_their_trades() -> None:
    assert Reading().read(gap(2, 3), gap(5, 6), gap(2, 3), trade(1), trade(4), trade(7)) == []


def test_late_trades_fill_a_gap_once() -> None:
    reading = Reading()
    assert reading.read(trade(1), gap(2, 3), trade(4), trade(3), trade(2), trade(5)) == []
    assert reading.read(trade(3)) == ["trade of BTCUSDT: id 3 repeated"]


def test_a_repeated_trade_is_named() -> None:
    assert Reading().read(trade(1), trade(2), trade(2)) == ["trade of BTCUSDT: id 2 repeated"]


def test_a_trade_from_before_the_start_is_no_finding() -> None:
    assert Reading().read(trade(10), trade(4), trade(11)) == []


def test_announced_restarts_begin_anew() -> None:
    restart = gap(None, None, "ids_restarted", to_time=99)
    assert Reading().read(trade(1000), restart, trade(1, time=99), trade(2)) == []
    unknown = gap(None, None, "ids_restarted")
    assert Reading().read(trade(1000), unknown, trade(1001), trade(1), trade(2)) == []


def test_each_symbol_and_message_type_has_its_own_ids() -> None:
    reading = Reading()
    other = Trade(HEAD[0], "ETHUSDT", *HEAD[2:], 5, Decimal(1), Decimal(1), "buy")
    assert reading.read(trade(1), other, trade(2)) == []


def test_message_types_without_contiguous_ids_are_left_alone() -> None:
    assert CONTIGUOUS == ("trade", "agg_trade", "book_delta")
    continuity = Continuity()
    price = Decimal(1)
    quote = Quote(*HEAD, 5, price, price, price, price)
    assert all(continuity.follows(quote) for _ in range(2))


def test_what_is_remembered_is_bounded() -> None:
    reading = Reading()
    reading.read(trade(0), *(gap(10 * n, 10 * n) for n in range(1, continuity.MAX_RANGES + 10)))
    (stream,) = reading.continuity._streams.values()
    assert len(stream._announced) == continuity.MAX_RANGES


@given(
    present=st.sets(st.integers(1, 60), min_size=1),
    announced=st.lists(st.tuples(st.integers(1, 60), st.integers(0, 10)), max_size=10),
    repeated=st.sets(st.integers(1, 60)),
)
def test_exactly_what_is_missing_and_not_announced_is_found(
    present: set[int], announced: list[tuple[int, int]], repeated: set[int]
) -> None:
    continuity, found = Continuity(), list[Finding]()
    for first, length in announced:
        continuity.announce(gap(first, first + length))
    for number in sorted(present):
        for _ in range(1 + (number in repeated)):
            if not continuity.follows(event := trade(number)):
                found += continuity.findings(event)
                continuity.accept(event)
    covered = {n for first, length in announced for n in range(first, first + length + 1)}
    missing = {n for each in found if each.what == "missing" for n in range(*_span(each))}
    assert missing == set(range(min(present), max(present))) - present - covered
    assert {each.first_id for each in found if each.what == "repeated"} == repeated & present


def _span(finding: Finding) -> tuple[int, int]:
    return finding.first_id, finding.last_id + 1
