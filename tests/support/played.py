"""Compares the events in the topics with what the exchange has played."""

import asyncio
import json
import math
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord

from bridge.settings import Kafka as KafkaSettings
from bridge.tools.audit.run import audit_topic
from bridge.tools.simulator import SimulatedExchange

ARRIVAL_TIMEOUT_S = 120
# The exchange's name of each contiguous stream, by ours.
CONTIGUOUS = {"trade": "trade", "agg_trade": "aggTrade"}
# A partition is read from this many records before its end.
_TAIL = 2_000

# First and last id, by kind and symbol.
Ids = Mapping[tuple[str, str], tuple[int, int]]
# Returns the place of an id of a kind and symbol among all, which rises over a restart of the ids.
Number = Callable[[str, str, int], int]
# Returns whether a record is recent enough, by the time of its writing (ms, the broker's clock) and
# the time of its event (us, the market's clock).
IsFresh = Callable[[int, int], bool]


class _Row(msgspec.Struct, gc=False):
    symbol: str
    timestamp: int
    trade_id: int = -1
    agg_trade_id: int = -1


_decode = msgspec.json.Decoder(_Row).decode


def played_ids(exchange: SimulatedExchange, symbols: Iterable[str]) -> Ids:
    """Return the first and last ids played so far."""
    ranges = {
        (kind, symbol): exchange.history.id_range(f"{symbol.lower()}@{name}")
        for kind, name in CONTIGUOUS.items()
        for symbol in symbols
    }
    return {stream: ids for stream, ids in ranges.items() if ids}


async def arrived(
    bootstrap_servers: str,
    unique: str,
    wanted: Ids,
    is_fresh: IsFresh = lambda *_: True,
    number: Number = lambda _kind, _symbol, identity: identity,
) -> None:
    """Wait until the last id of each kind and symbol is in its topic, and records are fresh.

    `number` says which of two ids comes first.
    """
    async with asyncio.timeout(ARRIVAL_TIMEOUT_S):
        for kind in CONTIGUOUS:
            last = {symbol: ids[1] for (name, symbol), ids in wanted.items() if name == kind}
            if last:
                topic = f"{unique}.binance.spot.{kind}"
                async with AIOKafkaConsumer(topic, bootstrap_servers=bootstrap_servers) as consumer:
                    await _arrived(consumer, kind, last, is_fresh, number)


async def _arrived(
    consumer: AIOKafkaConsumer,
    kind: str,
    missing: dict[str, int],
    is_fresh: IsFresh,
    number: Number,
) -> None:
    try:
        for partition, end in (await consumer.end_offsets(consumer.assignment())).items():
            consumer.seek(partition, max(0, end - _TAIL))
        while missing:
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                for record in records:
                    row = _decode(record.value or b"")
                    place = number(kind, row.symbol, getattr(row, f"{kind}_id"))
                    reached = place >= missing.get(row.symbol, math.inf)
                    if reached and is_fresh(record.timestamp, row.timestamp):
                        del missing[row.symbol]
    except TimeoutError as error:
        raise TimeoutError(f"{kind}: {missing} did not arrive") from error


def of_symbol(records: "list[ConsumerRecord[bytes, bytes]]", symbol: str) -> list[dict[str, Any]]:
    return [json.loads(r.value or b"") for r in records if r.key == symbol.encode()]


def assert_all(events: list[dict[str, Any]], played: list[Any], id_field: str) -> None:
    """Check that ids are contiguous from the first one, and each event is as played."""
    ids = [event[id_field] for event in events]
    assert ids
    breaks = [(one, other) for one, other in pairwise(ids) if other != one + 1]
    assert breaks == [], f"{events[0]['symbol']}, {ids[0]} to {ids[-1]}: {breaks}"
    truth = {trade.id: trade for trade in played}
    for event in events:
        trade = truth[event[id_field]]
        assert (event["price"], event["volume"]) == (trade.price, trade.quantity)
        assert event["timestamp"] == trade.time_ms * 1000
        assert event["side"] == ("sell" if trade.buyer_is_maker else "buy")


async def assert_audit(bootstrap_servers: str, unique: str) -> None:
    """Check that the audit, which does not know the history, finds nothing unannounced."""
    options = KafkaSettings.model_validate(
        {"bootstrap_servers": bootstrap_servers, "topic": unique + ".{venue}.{message_type}"}
    )
    for kind in ("trade", "agg_trade", "quote"):
        report = await audit_topic(options, kind)
        assert report.findings == []
        assert report.symbols
