"""The status of each symbol: the state of its feed, and how far its trades are complete."""

import asyncio
from unittest.mock import PropertyMock, patch

import msgspec
import pytest

from bridge.app.symbol_statuses import SymbolStatuses
from bridge.binance.connector import Connector, State
from bridge.core.model.events import SymbolStatus
from bridge.core.records.record import Record
from bridge.core.sequencing.completeness import Committed
from bridge.core.sequencing.rules import Head
from tests.support.exchange import trade
from tests.support.running_server import Running

BTC, ETH = "BTCUSDT", "ETHUSDT"
RECEIVED = 1_790_000_000_000_000


class Bench:
    """The statuses of a bridge at rest with the trades of two symbols."""

    def __init__(self, *, knows_positions: bool = True) -> None:
        self.running = Running()
        self.committed: dict[str, Committed] = {}
        self.statuses = SymbolStatuses(
            5.0,
            "{message_type}",
            bundles=lambda: self.running.feed.bundles,
            sequencers=self.running.sequencers,
            kafka=self.running.kafka,
            redis=self.running.redis,
            knows_positions=knows_positions,
        )

    async def changed(self, *unlisted: str) -> list[tuple[str, str]]:
        """Bring the statuses up to date; return the changed symbols and their states."""
        with patch.object(
            self.running.kafka, "committed", side_effect=lambda key: self.committed.get(key.symbol)
        ):
            changed = await self.statuses.update(unlisted, only_changed=True)
            await self.statuses.update(unlisted)
        return [(status.symbol, status.feed) for status in changed]

    def of(self, symbol: str) -> SymbolStatus:
        return self.statuses.latest[symbol]

    def reach(self, number: int, last_id: int, timestamp: int = RECEIVED) -> None:
        """Let the exchange report the last trade of a stream."""
        stream = self.running.feed.bundles[0][0].streams[number]
        sequencer = self.running.sequencers.contiguous(stream)
        assert sequencer is not None
        head = Head("binance.spot", BTC, timestamp, RECEIVED, last_id, last_id)
        sequencer.reach(head)


def arrive(bench: Bench, *ids: int) -> None:
    bench.running.connection.on_frames([trade(i).encode() for i in ids], RECEIVED)


async def test_a_symbol_is_down_until_a_connection_opens_and_live_from_then_on() -> None:
    bench = Bench()
    assert await bench.changed() == [(BTC, "down"), (ETH, "down")]
    bench.running.flow()
    assert await bench.changed() == [(BTC, "live"), (ETH, "live")]
    since = bench.of(BTC).since
    assert await bench.changed() == []
    assert bench.of(BTC).since == since


async def test_a_connector_that_the_exchange_refuses_makes_its_symbols_refused() -> None:
    bench = Bench()
    with patch.object(Connector, "state", PropertyMock(return_value=State.REFUSED)):
        assert await bench.changed() == [(BTC, "refused"), (ETH, "refused")]


async def test_a_symbol_that_the_exchange_does_not_list_is_refused() -> None:
    bench = Bench()
    bench.running.flow()
    assert ("NOSUCH", "refused") in await bench.changed("NOSUCH")
    assert bench.of("NOSUCH").complete_to is None


async def test_missing_trades_make_a_symbol_repairing() -> None:
    bench = Bench()
    bench.running.flow()
    await bench.changed()
    arrive(bench, 3)  # without 2
    assert await bench.changed() == [(BTC, "repairing")]
    arrive(bench, 2)
    assert await bench.changed() == [(BTC, "live")]


async def test_a_stalled_stream_stays_stale_until_it_brings_data() -> None:
    """A new connection that has not brought anything proves nothing."""
    bench = Bench()
    bench.running.flow()
    await bench.changed()
    with patch.object(Connector, "stalled", return_value=["btcusdt@trade"]):
        assert await bench.changed() == [(BTC, "stale")]
    assert await bench.changed() == []
    bench.running.connection.on_frames([trade(2).encode()], RECEIVED + 1)
    assert await bench.changed() == [(BTC, "live")]


async def test_a_removed_symbol_is_down_at_last() -> None:
    bench = Bench()
    bench.running.flow()
    await bench.changed()
    coverage = bench.running.feed.bundles[0][0].coverage
    coverage.set_streams([stream for stream in coverage.streams if stream.symbol != ETH])
    assert await bench.changed() == [(ETH, "down")]
    assert [*bench.statuses.latest] == [BTC]


async def test_a_symbol_is_complete_as_far_as_kafka_has_its_trades() -> None:
    bench = Bench()
    bench.running.flow()
    await bench.changed()
    assert (bench.of(BTC).trade_id, bench.of(BTC).complete_to) == (None, None)
    bench.committed[BTC] = Committed(1, 1_000)
    await bench.changed()
    assert (bench.of(BTC).trade_id, bench.of(BTC).complete_to) == (1, 1_000)
    assert bench.of(BTC).checked is None
    bench.reach(0, 1)
    await bench.changed()
    assert bench.of(BTC).complete_to == RECEIVED - 1_000_000
    assert bench.of(BTC).checked == RECEIVED


async def test_a_symbol_that_has_never_traded_is_complete_to_the_exchanges_report() -> None:
    bench = Bench()
    bench.reach(1, -1)
    bench.committed[ETH] = Committed(-1, None)
    await bench.changed()
    assert (bench.of(ETH).trade_id, bench.of(ETH).complete_to) == (None, RECEIVED - 1_000_000)


async def test_after_a_start_without_kafka_nothing_is_said_to_be_complete() -> None:
    bench = Bench(knows_positions=False)
    bench.running.flow()
    bench.committed[BTC] = Committed(1, 1_000)
    await bench.changed()
    assert (bench.of(BTC).trade_id, bench.of(BTC).complete_to) == (None, None)


@pytest.mark.parametrize("ending", [False, True])
async def test_statuses_go_to_both_sinks_and_are_in_no_account(*, ending: bool) -> None:
    bench = Bench()
    bench.running.flow()
    pushed: list[Record] = []
    kafka, redis = bench.running.kafka, bench.running.redis
    before = [(sink.counts, sink.pending()) for sink in (kafka, redis)]
    with patch.object(kafka, "push_statuses", side_effect=pushed.extend):
        running = asyncio.create_task(bench.statuses.run(lambda: ()))
        while not pushed:  # noqa: ASYNC110
            await asyncio.sleep(0)
        if ending:
            bench.statuses.end()
        running.cancel()
    assert {record.route.topic for record in pushed} == {"status"}
    for record in (*pushed[-2:], *redis._statuses.values()):
        status = msgspec.json.decode(record.value, type=SymbolStatus)
        assert status.feed == ("down" if ending else "live")
    assert [(sink.counts, sink.pending()) for sink in (kafka, redis)] == before
