"""Merging Kafka's record and Redis' fast path: every event once, in order, as early as possible."""

from collections.abc import Iterable
from decimal import Decimal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bridge.client import AnyEvent, Gap, Trade
from bridge.client import merge as merging
from bridge.client.merge import IdEvent, Merge
from bridge.core.model.stream import SPOT


def trade(number: int, time: int | None = None, symbol: str = "BTCUSDT") -> Trade:
    time = 1000 + number if time is None else time
    return Trade(SPOT, symbol, time, 1, "websocket", number, Decimal(1), Decimal(1), "buy")


def gap(first: int, last: int, kind: str = "trade") -> Gap:
    ids = (first, last)
    return Gap(SPOT, "BTCUSDT", None, 1, "websocket", kind, *ids, None, None, "closed", "open")


def ids(events: Iterable[AnyEvent]) -> list[int]:
    return [event.trade_id for event in events if isinstance(event, Trade)]


def begun(number: int = 1) -> Merge:
    merge = Merge()
    assert ids(merge.recorded(trade(number))) == [number]
    return merge


def test_kafka_begins_a_stream_and_redis_waits_for_that() -> None:
    merge = Merge()
    assert ids(merge.published(trade(7))) == []
    assert ids(merge.published(trade(8))) == []
    assert ids(merge.recorded(trade(6))) == [6, 7, 8]


def test_events_of_redis_before_the_first_of_kafka_are_dropped() -> None:
    merge = Merge()
    assert ids(merge.published(trade(4))) == []
    assert ids(merge.recorded(trade(6))) == [6]
    assert merge.held_count == 0


def test_the_first_copy_passes_and_the_second_is_dropped() -> None:
    merge = begun()
    assert ids(merge.published(trade(2))) == [2]
    assert ids(merge.recorded(trade(2))) == []
    assert ids(merge.recorded(trade(3))) == [3]
    assert ids(merge.published(trade(3))) == []


def test_what_redis_has_missed_comes_from_kafka_first() -> None:
    merge = begun()
    assert ids(merge.published(trade(4))) == []
    assert ids(merge.recorded(trade(2))) == [2]
    assert ids(merge.recorded(trade(3))) == [3, 4]


def test_ids_that_kafka_passes_over_are_not_waited_for() -> None:
    merge = begun()
    assert ids(merge.published(trade(5))) == []
    assert ids(merge.recorded(trade(4))) == [4, 5]


def test_ids_that_a_gap_event_announces_are_not_waited_for() -> None:
    merge = begun()
    assert ids(merge.published(trade(6))) == []
    assert ids(merge.announce(gap(2, 3))) == []
    assert ids(merge.announce(gap(4, 5))) == [6]
    assert ids(merge.published(trade(7))) == [7]


def test_events_in_an_announced_gap_pass_before_the_first_one_after_it() -> None:
    merge = begun()
    assert ids(merge.announce(gap(2, 3))) == []
    assert ids(merge.published(trade(3))) == []
    assert ids(merge.published(trade(4))) == [3, 4]
    assert ids(merge.recorded(trade(2))) == [2]
    assert ids(merge.recorded(trade(3))) == []


def test_a_gap_event_for_another_kind_changes_nothing() -> None:
    merge = begun()
    merge.published(trade(3))
    assert merge.announce(gap(2, 2, "quote")) == []
    assert merge.announce(gap(2, 2, "agg_trade")) == []


def test_trades_that_are_fetched_late_come_late_and_once() -> None:
    merge = begun()
    assert ids(merge.recorded(trade(4))) == [4]
    assert ids(merge.published(trade(2))) == [2]
    assert ids(merge.recorded(trade(2))) == []
    assert ids(merge.recorded(trade(3))) == [3]
    assert ids(merge.published(trade(3))) == []


def test_a_late_trade_from_before_the_start_passes_when_kafka_brings_it() -> None:
    merge = begun(5)
    assert ids(merge.published(trade(3))) == []
    assert ids(merge.recorded(trade(3))) == [3]


def test_what_kafka_has_lost_passes_if_redis_has_brought_it() -> None:
    merge = begun()
    assert ids(merge.published(trade(3))) == []
    assert ids(merge.recorded(trade(5))) == [3, 5]
    assert ids(merge.recorded(trade(2))) == [2]


def test_kafka_restarts_the_ids_and_redis_follows() -> None:
    merge = begun(1000)
    assert ids(merge.published(trade(1, time=5000))) == []
    assert ids(merge.recorded(trade(1001))) == [1001]
    assert ids(merge.recorded(trade(1, time=5000))) == [1]
    assert ids(merge.published(trade(2, time=5001))) == [2]
    assert ids(merge.published(trade(1002))) == []
    assert ids(merge.recorded(trade(3, time=5002))) == [3]


def test_a_late_event_of_redis_from_before_a_restart_is_dropped() -> None:
    merge = begun(10)
    assert ids(merge.recorded(trade(7, time=5000))) == [7]
    assert ids(merge.published(trade(8))) == []
    assert ids(merge.published(trade(8, time=5001))) == [8]


def test_the_symbols_are_independent() -> None:
    merge = begun()
    assert ids(merge.published(trade(2, symbol="ETHUSDT"))) == []
    assert ids(merge.recorded(trade(1, symbol="ETHUSDT"))) == [1, 2]
    assert ids(merge.published(trade(2))) == [2]


def test_a_full_buffer_drops_its_oldest_events_and_kafka_brings_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(merging, "MAX_HELD_EVENTS", 3)
    merge = begun()
    for number in range(3, 8):
        assert merge.published(trade(number)) == []
    assert merge.held_count == 3
    assert merge.published(trade(9, symbol="ETHUSDT")) == []
    assert merge.held_count == 3
    passed = [number for each in range(2, 5) for number in ids(merge.recorded(trade(each)))]
    assert passed == [2, 3, 4, 5, 6, 7]
    assert merge.held_count == 0


LOWEST_ID = 1_000_000


class World(RuleBasedStateMachine):
    """The model is a list: what is in Kafka's record up to the place that was read.

    A restart of the ids begins the next generation, the millions of the times. Its ids are below
    all ids of the generation before.
    """

    def __init__(self) -> None:
        super().__init__()
        self.merge = Merge()
        self.generation = 1
        self.restarted_at = 0
        self.next_id = LOWEST_ID
        # What was written. A gap event may be read before the events before it, never after the
        # first event after it.
        self.record: list[Trade] = []
        self.gaps: list[tuple[int, Gap]] = []
        self.published: list[Trade] = []
        self.open: list[Trade] = []
        self.late: set[int] = set()
        self.read = 0
        self.passed: list[IdEvent] = []

    def made(self) -> Trade:
        event = trade(self.next_id, time=self.generation * 10**6 + self.next_id)
        self.next_id += 1
        return event

    @rule(in_redis=st.booleans())
    def a_trade_comes(self, in_redis: bool) -> None:  # noqa: FBT001
        self.write(self.made(), in_redis=in_redis)

    @rule(count=st.integers(1, 3), in_redis=st.booleans(), fetched=st.booleans())
    def kafka_misses_trades(self, count: int, in_redis: bool, fetched: bool) -> None:  # noqa: FBT001
        missed = [self.made() for _ in range(count)]
        self.gaps.append((len(self.record), gap(missed[0].trade_id, missed[-1].trade_id)))
        self.open += missed if fetched else []
        self.published += missed if in_redis else []
        self.late.update(map(key, missed))

    @precondition(lambda self: self.open)
    @rule(in_redis=st.booleans())
    def a_missing_trade_is_fetched(self, in_redis: bool) -> None:  # noqa: FBT001
        self.write(self.open.pop(0), in_redis=in_redis)

    @precondition(lambda self: self.record)
    @rule()
    def the_ids_restart(self) -> None:
        self.generation += 1
        self.next_id = LOWEST_ID - 1000 * self.generation
        self.open.clear()  # the exchange no longer has them
        self.restarted_at = len(self.record)
        self.write(self.made(), in_redis=True)

    def write(self, event: Trade, *, in_redis: bool) -> None:
        self.record.append(event)
        if in_redis:
            self.published.append(event)

    @precondition(lambda self: self.read < len(self.record))
    @rule()
    def kafka_is_read(self) -> None:
        while self.gaps and self.gaps[0][0] <= self.read:
            self.a_gap_is_read()
        event = self.record[self.read]
        self.read += 1
        self.passed += self.merge.recorded(event)

    @precondition(lambda self: self.gaps and self.read > self.restarted_at)
    @rule()
    def a_gap_is_read(self) -> None:
        self.passed += self.merge.announce(self.gaps.pop(0)[1])

    @precondition(lambda self: self.published)
    @rule()
    def redis_is_read(self) -> None:
        event = self.published.pop(0)
        newest = max((each.timestamp or 0 for each in self.passed), default=0)
        passed = self.merge.published(event)
        if newest and event.timestamp == newest + 1:
            assert passed[0] is event, "the next event of Redis passes at once"
        self.passed += passed

    @invariant()
    def every_event_passes_once(self) -> None:
        assert len(set(map(key, self.passed))) == len(self.passed)

    @invariant()
    def what_kafka_has_brought_has_passed(self) -> None:
        if self.read:
            assert set(map(key, self.record[: self.read])) <= set(map(key, self.passed))

    @invariant()
    def what_is_held_is_counted_and_still_to_come(self) -> None:
        streams = self.merge._streams.values()
        assert self.merge.held_count == sum(len(stream.held) for stream in streams)
        for stream in streams:
            assert stream._next_id is None or all(held > stream._next_id for held in stream.held)

    def teardown(self) -> None:
        while self.read < len(self.record):
            self.kafka_is_read()
        self.what_kafka_has_brought_has_passed()
        self.every_event_passes_once()
        in_order = [key(event) for event in self.passed if key(event) not in self.late]
        assert in_order == sorted(in_order)


def key(event: IdEvent) -> int:
    """Return the time, which is unique here, and rises with the ids."""
    return event.timestamp or 0


TestWorld = World.TestCase
TestWorld.settings = settings(max_examples=300, stateful_step_count=40)
