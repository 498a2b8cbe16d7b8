"""What reads input from outside, each with real inputs and a check of what may come of it.

A check raises if an input leads to anything else than a result or the error that callers expect.
"""

import asyncio
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from bridge.binance.rest import Rest
from bridge.binance.rest_client import RestClient
from bridge.client.events import UnreadableEvent, decode_event
from bridge.client.latest import UnreadablePrice, _latest
from bridge.core.binance.decode import Decoder
from bridge.core.binance.stream_names import parse_stream
from bridge.core.binance.subscription import subscribe, updated
from bridge.core.binance.weight_budget import WeightBudget
from bridge.core.delivery.open_gaps import OpenGaps
from bridge.core.model.events import Candle, Gap
from bridge.core.model.stream import SPOT
from bridge.core.model.unreadable import decode_ours
from bridge.core.records.record import Record, Route, Router
from bridge.core.records.recorded import position_of
from bridge.core.sequencing.arrivals import Arrivals
from bridge.core.sequencing.position import Position, where_to_continue
from bridge.core.sequencing.sequencers import Sequencers
from bridge.errors import FeedRefused, FeedUnavailable, SettingsError
from bridge.pipeline.pipeline import Pipeline
from bridge.settings import load_settings
from bridge.sinks.memory import MemorySink
from bridge.sinks.outbox import chunk_codec
from bridge.sinks.outbox.chunk_codec import CorruptChunk, Routes
from bridge.sinks.outbox.chunk_store import FILE, ChunkStore
from tests.support.events import FRAMES, RECEIVED, TEMPLATE, stream_name

MESSAGE_TYPES = ("trade", "agg_trade", "block_trade", "candle", "quote")


class Target(NamedTuple):
    """A reader of input from outside."""

    corpus: list[bytes]
    check: Callable[[bytes], None]


# --- frames of the exchange: separated by line breaks

_STREAMS = [
    *(parse_stream(stream_name(frame)) for frame in FRAMES.values()),
    parse_stream("!miniTicker@arr"),
    parse_stream("!ticker_1h@arr"),
]
_FRAMES = [
    *(frame.encode() for frame in FRAMES.values()),
    b"\n".join(frame.encode() for frame in FRAMES.values()),
    b"\n".join(FRAMES["trade"].replace("6732650448", str(i)).encode() for i in (7, 9, 8, 12, 12)),
    b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}',
    b'{"error":{"code":4,"msg":"Too many subscriptions"},"id":19}',
]


def check_frames(data: bytes) -> None:
    """Give frames to a whole pipeline; consumers can read all that it publishes."""
    sinks = (MemorySink(), MemorySink())
    pipeline = Pipeline(SPOT, Router(_STREAMS, TEMPLATE), Sequencers(_STREAMS), sinks)
    pipeline.handle_frames(
        Decoder(_STREAMS), data.split(b"\n"), RECEIVED, lambda _message: None, Arrivals()
    )
    assert [r.value for r in sinks[0].records] == [r.value for r in sinks[1].records]
    for record in sinks[0].records:
        assert decode_event(record.value).symbol == record.route.symbol
        assert 0 <= record.timestamp_ms < 2**63


# --- answers of REST

_SYMBOLS = ["BTCUSDT", "ETHUSDT"]
_CANDLE = Candle(
    *(SPOT, "BTCUSDT", RECEIVED, RECEIVED, "websocket", "1m", RECEIVED, RECEIVED + 60_000_000),
    *("1", "1", "1", "1", "1", "1", 1, "1", "1", True),  # type: ignore[arg-type]
)
_ANSWERS = [
    b'{"serverTime":1791600000123}',
    (
        b'{"rateLimits":[{"rateLimitType":"REQUEST_WEIGHT","interval":"MINUTE","intervalNum":1,'
        b'"limit":6000}],"symbols":[{"symbol":"BTCUSDT","status":"TRADING"},{"symbol":"ETHUSDT",'
        b'"status":"BREAK"}]}'
    ),
    (
        b'[{"id":7,"price":"1.5","qty":"2","quoteQty":"3","time":1791600000123,"isBuyerMaker":true,'
        b'"isBestMatch":true},{"id":9,"price":"1","qty":"2","time":1791600000124,"isBuyerMaker":false}]'
    ),
    b'[{"a":7,"p":"1.5","q":"2","f":7,"l":9,"T":1791600000123,"m":true,"M":true}]',
    b'[[1791600000000,"1","2","0.5","1.5","10",1791600059999,"15",3,"5","7","0"]]',
    (
        b'[{"symbol":"BTCUSDT","closeTime":1791600000123,"lastId":9,"firstId":1,"count":9},'
        b'{"symbol":"ETHUSDT","lastId":-1}]'
    ),
]


class _Client(RestClient):
    """Answers each request with the same body."""

    def __init__(self, body: bytes) -> None:
        self.budget = WeightBudget(6000, 1.0)
        self.url = "https://exchange"
        self.unreadable_rows = 0
        self._body = body

    async def _get(self, *_: object) -> bytes:
        return self._body


def check_answer(body: bytes) -> None:
    """Ask REST for everything, and get this answer."""
    rest = Rest.__new__(Rest)
    rest._client, rest._has_history = _Client(body), True
    asyncio.run(_ask_everything(rest))


async def _ask_everything(rest: Rest) -> None:
    for ask in (
        _ask_symbols,
        Rest.time_us,
        lambda rest: rest.fetch("trade", "BTCUSDT", 5),
        lambda rest: rest.fetch("trade", "BTCUSDT", 5, 9),
        lambda rest: rest.fetch("agg_trade", "BTCUSDT", 5),
        lambda rest: rest.fetch_after(5, _CANDLE),
        lambda rest: rest.last_trades(_SYMBOLS),
        lambda rest: rest.last_of("agg_trade", "BTCUSDT"),
    ):
        try:
            await ask(rest)
        except (FeedRefused, FeedUnavailable) as error:
            _check_text(error)


async def _ask_symbols(rest: Rest) -> None:
    listed = updated(updated(None, {"BTCUSDT": "BREAK"}), await rest.symbols())
    subscribe(["*", "BTCUSDT"], ["trade"], [], listed)


# --- the settings file

_SETTINGS = [
    (
        b"binance: {symbols: [BTCUSDT, '*USDT'], streams: [trade, kline_1m]}\n"
        b"kafka: {bootstrap_servers: [localhost:9092], password: x9}\n"
        b"redis:\n  url: redis://user:hunter2@localhost:6379/0\nlog:\n  level: info\n"
    ),
    (
        b"binance:\n  symbols: &a [BTCUSDT]\n  extra_streams: ['!miniTicker@arr']\n"
        b"repair: {timeout_s: 1.5, max_ids: 10}\ndata_dir: /tmp\n"
    ),
    b'{"binance": {"symbols": ["BTCUSDT"]}, "kafka": {"partitions": 3}}',
]


def check_settings(data: bytes) -> None:
    """Read a settings file: settings, or an error of bounded length without a secret."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "tickbridge.yaml")
        file.write_bytes(data)
        try:
            load_settings(file, environment={})
        except SettingsError as error:
            _check_text(error, 100_000)


# --- the file of records on disk


@cache
def _chunks() -> tuple[list[bytes], list[bytes]]:
    """Return a file with chunks, and the parts of a chunk without their checksums."""
    routes = [
        Route(kind, s, f"spot.{kind}", s.encode(), f"spot.{kind}:{s}", ())
        for kind in ("trade", "quote")
        for s in ("BTCUSDT", "ETHUSDT")
    ]
    records = [
        Record(route, 1_791_600_000_000 + number, RECEIVED, b'{"a":1}' * 3, number)
        for number in range(5)
        for route in routes
    ]
    with tempfile.TemporaryDirectory() as folder:
        store = ChunkStore(Path(folder), 2**26)
        for _ in range(3):
            store.append(records)
        store.close()
        file = Path(folder, FILE).read_bytes()
    parts = chunk_codec.write(records)[:2]
    return [file], [part[chunk_codec._CHECKSUM_BYTES :] for part in parts]


def check_file(data: bytes) -> None:
    """Open a file and read all of it: records, or an error of the disk."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, FILE).write_bytes(data)
        try:
            store = ChunkStore(Path(folder), 2**26)
        except (OSError, sqlite3.Error):
            return
        try:
            store.positions()
            store.ranges()
            for _ in range(10):
                if store.read() is None:
                    break
            store.remove(1)
        except (sqlite3.Error, CorruptChunk):
            store.recover()
        finally:
            store.close()


def check_chunk(body: bytes) -> None:
    """Read a part of a chunk whose checksum is right."""
    part = crc32(body).to_bytes(chunk_codec._CHECKSUM_BYTES) + body
    rows = []
    with suppress(CorruptChunk):
        rows = chunk_codec.read_routes(part)
    sound = chunk_codec.read_routes(chunk_codec._sealed(_chunks()[1][0]))
    for table in (rows, sound):
        with suppress(CorruptChunk):
            chunk_codec.read_records(part, table, Routes())


# --- records that may not be ours

_RECORDS = [
    (
        b'{"message_type":"trade","venue":"binance.spot","symbol":"BTCUSDT","timestamp":17,'
        b'"received":18,"source":"websocket","trade_id":5,"price":"1","volume":"2","side":"buy"}'
    ),
    (
        b'{"message_type":"candle","venue":"binance.spot","symbol":"BTCUSDT","timestamp":17,'
        b'"received":18,"source":"websocket","interval":"1m","open_time":1,"close_time":2,"open":"1",'
        b'"high":"1","low":"1","close":"1","volume":"1","quote_volume":"1","trade_count":1,'
        b'"taker_buy_volume":"1","taker_buy_quote_volume":"1","closed":true}'
    ),
    (
        b'{"message_type":"gap","venue":"binance.spot","symbol":"BTCUSDT","timestamp":null,'
        b'"received":18,"source":"websocket","kind":"trade","first_id":4,"last_id":9,"from_time":1,'
        b'"to_time":2,"cause":"closed","state":"open"}'
    ),
    b'{"message_type":"trade","symbol":"BTCUSDT","last_id":5,"time":17,"partition":0,"offset":3}',
    b'{"price":"1.5","price_time":"17","trade_id":"5","bid_price":"","feed":"live"}',
]
_decode_position = msgspec.json.Decoder(Position).decode
_decode_gap = msgspec.json.Decoder(Gap).decode
_decode_fields = msgspec.json.Decoder(dict[str, str]).decode


def check_record(value: bytes) -> None:
    """Read a record as a start, an audit, a client and a lookup do."""
    positions = [_decoded(_decode_position, value)]
    positions += [position_of(kind, value, 0, 7) for kind in MESSAGE_TYPES]
    known = [position for position in positions if position]
    where = where_to_continue(known, known)
    if gap := _decoded(_decode_gap, value):
        gaps = OpenGaps()
        for _ in range(3):
            gaps.see(gap)
        gaps.go_back(where)
        for position in known:
            gaps.since(position.message_type)
            gaps.brought(position.stream_key, position.last_id)
        assert len([*gaps.left(), *gaps.filled(), *gaps.taken_back(where)]) < 10
    try:
        decode_event(value)
    except UnreadableEvent as error:
        _check_text(error)
    if fields := _decoded(_decode_fields, value):
        try:
            found = {k.encode(errors="replace"): v.encode() for k, v in fields.items()}
            _latest("BTCUSDT", "a key", found)
        except UnreadablePrice as error:
            _check_text(error)


def _decoded(decode: Callable[[bytes], Any], value: bytes) -> Any:
    return decode_ours(decode, value)


def _check_text(error: Exception, most: int = 1_000) -> None:
    """Check that an error has a bounded length, and no password of ours."""
    assert len(str(error)) < most
    assert "hunter2" not in str(error)


def targets() -> dict[str, Target]:
    """Return all targets by name."""
    file, parts = _chunks()
    return {
        "frames": Target(_FRAMES, check_frames),
        "answers": Target(_ANSWERS, check_answer),
        "settings": Target(_SETTINGS, check_settings),
        "file": Target(file, check_file),
        "chunks": Target(parts, check_chunk),
        "records": Target(_RECORDS, check_record),
    }
