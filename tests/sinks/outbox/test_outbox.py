from collections import Counter, defaultdict
from gc import collect
from itertools import pairwise
from weakref import ref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bridge.core.records.record import Record, Route
from bridge.sinks.outbox.outbox import RECORD_OVERHEAD_BYTES, Outbox, PartitionQueue, size_of
from bridge.telemetry import SinkCounts
from tests.support.events import repeatable

MAX_BYTES = 4_000
BIGGEST = MAX_BYTES + 100


def route(symbol: str, message_type: str = "trade") -> Route:
    topic = f"binance.spot.{message_type}"
    return Route(message_type, symbol, topic, symbol.encode(), f"{topic}:{symbol}", ())


def record(of: Route, received: int, size: int = 10) -> Record:
    return Record(of, received // 1000, received, b"x" * size)


ROUTES = [route(f"S{index}", kind) for index in range(4) for kind in ("trade", "quote")]


class OutboxMachine(RuleBasedStateMachine):
    """Compares an outbox with a plain list of the records pushed for each symbol."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = SinkCounts()
        self.outbox = Outbox(MAX_BYTES, self.counts)
        self.now = 0
        self.pushed: Counter[str] = Counter()
        self.in_flight: dict[PartitionQueue, list[Record]] = {}
        self.in_doubt: dict[PartitionQueue, list[Record]] = {}
        # The waiting records of each route, oldest first: their order must not change.
        self.expected: dict[Route, list[Record]] = defaultdict(list)

    def queues(self) -> list[PartitionQueue]:
        return list(self.outbox._queues.values())

    def pending(self) -> list[Record]:
        return [record for queue in self.queues() for record in queue.records]

    def forget(self, gone: set[int]) -> None:
        for records in self.expected.values():
            records[:] = [record for record in records if id(record) not in gone]

    def dropped_since(self, before: list[Record]) -> list[Record]:
        left = set(map(id, self.pending()))
        return [record for record in before if id(record) not in left]

    @rule(of=st.sampled_from(ROUTES), size=st.integers(0, 600), pause=st.integers(0, 3))
    def push(self, of: Route, size: int, pause: int) -> None:
        self.now += pause
        self._push(record(of, self.now, size))

    @rule(of=st.sampled_from(ROUTES))
    def push_one_that_is_too_big(self, of: Route) -> None:
        self._push(record(of, self.now, BIGGEST))

    def _push(self, new: Record) -> None:
        before = [*self.pending(), new]
        waiting = {queue: list(queue.records)[queue.protected :] for queue in self.queues()}
        self.outbox.push(new)
        self.pushed[new.route.message_type] += 1
        self.expected[new.route].append(new)
        self.forget(set(map(id, self.dropped_since(before))))
        everything_flies = all(queue.protected == len(queue.records) for queue in self.queues())
        assert self.outbox.bytes <= MAX_BYTES or everything_flies
        for queue in self.queues():
            kept = list(queue.records)[queue.protected :]
            had = waiting.get(queue, []) + ([new] if queue is self.queue_of(new) else [])
            assert kept == had[len(had) - len(kept) :], "the oldest go, never one in the middle"

    def queue_of(self, of: Record) -> PartitionQueue:
        return self.outbox._queue_of[of.route]

    @precondition(lambda self: self.outbox.idle())
    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        queue = data.draw(st.sampled_from(range(len(self.outbox.idle()))), "queue")
        taken = self.outbox.idle()[queue]
        count = taken.in_doubt or data.draw(st.integers(1, len(taken.records)), "count")
        taken.in_flight = count
        self.in_flight[taken] = list(taken.records)[:count]
        self.in_doubt.pop(taken, None)

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        queue = list(self.in_flight)[data.draw(st.integers(0, len(self.in_flight) - 1), "queue")]
        published = self.outbox.acknowledge(queue)
        assert published == self.in_flight.pop(queue)
        for done in published:
            assert self.expected[done.route].pop(0) is done, "published out of turn"

    @rule()
    def release(self) -> None:
        self.outbox.release()
        self.in_doubt |= self.in_flight
        self.in_flight.clear()

    @precondition(lambda self: self.in_doubt)
    @rule(data=st.data())
    def find_committed(self, data: st.DataObject) -> None:
        """Read a tail: the first records of a failed batch were committed, or none."""
        queue = list(self.in_doubt)[data.draw(st.integers(0, len(self.in_doubt) - 1), "queue")]
        records = self.in_doubt.pop(queue)
        queue.in_flight = data.draw(st.integers(0, len(records)), "count")
        committed = self.outbox.acknowledge(queue)
        assert committed == records[: len(committed)]
        assert queue.protected == 0
        for done in committed:
            assert self.expected[done.route].pop(0) is done, "published out of turn"

    @rule()
    def settle(self) -> None:
        self.outbox.clear_in_doubt()
        self.in_doubt = {queue: kept for queue, kept in self.in_doubt.items() if queue.is_resting}

    @precondition(lambda self: self.queues())
    @rule(data=st.data())
    def rest(self, data: st.DataObject) -> None:
        """Kafka does not accept a partition: what was in flight is in doubt."""
        queue = data.draw(st.sampled_from(range(len(self.queues()))), "queue")
        resting = self.queues()[queue]
        resting.rest()
        if resting in self.in_flight:
            self.in_doubt[resting] = self.in_flight.pop(resting)

    @precondition(lambda self: self.outbox.resting())
    @rule()
    def wake(self) -> None:
        self.outbox.resting()[0].is_resting = False

    @rule(share=st.sampled_from([0.1, 0.5]))
    def trim(self, share: float) -> None:
        before = self.pending()
        others = [waiting for waiting in before if not self.queue_of(waiting).is_resting]
        self.outbox.resting_share = share
        self.outbox.trim_resting()
        dropped = self.dropped_since(before)
        assert not {id(waiting) for waiting in dropped} & {id(waiting) for waiting in others}
        self.forget(set(map(id, dropped)))
        resting = self.outbox.resting()
        left = size_of(waiting for queue in resting for waiting in queue.records)
        everything_is_kept = all(queue.protected == len(queue.records) for queue in resting)
        assert left <= MAX_BYTES * share or everything_is_kept

    @precondition(lambda self: self.queues())
    @rule(data=st.data(), count=st.integers(0, 5))
    def drop(self, data: st.DataObject, count: int) -> None:
        queue = self.queues()[data.draw(st.integers(0, len(self.queues()) - 1), "queue")]
        waiting = list(queue.records)[queue.protected :]
        self.outbox.drop(queue, count, "too_large")
        assert list(queue.records)[queue.protected :] == waiting[count:]
        self.forget(set(map(id, waiting[:count])))

    @rule(partitions=st.integers(1, 5))
    def assign(self, partitions: int) -> None:
        """Start a new producer. Only queues that rest have records of the old one in doubt."""
        self.release()
        self.settle()
        before = self.pending()
        resting = {(queue.topic, queue.partition) for queue in self.outbox.resting()}
        in_doubt = {(queue.topic, queue.partition): kept for queue, kept in self.in_doubt.items()}
        self.outbox.assign(lambda of: int(of.symbol[1:]) % partitions)
        self.forget(set(map(id, self.dropped_since(before))))
        queues = {(queue.topic, queue.partition): queue for queue in self.queues()}
        self.in_doubt = {queues[place]: kept for place, kept in in_doubt.items()}
        still = {(queue.topic, queue.partition) for queue in self.outbox.resting()}
        assert still == resting & queues.keys()

    @invariant()
    def every_symbol_keeps_its_order(self) -> None:
        waiting: dict[Route, list[Record]] = defaultdict(list)
        for pending in self.pending():
            waiting[pending.route].append(pending)
        assert {of: waiting[of] for of in ROUTES} == {of: self.expected[of] for of in ROUTES}

    @invariant()
    def a_symbol_is_in_one_queue(self) -> None:
        places: dict[Route, set[int]] = defaultdict(set)
        for queue in self.queues():
            for waiting in queue.records:
                places[waiting.route].add(id(queue))
        assert all(len(queues) == 1 for queues in places.values())

    @invariant()
    def nothing_in_flight_or_unsure_is_dropped(self) -> None:
        kept = {
            queue: list(queue.records)[: queue.protected]
            for queue in self.queues()
            if queue.protected
        }
        assert kept == self.in_flight | self.in_doubt
        awake = {queue for queue in self.in_doubt if not queue.is_resting}
        assert set(self.outbox.in_doubt()) >= awake

    @invariant()
    def bytes_are_those_of_the_records(self) -> None:
        sizes = [len(waiting.value) + RECORD_OVERHEAD_BYTES for waiting in self.pending()]
        assert (self.outbox.bytes, len(self.outbox)) == (sum(sizes), len(sizes))

    @invariant()
    def the_accounts_hold(self) -> None:
        accounted = self.counts.published + self.outbox.pending()
        for (message_type, cause), count in self.counts.dropped.items():
            assert cause in {"outbox_full", "too_large"}
            accounted[message_type] += count
        assert accounted == self.pushed

    @invariant()
    def idle_queues_have_records_and_none_in_flight_and_do_not_rest(self) -> None:
        idle = {queue for queue in self.queues() if queue.records and queue not in self.in_flight}
        assert set(self.outbox.idle()) == {queue for queue in idle if not queue.is_resting}

    @invariant()
    def the_oldest_is_known(self) -> None:
        arrivals = [waiting.received for waiting in self.pending()]
        assert self.outbox.oldest_received() == min(arrivals, default=None)


TestOutbox = OutboxMachine.TestCase
TestOutbox.settings = settings(repeatable, max_examples=150, stateful_step_count=60)


def outbox(max_bytes: int = 10**6) -> Outbox:
    return Outbox(max_bytes, SinkCounts())


def test_an_empty_outbox_has_nothing_to_send() -> None:
    empty = outbox()
    assert (len(empty), empty.bytes, empty.idle(), empty.oldest_received()) == (0, 0, [], None)
    assert not empty.pending()


def test_records_wait_in_one_queue_a_topic_until_the_partitions_are_known() -> None:
    box = outbox()
    for of in ROUTES:
        box.push(record(of, 1))
    assert {(queue.topic, queue.partition, len(queue.records)) for queue in box.idle()} == {
        ("binance.spot.trade", 0, 4),
        ("binance.spot.quote", 0, 4),
    }
    box.assign(lambda of: int(of.symbol[1:]))
    assert {(queue.topic, queue.partition) for queue in box.idle()} == {
        (f"binance.spot.{kind}", partition) for kind in ("trade", "quote") for partition in range(4)
    }


def test_queues_that_become_one_are_merged_by_the_time_of_arrival() -> None:
    box = outbox()
    box.assign(lambda of: int(of.symbol[1:]))
    for received, symbol in enumerate((2, 1, 2, 0, 1, 0)):
        box.push(record(ROUTES[symbol * 2], received))
    box.assign(lambda _: 0)
    (queue,) = box.idle()
    assert [waiting.received for waiting in queue.records] == [0, 1, 2, 3, 4, 5]


def test_a_symbol_keeps_its_order_in_a_merge_even_if_the_clock_went_back() -> None:
    box = outbox()
    box.assign(lambda of: int(of.symbol[1:]))
    pushed = [record(ROUTES[symbol * 2], at) for symbol, at in ((0, 9), (1, 7), (0, 3), (1, 8))]
    for new in pushed:
        box.push(new)
    box.assign(lambda _: 0)
    (queue,) = box.idle()
    for of in (ROUTES[0], ROUTES[2]):
        expected = [new for new in pushed if new.route is of]
        assert [waiting for waiting in queue.records if waiting.route is of] == expected


def test_an_outbox_keeps_nothing_of_an_earlier_producer_except_what_a_resting_topic_needs() -> None:
    box = outbox()
    box.push(record(ROUTES[0], 1))
    partitions = [lambda _: 0, lambda _: 0, lambda _: 0]
    first, second, third = map(ref, partitions)
    box.assign(partitions.pop(0))
    box.idle()[0].rest()
    for _ in range(2):
        box.assign(partitions.pop(0))
    collect()
    assert (first() is None, second() is None, third() is None) == (False, True, False)
    box.resting()[0].is_resting = False
    box.assign(lambda _: 0)
    collect()
    assert [each() for each in (first, second, third)] == [None] * 3


def test_a_full_outbox_drops_from_the_queue_with_the_oldest_record() -> None:
    counts = SinkCounts()
    box = Outbox(3 * (RECORD_OVERHEAD_BYTES + 10) + 50, counts)
    for received, kind in enumerate(("trade", "quote", "trade", "quote", "quote")):
        box.push(record(route("BTCUSDT", kind), received))
    assert counts.dropped == {("trade", "outbox_full"): 1, ("quote", "outbox_full"): 1}
    assert sorted(waiting.received for queue in box.idle() for waiting in queue.records) == [
        2,
        3,
        4,
    ]


def test_room_is_made_a_hundredth_at_a_time() -> None:
    counts = SinkCounts()
    size = RECORD_OVERHEAD_BYTES + 10
    box = Outbox(1000 * size, counts)
    for received in range(1001):
        box.push(record(ROUTES[0], received))
    assert counts.dropped["trade", "outbox_full"] == 11
    assert box.oldest_received() == 11


def test_what_is_in_flight_is_kept_even_above_the_bound() -> None:
    counts = SinkCounts()
    box = Outbox(RECORD_OVERHEAD_BYTES + 10, counts)
    box.push(record(ROUTES[0], 1))
    (queue,) = box.idle()
    queue.in_flight = 1
    box.push(record(ROUTES[0], 2))
    assert [waiting.received for waiting in queue.records] == [1]
    assert counts.dropped == {("trade", "outbox_full"): 1}
    assert [done.received for done in box.acknowledge(queue)] == [1]
    assert counts.published == {"trade": 1}


def test_a_failed_batch_is_sent_again_before_what_came_after_it() -> None:
    box = outbox()
    box.push(record(ROUTES[0], 1))
    (queue,) = box.idle()
    queue.in_flight = 1
    box.push(record(ROUTES[0], 2))
    assert box.idle() == []
    box.release()
    assert box.idle() == [queue]
    assert all(one.received < next_.received for one, next_ in pairwise(queue.records))


def test_no_more_is_dropped_than_waits() -> None:
    counts = SinkCounts()
    box = Outbox(10**6, counts)
    box.push(record(ROUTES[0], 1))
    box.drop(box.idle()[0], 5, "too_large")
    assert counts.dropped == {("trade", "too_large"): 1}
    assert len(box) == box.bytes == 0


@pytest.mark.parametrize("size", [0, 1, 5000])
def test_an_empty_queue_has_room_for_the_next(size: int) -> None:
    box = outbox()
    for received in range(3):
        box.push(record(ROUTES[0], received, size))
        (queue,) = box.idle()
        queue.in_flight = 1
        box.acknowledge(queue)
    assert box.bytes == 0


def test_a_gap_event_goes_before_anything_else_and_alone() -> None:
    """The records after it are in other topics: after a kill they could exist without the event."""
    outbox = Outbox(10**9, SinkCounts())
    trade, gap = (record(route("S", kind), 0) for kind in ("trade", "gap"))
    outbox.push(trade)
    outbox.push(gap)
    (first,) = outbox.sendable()
    assert first.message_type == "gap"
    first.in_flight = 1
    assert list(outbox.sendable()) == []
    outbox.acknowledge(first)
    assert [queue.message_type for queue in outbox.sendable()] == ["trade"]


def test_a_gap_event_pushed_while_others_are_handed_over_holds_the_rest_back() -> None:
    outbox = Outbox(10**9, SinkCounts())
    for kind in ("trade", "quote"):
        outbox.push(record(route("S", kind), 0))
    queues = outbox.sendable()
    next(queues)
    outbox.push(record(route("S", "gap"), 0))
    assert list(queues) == []


@given(st.lists(st.tuples(st.sampled_from(ROUTES), st.integers(0, 400)), max_size=30))
def test_what_one_read_brings_is_bounded_and_ordered_like_what_comes_alone(
    read: list[tuple[Route, int]],
) -> None:
    records = [record(of, number, size) for number, (of, size) in enumerate(read)]
    together, alone = Outbox(MAX_BYTES, SinkCounts()), Outbox(MAX_BYTES, SinkCounts())
    together.extend(records)
    for one in records:
        alone.push(one)
    assert together.bytes <= MAX_BYTES
    assert together.pending() + together.counts.published <= Counter(
        one.route.message_type for one in records
    )
    if sum(len(one.value) + RECORD_OVERHEAD_BYTES for one in records) <= MAX_BYTES:
        assert [queue.records for queue in together.idle()] == [
            queue.records for queue in alone.idle()
        ]
    for queue in together.idle():
        received = [one.received for one in queue.records]
        assert received == sorted(received)
        last = [one for one in records if one.route.topic == queue.topic][-1]
        assert queue.records[-1] is last
