"""What a partition accepts is learned from refusals, and tried again after a while."""

from bridge.core.records.record import Record
from bridge.sinks.outbox.limits import (
    BOUNDLESS_BYTES,
    NO_TIMESTAMP,
    RECENT_MS,
    TRY_AFTER_BATCHES,
    BatchLimit,
    Timestamps,
)
from tests.support.spilling import route

TRADES = route("S")
TRADE = Record(TRADES, 1, 1_000, b"x" * 100)


def refuse(limit: BatchLimit, count: int) -> None:
    limit.refuse([TRADE] * count)


def take(limit: BatchLimit, count: int) -> None:
    for _ in range(count):
        limit.take()


def test_after_each_refusal_half_as_much_is_sent() -> None:
    limit = BatchLimit()
    refuse(limit, 8)
    assert limit.bytes == 400
    refuse(limit, 4)
    assert limit.bytes == 200
    assert limit.refused is None


def test_a_record_refused_alone_is_remembered_as_such() -> None:
    limit = BatchLimit()
    refuse(limit, 1)
    assert limit.refused is TRADE
    assert limit.bytes is None


def test_more_is_tried_after_a_while_and_where_it_is_in_vain_ever_more_rarely() -> None:
    limit = BatchLimit()
    refuse(limit, 8)
    take(limit, TRY_AFTER_BATCHES - 1)
    assert limit.bytes == 400
    take(limit, 1)
    assert limit.bytes == 800
    refuse(limit, 8)
    take(limit, 2 * TRY_AFTER_BATCHES - 1)
    assert limit.bytes == 400
    take(limit, 1)
    assert limit.bytes == 800


def test_a_limit_that_is_gone_is_forgotten_in_the_end() -> None:
    limit = BatchLimit()
    refuse(limit, 2)
    take(limit, TRY_AFTER_BATCHES * 30)
    assert limit.bytes is None or limit.bytes >= BOUNDLESS_BYTES
    take(limit, TRY_AFTER_BATCHES)
    assert limit.bytes is None


NOW_MS = 1_790_000_000_000


def test_after_a_refusal_only_recent_times_are_kept_and_after_two_none() -> None:
    timestamps = Timestamps()
    recent, old, ahead = NOW_MS - RECENT_MS, NOW_MS - RECENT_MS - 1, NOW_MS + 7_200_000
    timestamps.refuse()
    assert [timestamps.replaced(each, NOW_MS) for each in (recent, old, ahead)] == [
        *(recent, NOW_MS, NOW_MS)
    ]
    for _ in range(2):
        timestamps.refuse()
        assert timestamps.replaced(recent, NOW_MS) == NO_TIMESTAMP


def test_the_times_of_events_are_tried_again_ever_later() -> None:
    timestamps = Timestamps()
    for batches in (TRY_AFTER_BATCHES, 2 * TRY_AFTER_BATCHES):
        timestamps.refuse()
        for _ in range(batches - 1):
            timestamps.take()
        assert timestamps.refusals == 1
        timestamps.take()
        assert timestamps.refusals == 0
