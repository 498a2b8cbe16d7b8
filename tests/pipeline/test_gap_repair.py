"""Holes are filled from REST, whatever REST does. The tests run in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from bridge.core.model.events import BlockTrade, Event, Gap, Trade
from bridge.core.sequencing.contiguous import Contiguous
from bridge.core.sequencing.rules import Head
from bridge.core.sequencing.sequencers import Repairable, new_sequencer
from bridge.errors import FeedRefused, FeedUnavailable
from bridge.pipeline.gap_repair import LATE_TIMEOUT_S, PARALLEL, Repairer
from bridge.settings import Repair
from tests.support.journal import Journal
from tests.support.virtual_time import VirtualTimeLoop

PAGE = 10


def trade(trade_id: int, source: str = "websocket") -> Trade:
    head = ("binance.spot", "BTCUSDT", trade_id, trade_id, source)
    return Trade(*head, trade_id, "1.0", "2.0", "buy")  # type: ignore[arg-type]


def block_trade(trade_id: int, source: str = "websocket") -> BlockTrade:
    head = ("binance.spot", "BTCUSDT", trade_id, trade_id, source)
    return BlockTrade(*head, trade_id, "1.0", "2.0", "buy")  # type: ignore[arg-type]


class Exchange:
    """A REST with a range of ids: it may lack some ids, lag behind, refuse requests or fail."""

    def __init__(self, last: int, *, lacking: Sequence[int] = ()) -> None:
        self.last = last
        self.lacking = set(lacking)
        self.errors: list[Exception] = []
        self.asked: list[int] = []
        self.newest: list[int | None] = []

    async def fetch(
        self, kind: str, symbol: str, from_id: int, newest_id: int | None = None
    ) -> list[Event]:
        assert (kind, symbol) == ("trade", "BTCUSDT")
        self.asked.append(from_id)
        self.newest.append(newest_id)
        await asyncio.sleep(0.05)
        if self.errors:
            raise self.errors.pop(0)
        ids = (i for i in range(from_id, self.last + 1) if i not in self.lacking)
        return [trade(i, "rest") for i, _ in zip(ids, range(PAGE), strict=False)]

    async def fetch_after(self, place: int, until: Event) -> list[Event]:
        assert isinstance(until, BlockTrade)
        self.asked.append(place)
        await asyncio.sleep(0.05)
        if self.errors:
            raise self.errors.pop(0)
        ids = (i for i in range(place + 1, self.last + 1) if i not in self.lacking)
        return [block_trade(i, "rest") for i, _ in zip(ids, range(PAGE), strict=False)]


class Bench:
    """A repairer, the stream it repairs, and the published events."""

    def __init__(
        self, exchange: Exchange, event_type: type[Event] = Trade, **options: float
    ) -> None:
        self.published: list[Event] = []
        self.sequencer = new_sequencer(event_type)
        # Set when the durable sink has every event that it has not dropped.
        self.has_all = asyncio.Event()
        self.has_all.set()
        self.given_up: set[int] = set()
        self.repairer = Repairer(
            Repair.model_validate(options),
            exchange,
            self.published.extend,
            given_up=self._given_up,
        )

    async def _given_up(self, kind: str, symbol: str, ids: Sequence[int]) -> set[int]:
        assert (kind, symbol) == ("trade", "BTCUSDT")
        assert set(ids) <= set(self.ids())
        await self.has_all.wait()
        return self.given_up.intersection(ids)

    def arrive(self, *ids: int) -> None:
        assert isinstance(self.sequencer, Repairable)
        make = trade if isinstance(self.sequencer, Contiguous) else block_trade
        for identity in ids:
            self.published += self.sequencer.accept(make(identity))
        if self.sequencer.hole:
            self.repairer.notice("BTCUSDT", self.sequencer)

    def cut(self) -> None:
        self.sequencer.interrupt("connection_lost")

    def ids(self) -> list[int]:
        return [e.trade_id for e in self.published if isinstance(e, Trade | BlockTrade)]

    def gaps(self) -> list[tuple[int | None, int | None, str, str]]:
        return [
            (gap.first_id, gap.last_id, gap.cause, gap.state)
            for gap in self.published
            if isinstance(gap, Gap)
        ]


def repaired(bench: Bench, script: Callable[[], Awaitable[None]], *, for_s: float = 1) -> None:
    """Run the script, and the repairer until `for_s` seconds after the script."""

    async def both() -> None:
        running = asyncio.create_task(bench.repairer.run())
        await script()
        await asyncio.sleep(for_s)
        running.cancel()
        await asyncio.wait([running])

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(both())


def test_a_hole_is_filled_in_order_over_several_pages() -> None:
    bench = Bench(Exchange(last=100))

    async def script() -> None:
        bench.arrive(1, 40)
        await asyncio.sleep(0.06)
        bench.arrive(41, 42)

    repaired(bench, script)
    assert bench.ids() == list(range(1, 43))
    assert bench.gaps() == []
    assert {e.source for e in bench.published[1:39]} == {"rest"}


def test_rest_that_is_behind_the_stream_is_asked_again() -> None:
    exchange = Exchange(last=3)
    bench = Bench(exchange)

    async def script() -> None:
        bench.arrive(1, 8)
        await asyncio.sleep(5)
        assert bench.ids() == [1, 2, 3]
        exchange.last = 8

    repaired(bench, script, for_s=5)
    assert bench.ids() == list(range(1, 9))
    assert bench.gaps() == []


def test_a_failing_rest_is_asked_again_and_not_at_once() -> None:
    exchange = Exchange(last=10)
    exchange.errors = [FeedUnavailable("reset"), FeedUnavailable("rate_limited", 3.0)]
    bench = Bench(exchange)

    async def script() -> None:
        bench.arrive(1, 5)
        await asyncio.sleep(3)
        assert bench.ids() == [1]

    repaired(bench, script, for_s=5)
    assert bench.ids() == [1, 2, 3, 4, 5]
    assert len(exchange.asked) == 3


def test_after_its_patience_the_stream_goes_on_and_the_gap_is_closed_later() -> None:
    exchange = Exchange(last=1)
    bench = Bench(exchange, timeout_s=10)

    async def script() -> None:
        bench.arrive(1, 4, 5)
        await asyncio.sleep(11)
        assert bench.ids() == [1, 4, 5]
        assert bench.gaps() == [(2, 3, "repair_timeout", "open")]
        bench.arrive(6)
        exchange.last = 100

    repaired(bench, script, for_s=60)
    assert bench.ids() == [1, 4, 5, 6, 2, 3]
    assert bench.gaps()[1:] == [(2, 3, "repair_timeout", "filled")]


def test_each_hole_of_a_stream_has_patience_of_its_own() -> None:
    exchange = Exchange(last=1)
    bench = Bench(exchange, timeout_s=10)

    async def script() -> None:
        bench.arrive(1, 3)
        for known in range(2, 12, 2):
            await asyncio.sleep(6)
            bench.arrive(known + 3)
            exchange.last = known

    repaired(bench, script, for_s=5)
    assert bench.ids() == list(range(1, 12))
    assert bench.gaps() == []


def test_the_waits_for_several_holes_do_not_add_up() -> None:
    bench = Bench(Exchange(last=1), timeout_s=10)

    async def script() -> None:
        for identity in range(1, 60, 2):  # one more hole every 4 s
            bench.arrive(identity)
            await asyncio.sleep(4)
            assert max(bench.repairer.held_s().values(), default=0) <= 10.1
            assert bench.ids()[-1] >= identity - 6

    repaired(bench, script)
    assert {cause for _, _, cause, _ in bench.gaps()} == {"repair_timeout"}


def test_holes_that_show_together_are_given_up_together() -> None:
    bench = Bench(Exchange(last=1), timeout_s=10)

    async def script() -> None:
        bench.arrive(1, *range(3, 40, 2))
        await asyncio.sleep(9)
        assert bench.ids() == [1]
        assert bench.repairer.held_s().keys() == {"trade of BTCUSDT"}
        await asyncio.sleep(1.2)
        assert bench.ids() == list(range(1, 40, 2))
        assert not bench.repairer.held_s()

    repaired(bench, script)


def test_one_answer_fills_all_holes_that_it_has_the_events_of() -> None:
    exchange = Exchange(last=100)
    bench = Bench(exchange)

    async def script() -> None:
        bench.arrive(1, 3, 5, 7, 9)

    repaired(bench, script)
    assert bench.ids() == list(range(1, 10))
    assert exchange.asked == [2]


def test_it_can_be_waited_for_until_nothing_is_held_back() -> None:
    exchange = Exchange(last=1)
    bench = Bench(exchange)

    async def script() -> None:
        bench.arrive(1, 3)
        waiting = asyncio.create_task(bench.repairer.filled())
        await asyncio.sleep(5)
        assert not waiting.done()
        exchange.last = 3
        await asyncio.wait_for(waiting, 5)
        assert bench.ids() == [1, 2, 3]

    repaired(bench, script)


def test_a_hole_that_closes_by_itself_is_not_asked_for() -> None:
    exchange = Exchange(last=10)
    bench = Bench(exchange)

    async def script() -> None:
        bench.arrive(1, 3)
        await asyncio.sleep(0.01)
        bench.arrive(2)

    repaired(bench, script)
    assert bench.ids() == [1, 2, 3]
    assert exchange.asked == []


def test_while_streams_wait_for_rest_others_are_repaired() -> None:
    exchange = Exchange(last=1)
    bench = Bench(exchange, timeout_s=600)
    waiting = [new_sequencer(Trade) for _ in range(PARALLEL)]

    async def script() -> None:
        exchange.last = 5
        for sequencer in waiting:
            assert isinstance(sequencer, Contiguous)
            sequencer.accept(trade(8))
            sequencer.accept(trade(10))
            bench.repairer.notice("BTCUSDT", sequencer)
        await asyncio.sleep(3)
        bench.arrive(1, 4)
        await asyncio.sleep(3)
        assert bench.ids() == [1, 2, 3, 4]

    repaired(bench, script)


def test_an_id_that_rest_passes_over_is_given_up_without_waiting_for_the_patience() -> None:
    bench = Bench(Exchange(last=50, lacking=[20, 30]), timeout_s=600)

    async def script() -> None:
        bench.arrive(1, 50)

    repaired(bench, script, for_s=60)
    assert bench.ids() == [i for i in range(1, 51) if i not in {20, 30}]
    assert bench.gaps() == [(20, 20, "not_in_history", "open"), (30, 30, "not_in_history", "open")]


def test_trades_that_come_by_themselves_after_all_close_their_gap() -> None:
    """REST is away, and a connection that was stalled brings what the exchange had reported."""
    bench = Bench(Exchange(last=1), timeout_s=10)

    async def script() -> None:
        bench.arrive(1)
        assert isinstance(bench.sequencer, Contiguous)
        bench.sequencer.reach(Head("binance.spot", "BTCUSDT", 3, 3, 3, 3))
        bench.arrive()
        await asyncio.sleep(11)
        assert bench.gaps() == [(2, 3, "repair_timeout", "open")]
        bench.arrive(2, 3, 4)

    repaired(bench, script, for_s=60)
    assert bench.ids() == [1, 4, 2, 3]
    assert bench.gaps()[1:] == [(2, 3, "repair_timeout", "filled")]


def test_what_cannot_be_had_in_the_end_is_said_to_be_lost() -> None:
    bench = Bench(Exchange(last=50, lacking=[20]))

    async def script() -> None:
        bench.arrive(1, 50)

    repaired(bench, script, for_s=LATE_TIMEOUT_S + 60)
    assert bench.gaps()[-1] == (20, 20, "not_in_history", "lost")


def test_what_is_still_asked_for_holds_no_later_hole() -> None:
    bench = Bench(Exchange(last=100, lacking=[20]), timeout_s=10)

    async def script() -> None:
        bench.arrive(19, 21)
        await asyncio.sleep(60)
        assert bench.gaps() == [(20, 20, "not_in_history", "open")]
        bench.arrive(25)

    repaired(bench, script)
    assert bench.ids() == [19, *range(21, 26)]


def test_what_is_still_asked_for_holds_no_other_stream() -> None:
    """This holds for any number of streams that wait for REST."""
    bench = Bench(Exchange(last=100, lacking=[20]), timeout_s=10)
    sequencers = [new_sequencer(Trade) for _ in range(PARALLEL + 1)]

    async def script() -> None:
        for sequencer in sequencers:
            assert isinstance(sequencer, Contiguous)
            for identity in (19, 21):
                sequencer.accept(trade(identity))
            bench.repairer.notice("BTCUSDT", sequencer)
        await asyncio.sleep(60)
        bench.arrive(30, 40)

    repaired(bench, script, for_s=5)
    assert bench.ids()[-11:] == list(range(30, 41))


def test_a_hole_that_is_too_large_holds_nothing_and_is_fetched_afterwards() -> None:
    bench = Bench(Exchange(last=100), max_ids=20)

    async def script() -> None:
        bench.arrive(1, 30)
        await asyncio.sleep(0.01)
        assert bench.ids() == [1, 30]

    repaired(bench, script, for_s=2)
    assert bench.gaps() == [(2, 29, "too_many_ids", "open"), (2, 29, "too_many_ids", "filled")]
    assert bench.ids() == [1, 30, *range(2, 30)]


def test_a_gap_is_called_filled_when_the_record_has_what_was_brought() -> None:
    """If the bridge were killed in between, the events would never be fetched again."""
    bench = Bench(Exchange(last=100), max_ids=20)

    async def script() -> None:
        bench.has_all.clear()
        bench.arrive(1, 30)
        await asyncio.sleep(2)
        assert bench.ids() == [1, 30, *range(2, 30)]
        assert [state for *_, state in bench.gaps()] == ["open"]
        bench.arrive(31, 33)
        await asyncio.sleep(2)
        assert bench.ids()[-3:] == [31, 32, 33]
        bench.has_all.set()

    repaired(bench, script)
    assert [state for *_, state in bench.gaps()] == ["open", "filled"]


def test_what_the_record_has_given_up_again_is_not_called_filled() -> None:
    bench = Bench(Exchange(last=100, lacking=[20]), max_ids=20)

    async def script() -> None:
        bench.given_up = {5, 6}
        bench.arrive(1, 30)

    repaired(bench, script, for_s=LATE_TIMEOUT_S + 60)
    assert bench.ids() == [1, 30, *range(2, 20), *range(21, 30)]
    states = [(first, last, state) for first, last, _, state in bench.gaps()]
    assert states == [
        (2, 29, "open"),
        (2, 4, "filled"),
        (7, 19, "filled"),
        (20, 20, "lost"),
        (21, 29, "filled"),
    ]


def test_a_short_refusal_delays_the_missing_trades_and_loses_none() -> None:
    exchange = Exchange(last=10)
    exchange.errors = [FeedRefused("451", "elsewhere")] * 4
    bench = Bench(exchange)

    async def script() -> None:
        bench.arrive(1, 3)

    repaired(bench, script, for_s=20)
    assert bench.ids() == [1, 2, 3]
    assert bench.gaps() == []


def test_a_refusal_that_lasts_holds_the_stream_only_for_its_patience() -> None:
    exchange = Exchange(last=10)
    exchange.errors = [FeedRefused("451", "elsewhere")] * 1000
    bench = Bench(exchange, timeout_s=10)

    async def script() -> None:
        bench.arrive(1, 3)
        await asyncio.sleep(11)
        assert bench.ids() == [1, 3]
        exchange.errors.clear()

    repaired(bench, script, for_s=60)
    assert bench.ids() == [1, 3, 2]
    assert [state for *_, state in bench.gaps()] == ["open", "filled"]


def test_a_repair_says_how_new_the_missing_trades_are() -> None:
    exchange = Exchange(last=100)
    bench = Bench(exchange)

    async def script() -> None:
        bench.arrive(1, 5, 90)

    repaired(bench, script)
    assert exchange.newest[0] == 90
    assert bench.ids() == [1, 2, 3, 4, *range(5, 91)]


def test_a_stream_that_is_noticed_often_is_repaired_once() -> None:
    exchange = Exchange(last=10)
    bench = Bench(exchange)

    async def script() -> None:
        bench.arrive(1, 5)
        bench.arrive(6)
        bench.arrive(8)

    repaired(bench, script)
    assert bench.ids() == list(range(1, 9))
    assert exchange.asked == [2]


def test_block_trades_missed_in_an_interruption_are_fetched_over_several_pages() -> None:
    exchange = Exchange(last=2, lacking=[5, 6])
    bench = Bench(exchange, BlockTrade)

    async def script() -> None:
        bench.arrive(1)
        bench.cut()
        bench.arrive(30)
        await asyncio.sleep(3)
        assert bench.ids() == [1]  # REST is behind
        exchange.last = 31
        bench.arrive(31)

    repaired(bench, script, for_s=5)
    assert bench.ids() == [1, 2, 3, 4, *range(7, 32)]
    assert bench.gaps() == [(None, None, "connection_lost", "filled")]
    assert bench.repairer.held_s() == {}


def test_block_trades_that_rest_does_not_bring_in_time_are_lost_and_hold_nothing_longer() -> None:
    bench = Bench(Exchange(last=1), BlockTrade, timeout_s=10)

    async def script() -> None:
        bench.arrive(1)
        for last in (5, 10):
            bench.cut()
            bench.arrive(last)
            await asyncio.sleep(4)
        assert list(bench.repairer.held_s()) == ["block_trade of BTCUSDT"]
        await asyncio.sleep(2.5)
        assert bench.ids() == [1, 5]
        await asyncio.sleep(4)
        assert bench.ids() == [1, 5, 10]

    repaired(bench, script)
    assert bench.gaps() == [(None, None, "connection_lost", "lost")] * 2


def test_a_host_without_such_a_history_is_not_waited_for(journal: Journal) -> None:
    for status in (400, 401, 404):
        exchange = Exchange(last=10)
        exchange.errors = [FeedRefused(f"HTTP {status}", "elsewhere", status=status)]
        bench = Bench(exchange, BlockTrade)

        async def script(bench: Bench = bench) -> None:
            bench.arrive(1)
            bench.cut()
            bench.arrive(5)

        repaired(bench, script, for_s=2)
        assert bench.ids() == [1, 5]
        assert bench.gaps() == [(None, None, "connection_lost", "lost")]
        assert f"HTTP {status}" in journal.named("repair_abandoned")[-1]["error"]


def test_more_missing_events_than_a_stream_waits_for_are_lost() -> None:
    exchange = Exchange(last=1000)
    bench = Bench(exchange, BlockTrade, max_ids=50)

    async def script() -> None:
        bench.arrive(1)
        bench.cut()
        bench.arrive(900)

    repaired(bench, script, for_s=5)
    assert bench.ids() == [1, 900]
    assert len(exchange.asked) <= 7
