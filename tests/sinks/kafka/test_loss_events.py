"""Losses of the Kafka sink are announced in its topics, and block nothing."""

import asyncio
import json
from typing import Any

import pytest
from aiokafka.admin import NewTopic
from aiokafka.producer.message_accumulator import BatchBuilder

from bridge.core.model.events import Event
from bridge.core.records.record import Router
from bridge.core.sequencing.contiguous import Contiguous
from bridge.pipeline.gap_repair import Repairer
from bridge.settings.repair import Repair
from bridge.sinks.kafka.sink import KafkaSink
from bridge.tools.audit.run import audit_topic
from tests.sinks.kafka.test_sink import ids, options_for, sink_for
from tests.support.brokers import Kafka, administration, read_topic
from tests.support.sinks import Feeder, at_work, ticker, trade, trades

pytestmark = [pytest.mark.asyncio(loop_factories=["real"]), pytest.mark.timeout(90)]


async def events(kafka: Kafka, topic: str, count: int) -> list[dict[str, Any]]:
    records = await read_topic(kafka.bootstrap_servers, topic, count)
    assert len(records) == count
    return [json.loads(record.value) for record in records]


async def create_topic(kafka: Kafka, name: str, configs: dict[str, str]) -> None:
    """Create a topic with one partition."""
    async with administration(kafka) as admin:
        await admin.create_topics([NewTopic(name, 1, 1, topic_configs=configs)])


async def test_in_the_place_of_a_record_too_large_go_an_invalid_event_and_a_gap(
    kafka: Kafka, unique: str
) -> None:
    sink = sink_for(kafka.bootstrap_servers, unique)
    feeder = Feeder(sink)
    async with at_work(sink), asyncio.timeout(30):
        feeder.push(trade(unique, 1), trade(unique, 2, price="7" * 2**20), trade(unique, 3))
        await sink.drained()
        feeder.check()
    (invalid,) = await events(kafka, f"{unique}.invalid", 1)
    assert (invalid["reason"], invalid["symbol"]) == ("too_large", "BTCUSDT")
    assert invalid["detail"].startswith("trade 2 of BTCUSDT: 1048")
    assert len(invalid["payload"]) == 64 * 2**10
    (gap,) = await events(kafka, f"{unique}.gap", 1)
    assert (gap["kind"], gap["first_id"], gap["last_id"]) == ("trade", 2, 2)
    assert (gap["cause"], gap["state"]) == ("too_large", "lost")
    assert sink.counts.restored == {"invalid": 1, "gap": 1}
    assert sink.counts.gap_events == {("lost", "too_large"): 1}


async def test_what_a_broker_refuses_alone_is_too_large_and_what_it_refused_with_it_is_not(
    real_kafka: Kafka, unique: str
) -> None:
    kafka = real_kafka
    await create_topic(kafka, f"{unique}.trade", {"max.message.bytes": "20000"})
    sink = sink_for(kafka.bootstrap_servers, unique, compression="none")
    feeder = Feeder(sink)
    feeder.push(*trades(unique, range(300)), trade(unique, 300, price="1" * 30_000))
    feeder.push(*trades(unique, range(301, 400)))
    async with at_work(sink), asyncio.timeout(60):
        await sink.drained()
        feeder.push(*trades(unique, range(400, 450)))
        await sink.drained()
        feeder.check()
    expected = [number for number in range(450) if number != 300]
    assert ids(await read_topic(kafka.bootstrap_servers, f"{unique}.trade")) == expected
    assert sink.counts.dropped == {("trade", "too_large"): 1}
    (invalid,) = await events(kafka, f"{unique}.invalid", 1)
    assert "trade 300" in invalid["detail"]
    report = await audit_topic(options_for(kafka.bootstrap_servers), "trade", venue=unique)
    assert report.findings == []


async def test_a_record_that_a_rule_of_the_broker_refuses_is_set_aside_and_all_others_go_on(
    real_kafka: Kafka, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = real_kafka
    await create_topic(kafka, f"{unique}.trade", {"cleanup.policy": "compact"})
    append, refused = BatchBuilder.append, {7, 8, 150, 399}

    def append_some_without_key(builder: BatchBuilder, *, value: bytes, **fields: Any) -> object:
        event = json.loads(value)
        if event.get("message_type") == "trade" and event.get("trade_id") in refused:
            fields["key"] = None
        return append(builder, value=value, **fields)

    monkeypatch.setattr(BatchBuilder, "append", append_some_without_key)
    sink = sink_for(kafka.bootstrap_servers, unique)
    feeder = Feeder(sink)
    feeder.push(*trades(unique, range(400)))
    async with at_work(sink), asyncio.timeout(60):
        await sink.drained()
        feeder.check()
    expected = [number for number in range(400) if number not in refused]
    assert ids(await read_topic(kafka.bootstrap_servers, f"{unique}.trade")) == expected
    assert sink.counts.dropped == {("trade", "refused"): len(refused)}
    invalid = await events(kafka, f"{unique}.invalid", len(refused))
    assert {event["reason"] for event in invalid} == {"refused"}
    assert invalid[0]["detail"] == (
        f"trade 7 of BTCUSDT: topic {unique}.trade refuses it (INVALID_RECORD)"
    )
    gaps = await events(kafka, f"{unique}.gap", len(refused))
    assert [(gap["first_id"], gap["state"]) for gap in gaps] == [
        (number, "lost") for number in sorted(refused)
    ]
    report = await audit_topic(options_for(kafka.bootstrap_servers), "trade", venue=unique)
    assert report.findings == []


class History:
    """A fake REST client that has every trade."""

    def __init__(self, venue: str) -> None:
        self._venue = venue

    async def fetch(
        self, kind: str, symbol: str, from_id: int, _newest_id: int | None = None
    ) -> list[Event]:
        assert kind == "trade"
        return list(trades(self._venue, range(from_id, from_id + 1000), symbol))

    async def fetch_after(self, place: int, until: Event) -> list[Event]:
        raise AssertionError(f"candles and block trades are not fetched late: {place} {until}")


def overfilled(sink: KafkaSink, venue: str) -> Feeder:
    feeder = Feeder(sink, "trade", "ticker")
    feeder.push(ticker(venue, 1_000), ticker(venue, 2_000))
    feeder.push(*trades(venue, range(100, 8000)))
    return feeder


async def test_trades_given_up_are_announced_and_brought_back_later(
    kafka: Kafka, unique: str
) -> None:
    sink = sink_for(kafka.bootstrap_servers, unique, "trade", "ticker", outbox_max_bytes=2**20)
    feeder = overfilled(sink, unique)
    repairer = Repairer(
        Repair(),
        History(unique),
        sink.publish,
        given_up=sink.given_up,
        has_room=sink.has_room,
    )
    noticed = asyncio.Event()

    def notice(symbol: str, sequencer: Contiguous) -> None:
        repairer.notice(symbol, sequencer)
        noticed.set()

    sink.watch_losses(notice)
    async with at_work(sink), asyncio.timeout(30):
        repairing = asyncio.create_task(repairer.run())
        await noticed.wait()
        # Gap events take room too, so a few more trades are dropped.
        while (  # noqa: ASYNC110 - no event to wait for
            sink.counts.restored["trade"] < sink.counts.dropped["trade", "outbox_full"]
        ):
            await asyncio.sleep(0.01)
        await sink.drained()
        feeder.check()
        repairing.cancel()
    found = ids(await read_topic(kafka.bootstrap_servers, f"{unique}.trade"))
    assert sorted(found) == list(range(100, 8000))
    report = await audit_topic(options_for(kafka.bootstrap_servers), "trade", venue=unique)
    assert report.findings == []
    (stream,) = report.symbols
    assert stream.late == sink.counts.dropped["trade", "outbox_full"] > 1000
    gaps = await events(kafka, f"{unique}.gap", sink.counts.restored["gap"])
    announced, filled = (
        [(gap["first_id"], gap["last_id"]) for gap in gaps if gap["state"] == state]
        for state in ("open", "filled")
    )
    assert announced == filled
    assert all(last - first < 2**18 // 1000 for first, last in filled)
    (lost,) = [gap for gap in gaps if gap["kind"] == "ticker"]
    assert (lost["first_id"], lost["last_id"], lost["state"]) == (None, None, "lost")
    assert (lost["cause"], lost["from_time"], lost["to_time"]) == ("outbox_full", 1_000, 2_000)


async def test_what_is_not_given_up_is_acknowledged_when_that_is_said(
    kafka: Kafka, unique: str
) -> None:
    sink = sink_for(kafka.bootstrap_servers, unique)
    Feeder(sink).push(*trades(unique, range(50)))
    waiting = asyncio.create_task(sink.given_up("trade", "BTCUSDT", range(10, 50)))
    await asyncio.sleep(0)
    assert not waiting.done()
    async with at_work(sink), asyncio.timeout(30):
        assert await waiting == set()
        found = await read_topic(kafka.bootstrap_servers, f"{unique}.trade", 50)
    assert ids(found) == [*range(50)]


async def test_what_is_given_up_is_said_and_announced(kafka: Kafka, unique: str) -> None:
    sink = sink_for(kafka.bootstrap_servers, unique, batch_max_bytes=2**14)
    Feeder(sink).push(trade(unique, 1), trade(unique, 2, price="1" * 2**14), trade(unique, 3))
    waiting = asyncio.create_task(sink.given_up("trade", "BTCUSDT", [1, 2, 3]))
    await asyncio.sleep(0)
    async with at_work(sink), asyncio.timeout(30):
        assert await waiting == {2}
        (announced,) = await events(kafka, f"{unique}.gap", 1)
    assert (announced["first_id"], announced["last_id"]) == (2, 2)
    assert sink.counts.dropped["trade", "too_large"] == 1


async def test_what_tells_of_a_loss_is_the_last_to_be_dropped(unique: str) -> None:
    sink = sink_for("localhost:1", unique, outbox_max_bytes=2**20)
    router = Router((), "{venue}.{message_type}")
    loss = trade(unique, 1, price="7")
    sink.outbox.losses.add([router.record(loss)], "outbox_full")
    sink._losses.announce()
    overfilled(sink, unique)
    assert sink.counts.dropped["trade", "outbox_full"] > 1000
    assert sink.pending()["gap"] == 1


async def test_losses_grow_together_while_one_is_being_told(unique: str) -> None:
    sink = sink_for("localhost:1", unique, outbox_max_bytes=2**20)
    router = Router((), "{venue}.{message_type}")

    def lose(*ids: int) -> None:
        sink.outbox.losses.add([router.record(trade(unique, i)) for i in ids], "outbox_full")
        sink._losses.announce()

    lose(1, 2)
    (queue,) = sink.outbox.idle()
    queue.in_flight = 1
    for number in range(3, 200):
        lose(number)
    assert sink.pending()["gap"] == 1
    sink.outbox.acknowledge(queue)
    sink._losses.announce()
    (told,) = sink.outbox.in_queues()
    assert [json.loads(told.value)[name] for name in ("first_id", "last_id")] == [3, 199]


async def test_what_is_open_is_seen_to_by_who_comes_later(unique: str) -> None:
    sink = sink_for("localhost:1", unique, "trade", "ticker", outbox_max_bytes=2**20)
    overfilled(sink, unique)
    sink._losses.announce()
    noticed: list[tuple[str, bool]] = []
    sink.watch_losses(lambda symbol, sequencer: noticed.append((symbol, bool(sequencer.open_gaps))))
    assert noticed == [("BTCUSDT", True)]
