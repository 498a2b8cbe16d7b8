"""Reads the topics for the fault tests."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord

from tests.faults.environment import Environment
from tests.support.brokers import read_topic
from tests.support.played import ARRIVAL_TIMEOUT_S

READ_TIMEOUT_S = 120
ID_FIELDS = {
    "trade": "trade_id",
    "agg_trade": "agg_trade_id",
    "quote": "update_id",
    "candle": "open_time",
}


class Row(msgspec.Struct, gc=False):
    """An event of any kind, with the fields that the tests check; times in microseconds."""

    symbol: str
    received: int
    source: str
    timestamp: int | None = None
    price: str = ""
    volume: str = ""
    side: str = ""
    trade_id: int = -1
    agg_trade_id: int = -1
    update_id: int = -1
    open_time: int = -1
    closed: bool = True


class Read(msgspec.Struct, gc=False):
    """An event in its topic: its id and, if the topic has it, the broker's time of writing."""

    id: int
    row: Row
    written_ms: int


class GapRow(msgspec.Struct):
    """A gap event; the ids are None if they are not contiguous."""

    symbol: str
    kind: str
    cause: str
    state: str
    from_time: int
    to_time: int
    first_id: int | None = None
    last_id: int | None = None

    @property
    def ids(self) -> range:
        """Return the ids that it announces."""
        if self.first_id is None or self.last_id is None:
            return range(0)
        return range(self.first_id, self.last_id + 1)


_decode = msgspec.json.Decoder(Row).decode
_decode_gap = msgspec.json.Decoder(GapRow).decode


async def read_kind(environment: Environment, kind: str) -> dict[str, list[Read]]:
    """Return all events of a kind by symbol, in the order of their partition, with their numbers as
    ids. The id of a candle is its open time; only its last state counts.
    """
    field = ID_FIELDS[kind]
    found: defaultdict[str, list[Read]] = defaultdict(list)
    for record in await _records(environment, kind):
        row = _decode(record.value or b"")
        if not row.closed:
            continue
        number = environment.number(kind, row.symbol, getattr(row, field))
        found[row.symbol].append(Read(number, row, record.timestamp))
    return found


async def read_gaps(environment: Environment) -> list[GapRow]:
    """Return all gap events, with the numbers of the ids that they announce."""
    gaps = [_decode_gap(record.value or b"") for record in await _records(environment, "gap")]
    for gap in gaps:
        if gap.first_id is not None and gap.last_id is not None:
            gap.first_id = environment.number(gap.kind, gap.symbol, gap.first_id)
            gap.last_id = environment.number(gap.kind, gap.symbol, gap.last_id)
    return gaps


async def closed(environment: Environment) -> None:
    """Wait until all ids that gap events announce as open are filled or lost."""
    topic = f"{environment.unique}.binance.spot.gap"
    missing: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=environment.kafka.bootstrap_servers,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        async with asyncio.timeout(ARRIVAL_TIMEOUT_S):
            while await _lags(consumer) or any(missing.values()):
                for records in (await consumer.getmany(timeout_ms=1000)).values():
                    for record in records:
                        _note(missing, _decode_gap(record.value or b""))
    except TimeoutError as error:
        counts = {stream: len(ids) for stream, ids in missing.items() if ids}
        raise TimeoutError(f"{topic}: still open, ids by stream: {counts}") from error
    finally:
        await consumer.stop()


async def _lags(consumer: AIOKafkaConsumer) -> bool:
    ends = await consumer.end_offsets(consumer.assignment())
    return any([await consumer.position(place) < end for place, end in ends.items()])


def _note(missing: Mapping[tuple[str, str], set[int]], gap: GapRow) -> None:
    if gap.state == "open":
        missing[gap.kind, gap.symbol].update(gap.ids)
    else:
        missing[gap.kind, gap.symbol].difference_update(gap.ids)


async def _records(environment: Environment, kind: str) -> list[ConsumerRecord]:
    topic = f"{environment.unique}.binance.spot.{kind}"
    servers = environment.kafka.bootstrap_servers
    return await read_topic(servers, topic, timeout_s=READ_TIMEOUT_S)
