"""Exactly once through outages of Kafka under a steady flow, proved by reading the topic."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from bridge.sinks.kafka import KafkaSink
from tests.brokers import KafkaBroker, read_topic
from tests.journal import Journal
from tests.sinks.support import Feeder, at_work, trades
from tests.sinks.test_kafka import SHORT, ids, sink_for

pytestmark = [pytest.mark.asyncio(loop_factories=["real"]), pytest.mark.timeout(120)]

SYMBOLS = [f"S{number}USDT" for number in range(8)]
# Longer than two producers wait for an acknowledgement.
PAUSE_S = 6.0
EVERY_S = 0.01


class Flow:
    """Trades of every symbol, a few every hundredth of a second."""

    def __init__(self, sink: KafkaSink, venue: str) -> None:
        self.pushed = 0
        self._feeder = Feeder(sink)
        self._venue = venue

    async def run(self) -> None:
        while True:
            for symbol in SYMBOLS:
                ids_now = range(self.pushed, self.pushed + 5)
                self._feeder.push(*trades(self._venue, ids_now, symbol))
            self.pushed += 5
            await asyncio.sleep(EVERY_S)


@asynccontextmanager
async def flowing(sink: KafkaSink, venue: str) -> AsyncIterator[Flow]:
    """The sink at work under a flow; at the end everything is delivered."""
    async with at_work(sink):
        flow = Flow(sink, venue)
        task = asyncio.create_task(flow.run())
        try:
            yield flow
        finally:
            task.cancel()
        async with asyncio.timeout(60):
            await sink.drained()


async def pause(kafka: KafkaBroker) -> None:
    await asyncio.to_thread(kafka.pause)
    await asyncio.sleep(PAUSE_S)
    await asyncio.to_thread(kafka.unpause)


async def kill(kafka: KafkaBroker) -> None:
    await asyncio.to_thread(kafka.kill)
    await asyncio.to_thread(kafka.start)


async def stop(kafka: KafkaBroker) -> None:
    await asyncio.to_thread(kafka.stop)
    await asyncio.to_thread(kafka.start)


Outage = Callable[[KafkaBroker], Awaitable[None]]


async def test_outages_under_a_flow_repeat_nothing_and_lose_nothing(
    own_kafka: KafkaBroker, unique: str, journal: Journal
) -> None:
    sink = sink_for(own_kafka.bootstrap_servers, unique, **SHORT)
    outages: list[Outage] = [pause, kill, stop, pause]
    async with flowing(sink, unique) as flow:
        await journal.until("kafka_connected")
        for number, outage in enumerate(outages, 1):
            await asyncio.sleep(0.5)
            await outage(own_kafka)
            await journal.until("kafka_connected", number + 1)
    records = await read_topic(own_kafka.bootstrap_servers, f"{unique}.trade")
    for symbol in SYMBOLS:
        assert ids(records, symbol) == list(range(flow.pushed))
    assert sink.counts.published == {"trade": flow.pushed * len(SYMBOLS)}
    assert sink.counts.dropped == {}
    assert journal.named("kafka_foreign_records") == []
