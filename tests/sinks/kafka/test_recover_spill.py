"""A process stops in the middle of its records on disk; the next one continues exactly there."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import ConsumerRecord

from bridge.sinks.kafka.sink import KafkaSink
from bridge.sinks.outbox.chunk_store import ChunkStore
from tests.sinks.kafka.test_sink import ids, sink_for
from tests.support.brokers import Kafka, read_topic
from tests.support.journal import Journal
from tests.support.sinks import Feeder, at_work, ticker, trades

pytestmark = [pytest.mark.asyncio(loop_factories=["real"]), pytest.mark.timeout(90)]

SYMBOLS = ["BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT"]
COUNT = 4000
LARGE = 2**30


def sink_on(folder: Path, kafka: Kafka, venue: str) -> KafkaSink:
    kinds = ("trade", "ticker")
    options = {"outbox_max_bytes": 4 * 2**20, "batch_max_bytes": 16 * 2**10}
    return sink_for(
        kafka.bootstrap_servers, venue, *kinds, store=ChunkStore(folder, LARGE), **options
    )


@asynccontextmanager
async def both_at_work(sink: KafkaSink) -> AsyncIterator[None]:
    assert sink.spiller
    async with at_work(sink):
        moving = asyncio.create_task(sink.spiller.run())
        try:
            yield
        finally:
            moving.cancel()
            await asyncio.wait((moving,))


async def spilled(sink: KafkaSink, venue: str) -> Feeder:
    """Push records until all are on disk, except those that are being read back."""
    assert sink.spiller
    feeder = Feeder(sink, "trade", "ticker")
    for start in range(0, COUNT, 100):
        for symbol in SYMBOLS:
            feeder.push(*trades(venue, range(start, start + 100), symbol))
        feeder.push(*(ticker(venue, moment) for moment in range(start + 1, start + 51)))
        await sink.spiller.work()
    assert sink.spiller.records_on_disk > COUNT
    return feeder


def moments(records: list[ConsumerRecord]) -> list[int]:
    return [json.loads(record.value)["timestamp"] for record in records]


@pytest.mark.usefixtures("real_kafka")
@pytest.mark.parametrize("published", [1, 3000, 12_000])
async def test_what_has_committed_of_it_is_not_sent_again_and_the_rest_is(
    published: int,
    kafka: Kafka,
    *,
    unique: str,
    tmp_path: Path,
    journal: Journal,
) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    sink = sink_on(before, kafka, unique)
    feeder = await spilled(sink, unique)
    async with both_at_work(sink):
        while sink.counts.published.total() < published:  # noqa: ASYNC110 - no event to wait for
            await asyncio.sleep(0)
    feeder.check()
    shutil.copytree(before, after)
    sink.close()

    sink = sink_on(after, kafka, unique)
    (entry,) = journal.named("spill_found")
    feeder = Feeder(sink, "trade", "ticker")
    assert entry["records"] == sink.counts.restored.total() == sink.pending().total()
    async with both_at_work(sink), asyncio.timeout(60):
        for symbol in SYMBOLS:
            feeder.push(*trades(unique, range(COUNT, COUNT + 10), symbol))
        await sink.drained()
        feeder.check()
    sink.close()
    assert sink.records_on_disk == 0
    (settled,) = journal.named("spill_reconciled")
    assert settled["committed"] > 0
    records = await read_topic(kafka.bootstrap_servers, f"{unique}.trade")
    for symbol in SYMBOLS:
        assert ids(records, symbol) == list(range(COUNT + 10))
    found = moments(await read_topic(kafka.bootstrap_servers, f"{unique}.ticker"))
    assert found == [n for start in range(0, COUNT, 100) for n in range(start + 1, start + 51)]
