"""Ids that start again, and single wrong ids and times, on real brokers and over a restart."""

import asyncio
import json
from collections.abc import Iterable

import pytest
from redis.asyncio import Redis

from bridge.app.service import Service
from bridge.core.model.stream import SPOT
from bridge.core.records.latest_values import latest_key
from bridge.settings import load_settings
from bridge.tools.audit.run import audit_topic
from tests.support.brokers import Kafka, RedisAddress, read_topic
from tests.support.exchange import FakeExchange, FakeRest, Step, send, trade_of

BEGIN_MS = 1_790_000_000_000
IN_YEARS_S = 10**9

pytestmark = pytest.mark.timeout(90)


def counting(ids: Iterable[int], *, from_s: float) -> list[tuple[int, float]]:
    """Return ids with their times in seconds, two a second."""
    return [(number, from_s + place / 2) for place, number in enumerate(ids)]


async def test_ids_that_start_again_freeze_nothing_and_one_wrong_id_or_time_changes_nothing(
    kafka: Kafka, redis: RedisAddress, unique: str
) -> None:
    symbol = f"{unique}USDT".upper()
    name = f"{symbol.lower()}@trade"

    def trades(*ids_and_times: tuple[int, float]) -> Step:
        return send(
            *(
                trade_of(symbol, trade_id, name).replace(
                    f'"T":{BEGIN_MS}', f'"T":{BEGIN_MS + round(time_s * 1000)}'
                )
                for trade_id, time_s in ids_and_times
            )
        )

    old, new = range(10**6, 10**6 + 10), range(20)
    before = counting(old, from_s=0)
    before[3] = (before[3][0], IN_YEARS_S)
    before[5] = (before[5][0], before[5][1] - 5)
    before.insert(8, (7, 30))  # a stray
    first = trades(*before, *counting(new[:10], from_s=60))
    second = trades(*counting(new[5:], from_s=62.5))  # the last ones once more, then further ones
    async with (
        FakeExchange((first,), (second,)).serving() as exchange,
        FakeRest({symbol: "TRADING"}).serving() as rest,
        Redis.from_url(redis.url, decode_responses=True) as client,
    ):
        overrides = {
            "binance": {
                "symbols": [symbol],
                "streams": ["trade"],
                "websocket_url": exchange.url,
                "rest_url": rest.url,
                "proxy": "none",
            },
            "kafka": {
                "bootstrap_servers": kafka.bootstrap_servers,
                "topic": unique + ".{message_type}",
                "retention_ms": -1,
            },
            "redis": {"url": redis.url},
            "http": {"port": 0},
        }
        settings = load_settings(environment={}, overrides=overrides)
        for last_id in (new[9], new[-1]):
            service = Service(settings)
            running = asyncio.create_task(service.run())
            async with asyncio.timeout(30):
                while await client.hget(latest_key(SPOT, symbol), "trade_id") != str(last_id):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            service.stop()
            await running
        assert service.status.counts.ahead == {}
    records = await read_topic(kafka.bootstrap_servers, f"{unique}.trade", len(old) + len(new))
    ids = [json.loads(record.value)["trade_id"] for record in records]
    assert ids == [*old, *new]
    gaps = [
        json.loads(record.value)
        for record in await read_topic(kafka.bootstrap_servers, f"{unique}.gap", 1)
    ]
    assert [(gap["cause"], gap["first_id"]) for gap in gaps] == [("ids_restarted", None)]
    report = await audit_topic(settings.kafka, "trade")
    assert report.findings == []
    (stream,) = report.symbols
    assert [place.id for place in stream.restarts_announced.listed] == [0]
