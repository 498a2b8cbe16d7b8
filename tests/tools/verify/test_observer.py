"""The observer judges records without trusting the pipeline."""

from collections.abc import Iterable

import msgspec
import pytest

from bridge.core.model.events import Event, Invalid, Quote
from bridge.core.model.stream import SPOT
from bridge.core.records.record import Router
from bridge.tools.verify.observer import Observer
from bridge.tools.verify.report import PROBLEMS_MAX
from tests.support.sinks import TIME_US, gap, trade, trades

SECOND_US = 1_000_000


def push(observer: Observer, events: Iterable[Event]) -> None:
    """Push each event as a read of its own."""
    router = Router([], "{venue}.{message_type}")
    for event in events:
        record = router.record(event)
        observer.push([record], {record.route: event})


def quote(update_id: int, received: int) -> Quote:
    return Quote(SPOT, "ETHUSDT", None, received, "websocket", update_id, "1", "1", "2", "1")


def invalid(reason: str, detail: str) -> Invalid:
    return Invalid(SPOT, "BTCUSDT", None, TIME_US, "websocket", reason, "{", detail)


def test_trades_one_after_the_other_leave_nothing_to_find() -> None:
    observer = Observer()
    push(observer, [*trades(SPOT, range(1, 11)), *trades(SPOT, range(5, 8), symbol="ETHUSDT")])
    assert observer.findings() == []
    assert observer.proven() == {"trade": 13}


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([1, 2, 4], "trade of BTCUSDT: 1 missing, not announced: 3"),
        ([1, 2, 2], "trade of BTCUSDT: 1 repeated"),
        ([1, 3, 2], "trade of BTCUSDT: 1 out of order"),
    ],
)
def test_what_the_sequence_should_have_prevented_is_found(ids: list[int], words: str) -> None:
    observer = Observer()
    push(observer, trades(SPOT, ids))
    assert any(words in finding for finding in observer.findings())


def test_what_a_gap_event_announced_is_no_finding() -> None:
    observer = Observer()
    push(observer, [trade(SPOT, 1), gap(SPOT, 2, 3, "lost"), trade(SPOT, 4)])
    assert observer.findings() == []
    assert [stream.message_type for stream in observer.streams(TIME_US, TIME_US + 1)] == ["trade"]


def test_quotes_have_holes_of_their_own_and_repeats_all_the_same() -> None:
    observer = Observer()
    push(observer, [quote(number, TIME_US) for number in (1, 5, 5)])
    assert observer.proven() == {}
    (finding,) = observer.findings()
    assert finding.startswith("quote of ETHUSDT: 1 repeated")


def test_each_stream_has_its_own_figures() -> None:
    observer = Observer()
    arrivals = (TIME_US + SECOND_US, TIME_US + 3 * SECOND_US, TIME_US + 3 * SECOND_US + 1)
    push(observer, [quote(number, received) for number, received in enumerate(arrivals)])
    push(observer, [trade(SPOT, 1)])
    quotes, btc = observer.streams(TIME_US, TIME_US + 10 * SECOND_US)
    assert (quotes.message_type, quotes.symbol, quotes.events) == ("quote", "ETHUSDT", 3)
    assert quotes.per_second == pytest.approx(0.3)
    assert quotes.first_after_s == pytest.approx(1.0)
    assert quotes.longest_silence_s == pytest.approx(7.0, abs=0.001)
    assert quotes.p50_ms is None
    assert btc.p50_ms == pytest.approx(0.5, rel=0.06)
    assert observer.most_in_a_second == 2


def test_what_was_fetched_says_nothing_of_the_latency() -> None:
    observer = Observer()
    push(observer, [msgspec.structs.replace(trade(SPOT, 1), source="rest")])
    assert observer.latency.quantile(0.5) is None


def test_invalid_messages_are_counted_by_symbol_and_reason_with_an_example() -> None:
    observer = Observer()
    push(observer, [invalid("malformed", f"byte {number}") for number in range(3)])
    push(observer, [invalid("mistyped", "price")])
    first, second = observer.problems()
    assert (first.symbol, first.reason, first.count, first.example) == (
        *("BTCUSDT", "malformed"),
        *(3, "byte 0"),
    )
    assert (second.reason, second.count) == ("mistyped", 1)


def test_only_so_many_problems_are_named() -> None:
    observer = Observer()
    push(observer, [invalid(f"reason{number}", "") for number in range(PROBLEMS_MAX + 5)])
    assert len(observer.problems()) == PROBLEMS_MAX
