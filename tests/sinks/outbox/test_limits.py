"""What a partition accepts is learned from refusals, and tried again after a while."""

from hypothesis import given
from hypothesis import strategies as st

from bridge.core.records.record import Record
from bridge.sinks.outbox.limits import (
    MAX_REFUSED_IN_ROW,
    NO_TIMESTAMP,
    RECENT_MS,
    TRY_SIZE_AFTER_BATCHES,
    TRY_TIMESTAMPS_AFTER_BATCHES,
    BatchLimit,
    RefusedRecord,
    Timestamps,
)
from tests.support.spilling import route

TRADES = route("S")
TRADE = Record(TRADES, 1, 1_000, b"x" * 100)


def refuse(limit: BatchLimit, count: int) -> None:
    assert limit.refuse([TRADE] * count)


def take(limit: BatchLimit, batches: int) -> None:
    """Note accepted batches that are as large as the limit allows."""
    for _ in range(batches):
        limit.take([TRADE] * ((limit.bytes or 0) // 100))


def deliver(limit: BatchLimit, accepted: int, batches: int) -> int:
    """Send full batches to a topic that accepts `accepted` records. Return how many it refuses."""
    refused = 0
    for _ in range(batches):
        batch = [TRADE] * (100 if limit.bytes is None else max(limit.bytes // 100, 1))
        if len(batch) <= accepted:
            limit.take(batch)
        else:
            limit.refuse(batch)
            refused += 1
    return refused


def test_after_each_refusal_half_as_much_is_sent() -> None:
    limit = BatchLimit()
    refuse(limit, 8)
    assert limit.bytes == 400
    refuse(limit, 4)
    assert limit.bytes == 200
    assert limit.refused is None


def test_a_record_refused_alone_is_remembered_and_not_tried_twice() -> None:
    limit = BatchLimit()
    assert limit.refuse([TRADE])
    assert limit.refused is TRADE
    assert limit.bytes is None
    assert not limit.refuse([TRADE])


def test_more_is_tried_after_a_while() -> None:
    limit = BatchLimit()
    refuse(limit, 8)
    for _ in range(3):
        take(limit, TRY_SIZE_AFTER_BATCHES - 1)
        assert limit.bytes == 400
        take(limit, 1)
        assert limit.bytes == 800
        refuse(limit, 8)


def test_batches_that_the_limit_does_not_keep_small_do_not_raise_it() -> None:
    limit = BatchLimit()
    refuse(limit, 8)
    for _ in range(10 * TRY_SIZE_AFTER_BATCHES):
        limit.take([TRADE, TRADE])
    assert limit.bytes == 400


@given(accepted=st.integers(1, 30), incidents=st.integers(1, 5))
def test_a_topic_that_accepts_more_again_gets_large_batches_soon_also_after_many_refusals(
    accepted: int, incidents: int
) -> None:
    limit = BatchLimit()
    for _ in range(incidents):
        deliver(limit, accepted, 1_000)
        assert limit.bytes is not None
        deliver(limit, 100, 3 * TRY_SIZE_AFTER_BATCHES)
        assert limit.bytes is None


@given(accepted=st.integers(1, 30))
def test_a_topic_that_never_accepts_more_refuses_one_batch_in_a_hundred(accepted: int) -> None:
    learning = 10
    assert deliver(BatchLimit(), accepted, 10_000) <= 10_000 / TRY_SIZE_AFTER_BATCHES + learning


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
    for batches in (TRY_TIMESTAMPS_AFTER_BATCHES, 2 * TRY_TIMESTAMPS_AFTER_BATCHES):
        timestamps.refuse()
        for _ in range(batches - 1):
            timestamps.take()
        assert timestamps.refusals == 1
        timestamps.take()
        assert timestamps.refusals == 0


@given(
    refused=st.sets(st.integers(0, 199), max_size=MAX_REFUSED_IN_ROW),
    batch_size=st.integers(1, 200),
)
def test_halving_finds_each_refused_record_in_few_batches(
    refused: set[int], batch_size: int
) -> None:
    search = RefusedRecord()
    waiting = [Record(TRADES, 0, 0, b"x", number) for number in range(200)]
    found: list[int] = []
    accepted: list[int] = []
    batches = 0
    while waiting:
        batches += 1
        sent = waiting[: search.batch_size or batch_size]
        if refused.isdisjoint(record.identity for record in sent):
            search.take(len(sent))
            accepted += [record.identity for record in sent]
            del waiting[: len(sent)]
            continue
        assert search.refuse(sent)
        if search.record:
            assert waiting[0] is search.record
            found.append(waiting.pop(0).identity)
            search.dropped()
    assert found == sorted(refused)
    assert accepted == [number for number in range(200) if number not in refused]
    assert batches <= 200 // batch_size + 1 + len(refused) * 2 * (batch_size.bit_length() + 1)


def test_a_partition_that_refuses_every_record_keeps_all_except_the_first_few() -> None:
    search, dropped = RefusedRecord(), 0
    for number in range(100):
        if not search.refuse([Record(TRADES, number, 1_000, b"x")]):
            break
        search.dropped()
        dropped += 1
    assert dropped == MAX_REFUSED_IN_ROW
    assert not search.refuse([TRADE])
    assert search.record is None
    search.take(1)
    assert search.refuse([TRADE])


def test_a_record_that_nobody_drops_is_tried_at_once_only_once() -> None:
    search = RefusedRecord()
    assert search.refuse([TRADE])
    assert not search.refuse([TRADE])
