"""What a test reads from the topics, held against what the exchange has played."""

import asyncio
import json
from typing import Any

from aiokafka import ConsumerRecord

from bridge.audit.run import audit_topic
from bridge.settings import Kafka as KafkaSettings
from bridge.simulator import SimulatedExchange
from tests.brokers import read_topic

TIMEOUT_S = 60


async def arrived(
    bootstrap_servers: str, unique: str, wanted: dict[tuple[str, str], tuple[int, int] | None]
) -> None:
    """Wait until the last id of each kind and symbol is in its topic."""
    missing = {stream: ids[1] for stream, ids in wanted.items() if ids}
    async with asyncio.timeout(TIMEOUT_S):
        while missing:
            for kind in {kind for kind, _ in missing}:
                records = await read_topic(bootstrap_servers, f"{unique}.binance.spot.{kind}")
                for stream in [stream for stream in missing if stream[0] == kind]:
                    found = of_symbol(records, stream[1])
                    if found and found[-1][f"{kind}_id"] >= missing[stream]:
                        del missing[stream]


def of_symbol(records: "list[ConsumerRecord[bytes, bytes]]", symbol: str) -> list[dict[str, Any]]:
    return [json.loads(r.value or b"") for r in records if r.key == symbol.encode()]


def assert_all(events: list[dict[str, Any]], played: list[Any], id_field: str) -> None:
    """Contiguous from the first id on, and each as it was played."""
    ids = [event[id_field] for event in events]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    truth = {trade.id: trade for trade in played}
    for event in events:
        trade = truth[event[id_field]]
        assert (event["price"], event["volume"]) == (trade.price, trade.quantity)
        assert event["timestamp"] == trade.time_ms * 1000
        assert event["side"] == ("sell" if trade.buyer_is_maker else "buy")


def played_ids(
    exchange: SimulatedExchange, symbols: list[str]
) -> dict[tuple[str, str], tuple[int, int] | None]:
    """First and last id played so far, by kind and symbol."""
    return {
        (kind, symbol): exchange.history.id_range(f"{symbol.lower()}@{name}")
        for kind, name in (("trade", "trade"), ("agg_trade", "aggTrade"))
        for symbol in symbols
    }


async def assert_audit(bootstrap_servers: str, unique: str) -> None:
    """The audit, which knows nothing of all this, finds nothing that was not announced."""
    options = KafkaSettings.model_validate(
        {"bootstrap_servers": bootstrap_servers, "topic": unique + ".{venue}.{message_type}"}
    )
    for kind in ("trade", "agg_trade", "quote"):
        report = await audit_topic(options, kind)
        assert report.findings == []
        assert report.symbols
