"""The Redis sink against a server with scripted faults. The clock is virtual."""

import asyncio
import json

import pytest
from msgspec.structs import replace

from bridge.core.model.events import Event
from bridge.errors import FOREIGN_MAX_CHARACTERS
from bridge.sinks.redis.sink import MAX_DELAY_S, VALUES_REST_S
from tests.support.fake_redis import DONE, HANG_UP, STALL, FakeRedis, failed
from tests.support.journal import Journal
from tests.support.sinks import Feeder, at_work, trade, trades, until

pytestmark = [pytest.mark.asyncio(loop_factories=["virtual"]), pytest.mark.timeout(20)]

OOM = b"OOM command not allowed when used memory > 'maxmemory'."


def ids(redis: FakeRedis) -> list[int]:
    """Return the ids of the published trades."""
    return [
        json.loads(payload)["trade_id"] for flush in redis.flushes for payload in flush.payloads
    ]


async def published(redis: FakeRedis, count: int) -> None:
    await until(lambda: len(ids(redis)) >= count, redis.asked)


@pytest.mark.parametrize(
    "fault",
    [
        STALL,
        HANG_UP,
        b"-OOM command not allowed\r\n",
        b"-READONLY You can't write against a read only replica.\r\n",
        b"-LOADING Redis is loading the dataset in memory\r\n",
        b"-NOPERM this user has no permissions\r\n",
        b"-ERR anything else\r\n",
    ],
    ids=lambda fault: fault.split()[0].decode(),
)
async def test_a_flush_that_fails_is_sent_again_with_nothing_lost_or_out_of_order(
    fault: bytes, journal: Journal
) -> None:
    async with FakeRedis(flushing=(DONE, fault, fault)).serving() as redis:
        sink = redis.sink(flush_max_records=3)
        feeder = Feeder(sink)
        async with at_work(sink):
            feeder.push(*trades("fake", range(10)))
            await sink.drained()
            feeder.check()
            assert sink.ready
        assert ids(redis) == list(range(10))
        assert sink.counts.published == {"trade": 10}
        assert sink.counts.failures == {"unavailable": 2}
    assert journal.named("redis_unavailable")


@pytest.mark.parametrize(
    "fault",
    [b"-ERR %s\r\n" % (10_000 * b"x"), failed(b"ERR\n" + 10_000 * b"x")],
    ids=["of the server", "of a value"],
)
async def test_a_long_text_of_the_server_is_cut_in_the_log(fault: bytes, journal: Journal) -> None:
    async with FakeRedis(flushing=(DONE, fault)).serving() as redis:
        sink = redis.sink()
        feeder = Feeder(sink)
        async with at_work(sink):
            for number in range(2):
                feeder.push(*trades("fake", [number]))
                await sink.drained()
    (error,) = [entry["error"] for entry in journal.entries if "error" in entry]
    assert len(error) <= len("Redis: ") + FOREIGN_MAX_CHARACTERS
    assert error.isprintable()
    assert "xxx" in error


async def test_a_script_the_server_has_forgotten_is_loaded_again(journal: Journal) -> None:
    async with FakeRedis(flushing=(DONE, b"-NOSCRIPT No matching script\r\n")).serving() as redis:
        sink = redis.sink()
        feeder = Feeder(sink)
        async with at_work(sink):
            for number in range(3):
                feeder.push(*trades("fake", [number]))
                await sink.drained()
        assert ids(redis) == [0, 1, 2]
        assert redis.loads == 1
        assert redis.connections == 1
    assert journal.named("redis_unavailable") == []


async def test_a_hung_server_is_given_up_after_the_time_set(journal: Journal) -> None:
    async with FakeRedis(flushing=(STALL,)).serving() as redis:
        sink = redis.sink(timeout_s=0.7)
        feeder = Feeder(sink)
        async with at_work(sink):
            feeder.push(*trades("fake", [1]))
            await journal.until("redis_unavailable")
            assert asyncio.get_running_loop().time() < 0.8
            assert not sink.ready
            feeder.check()
            await sink.drained()
        assert ids(redis) == [1]


@pytest.mark.parametrize(
    "refusal",
    [
        b"-WRONGPASS invalid username-password pair or user is disabled.\r\n",
        b"-NOPERM User default has no permissions to run the 'eval' command\r\n",
        b"-NOAUTH Authentication required.\r\n",
    ],
    ids=lambda refusal: refusal.split()[0].decode(),
)
async def test_a_refusal_at_the_start_is_told_with_a_remedy_and_tried_again(
    refusal: bytes, journal: Journal
) -> None:
    async with FakeRedis(connecting=(refusal, refusal)).serving() as redis:
        sink = redis.sink(password="hush")
        feeder = Feeder(sink)
        async with at_work(sink):
            feeder.push(*trades("fake", [1]))
            entry, *_ = await journal.until("redis_refused")
            await sink.drained()
            assert sink.ready
            feeder.check()
        assert ids(redis) == [1]
    assert "redis.password" in entry["error"]
    assert "hush" not in str(journal.entries)
    assert sink.counts.failures == {"refused": 2}


async def test_a_refusal_later_is_waited_out(journal: Journal) -> None:
    refusal = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
    async with FakeRedis((DONE, refusal, refusal), (HANG_UP,)).serving() as redis:
        sink = redis.sink()
        async with at_work(sink):
            Feeder(sink).push(*trades("fake", [1]))
            await sink.drained()
        assert ids(redis) == [1]
        assert sink.counts.failures == {"unavailable": 1, "refused": 2}
    assert "redis.password" in journal.named("redis_refused")[0]["error"]


async def test_values_rest_while_there_is_no_room_for_them_and_messages_go_on(
    journal: Journal,
) -> None:
    no_room = (failed(OOM), DONE, DONE, DONE, DONE, failed(OOM))
    async with FakeRedis(flushing=no_room).serving() as redis:
        sink = redis.sink()
        feeder = Feeder(sink)
        async with at_work(sink):
            feeder.push(*trades("fake", [0]))
            await journal.until("redis_keeps_no_values")
            for number in range(1, 5):
                feeder.push(*trades("fake", [number]))
                await published(redis, number + 1)
                assert not sink.ready
            await sink.drained()
            assert sink.ready
            feeder.check()
        assert ids(redis) == list(range(5))
        # One value in the first flush, none in the next four, then one per rest until it is set.
        assert [flush.values for flush in redis.flushes] == [1, 0, 0, 0, 0, 1, 1]
        assert redis.flushes[-1].at_s >= 2 * VALUES_REST_S
    assert sink.counts.failures == {"values": 2}


async def test_a_server_without_room_is_asked_once_a_rest_and_no_more() -> None:
    async with FakeRedis(flushing=(failed(OOM),) * 1000).serving() as redis:
        sink = redis.sink()
        async with at_work(sink):
            Feeder(sink).push(*trades("fake", [0]))
            await asyncio.sleep(100)
        assert 90 <= len(redis.flushes) <= 102


async def test_a_server_become_a_replica_is_left_for_another_connection(journal: Journal) -> None:
    readonly = failed(b"READONLY You can't write against a read only replica.")
    async with FakeRedis(flushing=(readonly,)).serving() as redis:
        sink = redis.sink()
        feeder = Feeder(sink)
        async with at_work(sink):
            feeder.push(*trades("fake", [1]))
            await sink.drained()
            feeder.check()
        assert redis.connections == 2
        assert ids(redis) == [1]
    assert "replica" in journal.named("redis_unavailable")[0]["error"]


async def test_behind_values_conflate_and_the_oldest_messages_go_counted() -> None:
    async with FakeRedis().serving() as redis:
        sink = redis.sink(publish_max_records=10)
        feeder = Feeder(sink)
        feeder.push(*trades("fake", range(25)))
        assert sink.pending() == {"trade": 10}
        assert sink.counts.dropped == {("trade", "queue_full"): 15}
        async with at_work(sink):
            await sink.drained()
            feeder.check()
        assert ids(redis) == list(range(15, 25))
        assert [flush.values for flush in redis.flushes] == [1]


def late(trade_id: int) -> Event:
    """Return a trade that was fetched over REST to fill a gap."""
    return replace(trade("fake", trade_id), source="rest")


async def test_what_is_brought_late_does_not_displace_a_newer_value(journal: Journal) -> None:
    """The newer value may wait, or its flush may have failed in the meantime."""
    async with FakeRedis(flushing=(failed(OOM),)).serving() as redis:
        sink = redis.sink()
        feeder = Feeder(sink)
        feeder.push(trade("fake", 8), late(5))
        (waiting,) = sink._latest.values()
        assert waiting == trade("fake", 8)
        taken = sink._take()
        feeder.push(late(6))
        sink._put_back(taken)
        assert list(sink._latest.values()) == [trade("fake", 8)]
        async with at_work(sink):
            await journal.until("redis_keeps_no_values")
            await sink.drained()
            feeder.check()


async def test_it_has_room_when_half_of_its_queue_is_free() -> None:
    async with FakeRedis().serving() as redis:
        sink = redis.sink(publish_max_records=10, flush_max_records=1)
        Feeder(sink).push(*trades("fake", range(8)))
        async with at_work(sink):
            await sink.room()
            assert ids(redis) == [0, 1, 2]


async def test_nothing_waits_for_room_while_redis_is_away(journal: Journal) -> None:
    async with FakeRedis(flushing=(STALL,)).serving() as redis:
        sink = redis.sink(publish_max_records=10)
        async with at_work(sink):
            Feeder(sink).push(*trades("fake", range(8)))
            room = asyncio.ensure_future(sink.room())
            await until(lambda: bool(redis.refused), redis.asked)
            assert not room.done()
            await room
            assert journal.named("redis_unavailable")


async def test_the_bound_holds_for_what_comes_back_from_a_failed_flush(journal: Journal) -> None:
    async with FakeRedis(flushing=(STALL,)).serving() as redis:
        sink = redis.sink(publish_max_records=10)
        feeder = Feeder(sink)
        async with at_work(sink):
            feeder.push(*trades("fake", range(8)))
            await until(lambda: bool(redis.refused), redis.asked)
            feeder.push(*trades("fake", range(8, 16)))
            await journal.until("redis_unavailable")
            feeder.check()
            assert sink.counts.dropped == {("trade", "queue_full"): 6}
            await sink.drained()
        assert ids(redis) == list(range(6, 16))


async def test_a_server_that_is_away_is_tried_ever_more_rarely_up_to_a_bound(
    journal: Journal,
) -> None:
    async with FakeRedis().serving() as redis:
        sink = redis.sink()
    async with at_work(sink):
        pauses = [entry["retry_in_s"] for entry in await journal.until("redis_unavailable", 30)]
    assert min(pauses) > 0
    assert MAX_DELAY_S / 2 < max(pauses) <= MAX_DELAY_S


async def test_a_stop_in_the_middle_of_a_flush_leaves_the_accounts_in_order() -> None:
    async with FakeRedis(flushing=(STALL,)).serving() as redis:
        sink = redis.sink()
        feeder = Feeder(sink)
        async with at_work(sink):
            feeder.push(*trades("fake", range(4)))
            await until(lambda: bool(redis.refused), redis.asked)
        feeder.check()
        assert sink.pending() == {"trade": 4}
