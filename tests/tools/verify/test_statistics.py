"""The figures of a verification: exact ranges, and a timeline of bounded size."""

from decimal import Decimal

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.model.events import Event, Quote
from bridge.core.model.stream import SPOT
from bridge.core.records.record import Router
from bridge.tools.verify.report import Range
from bridge.tools.verify.statistics import MAX_MOMENTS, StreamStatistics, Timeline
from tests.support.sinks import TIME_US, trade

SECOND_US = 1_000_000


def statistics(*events: Event) -> StreamStatistics:
    router = Router([], "{venue}.{message_type}")
    records = [router.record(event) for event in events]
    made = StreamStatistics(records[0].route.message_type, "BTCUSDT", TIME_US)
    for record in records:
        made.add(record)
    return made


def test_a_range_has_every_digit_of_the_exchange() -> None:
    prices = ("0.00000001", "98765.43210000", "2")
    events = [trade(SPOT, number, price=price) for number, price in enumerate(prices)]
    report = statistics(*events).report(TIME_US, TIME_US + SECOND_US)
    assert report.prices == Range(Decimal("0.00000001"), Decimal("98765.43210000"))
    assert report.volumes == Range(Decimal("0.1"), Decimal("0.1"))
    assert b'"98765.43210000"' in msgspec.json.encode(report)


def test_a_stream_with_contiguous_ids_names_the_first_and_the_last() -> None:
    seen = statistics(*[trade(SPOT, number) for number in range(7, 12)])
    report = seen.report(TIME_US, TIME_US + SECOND_US)
    assert (report.first_id, report.last_id) == (7, 11)


def test_the_prices_of_quotes_reach_from_the_bid_to_the_ask() -> None:
    quote = Quote(SPOT, "BTCUSDT", None, TIME_US, "websocket", 1, "9.5", "3", "9.7", "0.2")
    report = statistics(quote).report(TIME_US, TIME_US + SECOND_US)
    assert report.prices == Range(Decimal("9.5"), Decimal("9.7"))
    assert report.volumes == Range(Decimal("0.2"), Decimal(3))
    assert (report.first_id, report.last_id) == (None, None)
    assert report.latency is None


@given(st.lists(st.integers(0, 20 * MAX_MOMENTS), min_size=1, max_size=50))
def test_a_timeline_of_any_length_keeps_every_event_and_its_place(seconds: list[int]) -> None:
    timeline, seconds = Timeline(), sorted(seconds)
    for second in seconds:
        timeline.add(TIME_US + second * SECOND_US, 1)
        timeline.observe(TIME_US + second * SECOND_US, 0.05)
    moments = timeline.moments()
    assert len(moments) <= MAX_MOMENTS
    length_s = moments[0].length_s
    for place, moment in enumerate(moments):
        here = [s for s in seconds if (s - seconds[0]) // length_s == place]
        assert (moment.at_s, moment.events) == (place * length_s, len(here))
        assert (moment.latency is not None) == bool(here)


def test_an_event_that_arrives_before_the_first_counts_with_the_first() -> None:
    timeline = Timeline()
    timeline.add(TIME_US, 1)
    timeline.add(TIME_US - 5 * SECOND_US, 1)
    assert [moment.events for moment in timeline.moments()] == [2]
