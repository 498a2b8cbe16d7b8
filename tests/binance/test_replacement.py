"""A connection is replaced before it is closed: nothing is lost, and no gap event is published."""

import asyncio
from itertools import pairwise
from types import SimpleNamespace

import pytest

from bridge.binance.connector import LOOK_S, State
from bridge.core.model.events import Gap
from bridge.core.policy.rotation import OVERLAP_S
from bridge.core.policy.silence import CONNECTION_FLOOR_S, STREAM_FLOOR_S
from bridge.core.sequencing.rules import time_of
from tests.support.exchange import (
    NAME,
    Answer,
    FakeExchange,
    Recorder,
    Script,
    Step,
    bridge,
    close,
    close_after,
    drop,
    market,
    send,
    trade,
)
from tests.support.journal import Journal

pytestmark = pytest.mark.timeout(30)

QUOTES = "btcusdt@bookTicker"
BOTH = (NAME, QUOTES)
SHUTDOWN = '{"e":"serverShutdown","E":1790000000000}'


def assert_whole(sink: Recorder) -> None:
    """Check that each trade is there once and in order, and that there is no gap event."""
    ids = sink.ids()
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert sink.gaps() == []


async def test_a_rotation_interrupts_nothing() -> None:
    exchange = FakeExchange([market(*BOTH)])
    async with exchange.serving(), bridge(exchange, *BOTH, connection_max_age_s=60) as running:
        await running.sink.until_id(70)
        assert_whole(running.sink)
        assert running.pipeline.counts.reconnects == {"rotation": 1}
        assert 60 <= exchange.opened_at[1] - exchange.opened_at[0] <= 60 + LOOK_S + 1
        assert exchange.closed_at[0] - exchange.opened_at[1] <= 2 * LOOK_S + 1
        assert len(exchange.opened_at) == 2


async def test_the_old_connection_stays_while_the_new_one_has_not_brought_all_streams() -> None:
    exchange = FakeExchange([market(*BOTH)], [market(NAME)])
    async with exchange.serving(), bridge(exchange, *BOTH, connection_max_age_s=60) as running:
        await running.sink.until_id(110)
        assert OVERLAP_S <= exchange.closed_at[0] - exchange.opened_at[1] <= OVERLAP_S + LOOK_S + 1
        assert_whole(running.sink)


async def test_a_new_connection_that_cannot_be_had_leaves_the_old_one_open(
    journal: Journal,
) -> None:
    failures: list[Script] = [Answer(503), [drop], Answer(451)]
    exchange = FakeExchange([market(*BOTH)], *failures, [market(*BOTH)])
    async with exchange.serving(), bridge(exchange, *BOTH, connection_max_age_s=60) as running:
        await journal.until("connection_down", 3)
        assert running.states() == [State.OPEN]
        await running.sink.until_id(400)
        assert_whole(running.sink)
        assert exchange.closed_at[0] > exchange.opened_at[4]


async def test_a_replacement_waits_at_the_rate_limiter_as_long_as_the_exchange_asks_for_quiet() -> (
    None
):
    quiet = Answer(429, {"Retry-After": "100"})
    exchange = FakeExchange([market(*BOTH)], quiet, [market(*BOTH)])
    async with exchange.serving(), bridge(exchange, *BOTH, connection_max_age_s=60) as running:
        await running.sink.until_id(180)
        assert exchange.asked_at[2] - exchange.asked_at[1] >= 99.999
        assert_whole(running.sink)


async def test_many_connectors_rotate_one_after_another() -> None:
    names = [f"s{number}usdt@trade" for number in range(6)]
    exchange = FakeExchange([market(*names, every_s=5)])
    options = {"streams_per_connection": 1, "connection_max_age_s": 240}
    async with exchange.serving(), bridge(exchange, *names, **options) as running:
        while len(exchange.opened_at) < 12:
            await running.sink.until(len(running.sink.events) + 1)
        rotations = sorted(exchange.opened_at.values())[6:]
        assert min(late - early for early, late in pairwise(rotations)) >= 5
        assert running.pipeline.counts.invalid.keys() <= {"unknown_stream"}


async def test_the_time_of_day_brings_a_rotation(monkeypatch: pytest.MonkeyPatch) -> None:
    quarter_to_four = 86_400 * 20_000 + 3600 * 3.75
    clock = SimpleNamespace(time=lambda: quarter_to_four)
    monkeypatch.setattr("bridge.binance.health.time", clock)
    exchange = FakeExchange([market(every_s=30)])
    async with exchange.serving(), bridge(exchange, rotation_time="04:00") as running:
        await running.sink.until_id(31)
        assert 900 <= exchange.opened_at[1] - exchange.opened_at[0] <= 900 + LOOK_S + 1


async def test_after_an_announced_shutdown_the_old_connection_stays_until_it_is_replaced() -> None:
    exchange = FakeExchange([send(trade(0), SHUTDOWN), market(*BOTH)], [market(*BOTH)])
    async with exchange.serving(), bridge(exchange, *BOTH) as running:
        await running.sink.until_id(10)
        assert exchange.opened_at[1] - exchange.opened_at[0] < 1
        assert exchange.closed_at[0] > exchange.opened_at[1]
        assert_whole(running.sink)
        assert running.pipeline.counts.reconnects == {"server_shutdown": 1}


async def test_an_announced_shutdown_that_comes_at_once_interrupts_nothing_either() -> None:
    ending = [market(*BOTH, seconds=20), send(SHUTDOWN), market(*BOTH, seconds=2)]
    exchange = FakeExchange([*ending, close_after(0)], [market(*BOTH)])
    async with exchange.serving(), bridge(exchange, *BOTH) as running:
        await running.sink.until_id(40)
        assert_whole(running.sink)


@pytest.mark.parametrize(
    ("end", "gaps"), [(close(), []), (drop, [("quote", "server_shutdown")])], ids=["closed", "cut"]
)
async def test_a_connection_that_breaks_off_before_the_new_one_has_brought_a_stream_is_announced(
    end: Step, gaps: list[tuple[str, str]]
) -> None:
    """The old connection may have failed to deliver quotes since before the new one was open. A
    connection that closes in order has delivered all. Trades need no gap event, because their ids
    show a loss.
    """
    old = [market(*BOTH, seconds=5), send(SHUTDOWN), market(NAME, seconds=5), end]
    exchange = FakeExchange(old, [market(NAME, seconds=10), market(*BOTH)])
    async with exchange.serving(), bridge(exchange, *BOTH) as running:
        await running.sink.until_id(30)
        assert exchange.opened_at[1] < exchange.closed_at[0] < exchange.opened_at[1] + 10
        assert running.sink.gaps() == gaps


async def test_a_silent_connection_is_replaced_and_the_silence_announced(journal: Journal) -> None:
    quotes = (QUOTES, "ethusdt@bookTicker")
    exchange = FakeExchange([market(*quotes, seconds=60)], [market(*quotes)])
    async with exchange.serving(), bridge(exchange, *quotes) as running:
        (entry,) = await journal.until("connection_stalled")
        assert sorted(entry["streams"]) == sorted(quotes)
        while len(running.sink.gaps()) < 2:
            await running.sink.until(len(running.sink.events) + 1)
        assert running.sink.gaps() == [("quote", "stalled")] * 2
        assert running.pipeline.counts.reconnects == {"stalled": 1}
        assert 60 <= exchange.opened_at[1] <= 60 + CONNECTION_FLOOR_S + 2 * LOOK_S + 1
        assert exchange.closed_at.get(0, 999) > exchange.opened_at[1]
        assert not journal.named("connection_down")


async def test_a_silence_of_quotes_alone_is_announced_before_the_next_quote(
    journal: Journal,
) -> None:
    stalling: Script = [market(*BOTH, seconds=60), market(NAME)]
    exchange = FakeExchange(stalling, [market(*BOTH)])
    async with exchange.serving(), bridge(exchange, *BOTH) as running:
        (entry,) = await journal.until("streams_stalled")
        assert (entry["streams"], entry["count"]) == ([QUOTES], 1)
        assert entry["connector"] == "connector-1"
        await running.sink.until_id(140)
        assert running.sink.gaps() == [("quote", "stalled")]
        assert running.sink.ids() == list(range(1, 141))
        assert 60 + STREAM_FLOOR_S <= exchange.opened_at[1] <= 60 + STREAM_FLOOR_S + 3 * LOOK_S


@pytest.mark.parametrize("payload", ["bookTicker", "depth5", "miniTicker"])
@pytest.mark.parametrize("alone", [False, True], ids=["with its connection", "alone"])
async def test_a_silence_is_announced_from_the_last_event_on(payload: str, *, alone: bool) -> None:
    """And not from the moment at which it shows: what was sent in between is lost too."""
    names = (NAME, f"btcusdt@{payload}")
    silence = market(NAME) if alone else close_after(10**6)
    exchange = FakeExchange([market(*names, seconds=60), silence], [market(*names)])
    async with exchange.serving(), bridge(exchange, *names) as running:
        while not running.sink.gaps():
            await running.sink.until(len(running.sink.events) + 1)
        events = running.sink.events
        place = next(i for i, event in enumerate(events) if isinstance(event, Gap))
        gap = events[place]
        assert isinstance(gap, Gap)
        assert gap.cause == "stalled"
        last, first = (
            next(event for event in some if event.__struct_config__.tag == gap.kind)
            for some in (reversed(events[:place]), events[place:])
        )
        assert (gap.from_time, gap.to_time) == (time_of(last), time_of(first))


async def test_a_stream_silent_on_the_new_connection_too_does_not_cost_one_after_another(
    journal: Journal,
) -> None:
    exchange = FakeExchange([market(*BOTH, seconds=60), market(NAME)], [market(NAME)])
    async with exchange.serving(), bridge(exchange, *BOTH) as running:
        await journal.until("streams_stalled")
        await running.sink.until_id(600)
        assert len(exchange.opened_at) == 2


async def test_two_connectors_open_at_different_times_and_the_loss_of_one_is_no_interruption(
    journal: Journal,
) -> None:
    cut: Script = [market(*BOTH, seconds=30), drop]
    exchange = FakeExchange(cut, [market(*BOTH)])
    async with exchange.serving(), bridge(exchange, *BOTH, redundancy=2) as running:
        await running.sink.until_id(40)
        assert exchange.opened_at[1] - exchange.opened_at[0] >= 5
        assert [entry["connector"] for entry in journal.named("connection_open")] == [
            "connector-1a",
            "connector-1b",
            "connector-1a",
        ]
        assert_whole(running.sink)
        one, other = (connector.arrivals for connector in running.feed.connectors)
        # The socket may hold more events than the test has seen. Each event was new exactly once.
        received = running.pipeline.counts.received
        assert one.events - one.duplicates + other.events - other.duplicates == sum(
            received.values()
        )
        assert one.behind + other.behind > 0


async def test_the_loss_of_both_connectors_at_once_is_announced_once() -> None:
    exchange = FakeExchange(
        [market(*BOTH, seconds=30), drop], [market(*BOTH, seconds=25), drop], [market(*BOTH)]
    )
    async with exchange.serving(), bridge(exchange, *BOTH, redundancy=2) as running:
        await running.sink.until_id(40)
        assert running.sink.gaps() == [("quote", "closed")]


async def test_a_connector_that_fell_silent_before_the_other_was_lost_does_not_hide_the_loss() -> (
    None
):
    deaf: Script = [market(*BOTH, every_s=0.25, seconds=60)]
    lost: Script = [market(*BOTH, every_s=0.25, seconds=58), drop]
    exchange = FakeExchange(deaf, lost, [market(*BOTH, every_s=0.25)])
    async with exchange.serving(), bridge(exchange, *BOTH, redundancy=2) as running:
        await running.sink.until_id(400)
        assert ("quote", "stalled") in running.sink.gaps()


async def test_rotation_never_takes_both_connectors_at_once() -> None:
    exchange = FakeExchange([market(*BOTH)])
    options = {"redundancy": 2, "connection_max_age_s": 80}
    async with exchange.serving(), bridge(exchange, *BOTH, **options) as running:
        await running.sink.until_id(500)
        end_s = asyncio.get_running_loop().time()
        moments = [*exchange.opened_at.values(), *exchange.closed_at.values()]
        counts = [exchange.open_at(moment) for moment in moments if 6 < moment < end_s]
        assert set(counts) == {2, 3}
        assert running.pipeline.counts.reconnects["rotation"] >= 10
        assert_whole(running.sink)
