"""The positions that are written for each stream, and their order."""

from collections.abc import Sequence

import msgspec

from bridge.core.model.events import STATUS
from bridge.core.records.record import NO_IDENTITY, Record, Route
from bridge.core.sequencing.completeness import Committed
from bridge.core.sequencing.position import Position, StreamKey, unpublished
from bridge.sinks.kafka.position_writer import PositionWriter
from bridge.sinks.outbox.outbox import PartitionQueue

YEAR_MS = 365 * 86_400_000


def record(symbol: str, identity: int, time_ms: int = 0) -> Record:
    """Return a record with its own route, like a record read from disk."""
    route = Route("trade", symbol, "trade", symbol.encode(), "", ())
    return Record(route, time_ms or identity, 0, b"value", identity)


def published(
    positions: PositionWriter, records: Sequence[Record], offset: int, partition: int
) -> None:
    queue = PartitionQueue("trade", partition, "trade")
    positions.published(queue, records, range(offset, offset + len(records)))


def written(positions: PositionWriter) -> list[tuple[str, int, int, int]]:
    """Flush, and return symbol, last id, partition and offset of each position, in order."""
    positions.flush()
    queue = next(iter(positions.outbox.idle()), PartitionQueue("position", 0, "position"))
    found = [msgspec.json.decode(record.value, type=Position) for record in queue.records]
    queue.in_flight = len(found)
    positions.outbox.acknowledge(queue)
    return [(p.symbol, p.last_id, p.partition, p.offset) for p in found]


def test_of_each_stream_the_last_record_is_written_by_its_place_in_the_partition() -> None:
    positions = PositionWriter("position")
    published(positions, [record("B", 5), record("A", 7), record("B", 6), record("A", 8)], 10, 0)
    assert written(positions) == [("B", 6, 0, 12), ("A", 8, 0, 13)]


def test_what_has_not_changed_is_not_written_again() -> None:
    positions = PositionWriter("position")
    published(positions, [record("A", 1), record("B", 1)], 0, 0)
    assert len(written(positions)) == 2
    assert written(positions) == []
    published(positions, [record("B", 2)], 2, 0)
    assert written(positions) == [("B", 2, 0, 2)]


def test_a_trade_brought_late_into_a_gap_moves_nothing() -> None:
    positions = PositionWriter("position")
    late = [record("A", 105), record("A", 101), record("A", 102)]
    published(positions, late, 0, 0)
    assert written(positions) == [("A", 105, 0, 0)]


def test_ids_that_count_from_the_start_again_are_followed() -> None:
    positions = PositionWriter("position")
    again = [record("A", number, YEAR_MS) for number in (1, 2, 3)]
    published(positions, [record("A", 10**9, 1), *again], 0, 0)
    assert written(positions) == [("A", 3, 0, 3)]


def test_a_late_trade_moves_nothing_after_a_start_either() -> None:
    positions = PositionWriter("position")
    positions.resume([Position("trade", "A", 105, 105_000, 0, 9)])
    written(positions)
    published(positions, [record("A", 101)], 10, 0)
    assert written(positions) == []


def test_where_ids_say_nothing_the_last_record_counts() -> None:
    positions = PositionWriter("position")
    published(positions, [record("A", NO_IDENTITY, time) for time in (5, 4)], 0, 0)
    assert written(positions) == [("A", NO_IDENTITY, 0, 1)]


def test_a_stream_that_has_moved_to_another_partition_is_found_there() -> None:
    positions = PositionWriter("position")
    published(positions, [record("A", 1)], 100, 0)
    published(positions, [record("A", 2)], 0, 1)
    assert written(positions) == [("A", 2, 1, 0)]


def test_what_tells_of_losses_has_no_position() -> None:
    positions = PositionWriter("position")
    positions.published(PartitionQueue("gap", 0, "gap"), [record("A", 1)], range(1))
    assert not positions.has_unwritten


def test_what_a_start_has_found_is_written_first() -> None:
    positions = PositionWriter("position")
    positions.resume(
        [Position("trade", s, 5, 5_000, 0, offset) for s, offset in (("A", 9), ("B", 3))]
    )
    assert written(positions) == [("B", 5, 0, 3), ("A", 5, 0, 9)]


def status(symbol: str, value: bytes) -> Record:
    return Record(Route(STATUS, symbol, STATUS, symbol.encode(), "", ()), 0, 0, value)


def sent(positions: PositionWriter) -> list[bytes]:
    """Return the statuses in the outbox as sent and acknowledged."""
    values = []
    for queue in positions.outbox.idle():
        values += [record.value for record in queue.records]
        queue.in_flight = len(queue.records)
        positions.outbox.acknowledge(queue)
    return values


def test_of_each_symbol_only_the_newest_status_waits() -> None:
    positions = PositionWriter("position")
    positions.push_statuses([status("A", b"1"), status("B", b"1")])
    for value in (b"2", b"3"):
        positions.push_statuses([status("A", value)])
    assert sent(positions) == [b"1", b"1"]
    assert positions.has_unwritten
    positions.flush()
    assert sent(positions) == [b"3"]
    assert not positions.has_unwritten


def test_statuses_that_wait_do_not_hold_positions_back() -> None:
    positions = PositionWriter("position")
    positions.push_statuses([status("A", b"1")])
    published(positions, [record("A", 1)], 0, 0)
    positions.flush()
    assert len(sent(positions)) == 2


def test_what_is_committed_ends_before_the_middle_one_of_the_last_three_times() -> None:
    """Further events may have the same time as the last one, and one of the times may be wrong."""
    positions = PositionWriter("position")
    key = StreamKey("trade", "A")
    assert positions.committed(key) is None
    found = []
    for identity, time_ms in enumerate((5_000, 9_999_000, 6_000, 7_000, 8_000)):
        published(positions, [record("A", identity, time_ms)], identity, 0)
        found.append(positions.committed(key))
    ends = (None, 4_999_999, 5_999_999, 6_999_999, 6_999_999)
    assert found == [Committed(identity, end) for identity, end in enumerate(ends)]


def test_a_start_knows_the_last_ids_and_no_times() -> None:
    """The time of a position may be a wrong one."""
    positions = PositionWriter("position")
    unheard = unpublished(StreamKey("trade", "B"), 7, 1)
    positions.resume([Position("trade", "A", 5, 5_000_000, 0, 9), unheard])
    for symbol, last_id in (("A", 5), ("B", 7)):
        assert positions.committed(StreamKey("trade", symbol)) == Committed(last_id, None)
