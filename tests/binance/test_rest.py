"""The exchange's REST interface: which requests are sent, and what becomes of the answers."""

import asyncio
import gzip
import tracemalloc
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
from aiohttp import web
from msgspec.structs import replace

from bridge.binance import rest_client
from bridge.binance.failures import REFUSED_MAX_S
from bridge.binance.rest import Rest
from bridge.core.model.events import BlockTrade, Candle
from bridge.errors import FeedRefused, FeedUnavailable
from tests.support.exchange import FakeExchange, options_for, served
from tests.support.journal import Journal

pytestmark = pytest.mark.timeout(20)

NEWEST = 5_000


class Request(NamedTuple):
    """A request that has arrived: the last part of its path, its query and its time."""

    name: str
    query: Mapping[str, str]
    at_s: float


class Server:
    """Trades 1 to NEWEST: `trades` has the latest thousand, `historicalTrades` is 50 behind.

    `answers` replaces the answers of a path by a status; `sends` are headers of the other answers.
    """

    def __init__(self, **answers: int) -> None:
        self.answers = answers
        self.requests: list[Request] = []
        self.headers: Mapping[str, str] = {}
        self.change: Callable[[Any], Any] = lambda rows: rows
        self.url = ""
        self.refuses_symbols = False
        self.sends: Mapping[str, str] = {}

    @asynccontextmanager
    async def serving(self, **binance: object) -> AsyncIterator[Rest]:
        async with served("/api/v3/{name:.*}", self._answer) as self.url:
            options = options_for(FakeExchange(), websocket_url="ws://127.0.0.1:9", **binance)
            async with Rest(options.binance.model_copy(update={"rest_url": self.url})) as rest:
                yield rest

    def names(self) -> list[str]:
        return [request.name for request in self.requests]

    async def _answer(self, request: web.Request) -> web.Response:
        name, query = request.match_info["name"], dict(request.query)
        self.requests.append(Request(name, query, asyncio.get_running_loop().time()))
        self.headers = request.headers
        if "symbols" in query and self.refuses_symbols:
            return web.json_response({"code": -1121, "msg": "Invalid symbol."}, status=400)
        if status := self.answers.get(name):
            return web.Response(status=status)
        from_id = int(query.get("fromId", 0))
        match name:
            case "trades":
                ids = range(NEWEST - 999, NEWEST + 1)
            case "historicalTrades":
                ids = range(from_id, min(from_id + 1000, NEWEST - 49))
            case "historicalBlockTrades":
                ids = range(from_id, from_id + 3)
            case "klines":
                begin = int(query["startTime"])
                rows = [kline(begin + n * 60_000) for n in range(3)]
                return web.json_response(self.change(rows), headers=self.sends)
            case _:
                ids = range(0)
        rows = self.change([row(identity) for identity in ids])
        return web.json_response(rows, headers=self.sends)


def row(identity: int) -> dict[str, Any]:
    time = 1_790_000_000_123_456
    return {"id": identity, "price": "1.5", "qty": "2", "time": time, "isBuyerMaker": True}


def kline(open_ms: int) -> list[Any]:
    prices = ["1.0", "4.0", "0.5", "2.0", "10.0"]
    return [open_ms, *prices, open_ms + 59_999, "20.0", 7, "3.0", "6.0", "0"]


def candle(open_ms: int, interval: str = "1m") -> Candle:
    times = (open_ms * 1000, open_ms * 1000 + 59_999_000)
    head = ("binance.spot", "BTCUSDT", times[1], 0, "rest", interval)
    figures = ("1.0", "4.0", "0.5", "2.0", "10.0", "20.0", 7, "3.0", "6.0")
    return Candle(*head, *times, *figures, closed=True)  # type: ignore[arg-type]


def day(symbol: str, last_id: int) -> dict[str, Any]:
    return {"symbol": symbol, "lastId": last_id, "closeTime": 1_790_000_000_123, "count": 1}


def ids(events: list[Any]) -> list[int]:
    return [event.trade_id for event in events]


async def test_trades_of_the_last_seconds_come_from_the_exchanges_memory() -> None:
    server = Server()
    async with server.serving() as rest:
        found = await rest.fetch("trade", "BTCUSDT", NEWEST - 10, NEWEST)
    assert ids(found) == list(range(NEWEST - 10, NEWEST + 1))
    assert server.names() == ["trades"]


@pytest.mark.parametrize("newest_id", [NEWEST, None], ids=["known", "unknown"])
async def test_older_trades_come_from_the_history(newest_id: int | None) -> None:
    server = Server()
    async with server.serving() as rest:
        found = await rest.fetch("trade", "BTCUSDT", 7, newest_id)
    assert ids(found) == list(range(7, 1007))
    assert server.names() == ["historicalTrades"]


async def test_the_history_is_asked_if_the_latest_trades_begin_too_late() -> None:
    server = Server()
    async with server.serving() as rest:
        found = await rest.fetch("trade", "BTCUSDT", 3_000, 3_100)
    assert ids(found) == list(range(3_000, 4_000))
    assert server.names() == ["trades", "historicalTrades"]


async def test_what_the_latest_trades_do_not_have_yet_is_not_looked_for_in_the_history() -> None:
    server = Server()
    async with server.serving() as rest:
        assert await rest.fetch("trade", "BTCUSDT", NEWEST + 1, NEWEST + 2) == []
    assert server.names() == ["trades"]


@pytest.mark.parametrize("status", [401, 404])
async def test_a_host_without_history_is_named_once_and_serves_its_latest_trades(
    status: int, journal: Journal
) -> None:
    server = Server(historicalTrades=status)
    async with server.serving() as rest:
        await rest.check_history("trade", "BTCUSDT")
        for _ in range(2):
            assert ids(await rest.fetch("trade", "BTCUSDT", 7))[0] == NEWEST - 999
    assert server.names() == ["historicalTrades", "trades", "trades"]
    (entry,) = journal.named("history_missing")
    assert entry["host"] == server.url
    assert "1,000 trades" in entry["consequence"]
    assert "binance.rest_url" in entry["remedy"]


async def test_a_host_without_block_trades_is_named(journal: Journal) -> None:
    server = Server(historicalBlockTrades=404)
    async with server.serving() as rest:
        await rest.check_history("block_trade", "BTCUSDT")
        assert len(await rest.fetch("trade", "BTCUSDT", 7)) == 1000
    (entry,) = journal.named("history_missing")
    assert entry["message_type"] == "block_trade"
    assert server.names() == ["historicalBlockTrades", "historicalTrades"]


async def test_a_refusal_for_another_reason_does_not_mean_that_there_is_no_history() -> None:
    server = Server(historicalTrades=451)
    async with server.serving() as rest:
        with pytest.raises(FeedRefused, match="451"):
            await rest.fetch("trade", "BTCUSDT", 7)
        server.answers.clear()
        assert ids(await rest.fetch("trade", "BTCUSDT", 7))[0] == 7


BAD_ROWS: list[Any] = [
    {"id": 4_990},
    {**row(4_990), "price": "NaN"},
    {**row(4_990), "time": -5},
    {**row(4_990), "id": "4990"},
    None,
    [],
    "row",
]


@pytest.mark.parametrize("bad", BAD_ROWS, ids=repr)
async def test_an_unreadable_row_costs_only_itself_and_is_counted(
    bad: object, journal: Journal
) -> None:
    server = Server()
    server.change = lambda rows: [bad if r["id"] == 4_990 else r for r in rows]
    async with server.serving() as rest:
        found = await rest.fetch("trade", "BTCUSDT", 4_980, NEWEST)
        assert ids(found) == [i for i in range(4_980, NEWEST + 1) if i != 4_990]
        assert rest.unreadable_rows == 1
    (entry,) = journal.named("rest_rows_unreadable")
    assert (entry["path"], entry["rows"]) == ("/api/v3/trades", 1)


async def test_an_answer_that_is_no_list_is_asked_for_again_later() -> None:
    server = Server()
    server.change = lambda _: {"code": -1, "msg": "no"}
    async with server.serving() as rest:
        with pytest.raises(FeedUnavailable, match="cannot be read"):
            await rest.fetch("trade", "BTCUSDT", 7)


async def test_microseconds_are_asked_for_where_the_settings_say_so() -> None:
    server = Server()
    async with server.serving(time_unit="microsecond") as rest:
        (first, *_) = await rest.fetch("trade", "BTCUSDT", 7)
        assert server.headers["X-MBX-TIME-UNIT"] == "MICROSECOND"
        assert first.timestamp == 1_790_000_000_123_456
    async with server.serving() as rest:
        await rest.fetch("trade", "BTCUSDT", 7)
        assert "X-MBX-TIME-UNIT" not in server.headers


async def test_symbols_of_every_permission_set_are_asked_for() -> None:
    server = Server()
    server.change = lambda _: {"symbols": [{"symbol": "BTCUSDT", "status": "TRADING"}]}
    async with server.serving() as rest:
        assert await rest.symbols() == {"BTCUSDT": "TRADING"}
    (request,) = server.requests
    assert '"SPOT"' in request.query["permissions"]
    assert '"TRD_GRP_025"' in request.query["permissions"]


async def test_an_exchange_that_does_not_know_permissions_is_asked_without_them() -> None:
    server = Server(exchangeInfo=400)
    server.change = lambda _: {"symbols": []}
    async with server.serving() as rest:
        with pytest.raises(FeedRefused, match="400"):
            await rest.symbols()
    assert [dict(request.query) for request in server.requests][1:] == [{}]


@pytest.mark.parametrize(("count", "weight"), [(1, 2), (20, 2), (21, 40), (100, 40), (101, 80)])
async def test_the_last_ids_of_all_symbols_cost_one_request(count: int, weight: int) -> None:
    server = Server()
    server.change = lambda _: [day("S0USDT", 7), day("OTHERUSDT", 8), day("S1USDT", -1)]
    symbols = [f"S{number}USDT" for number in range(count)]
    async with server.serving() as rest:
        found = await rest.last_trades(symbols)
        assert rest.budget.used == weight
    (request,) = server.requests
    assert (request.name, request.query["type"]) == ("ticker/24hr", "MINI")
    assert ("symbols" in request.query) == (count <= 100)
    assert found["S0USDT"].last_id == 7
    assert found["S0USDT"].timestamp == 1_790_000_000_123_000
    assert "OTHERUSDT" not in found


async def test_one_symbol_that_is_not_listed_does_not_hide_the_last_ids_of_the_others() -> None:
    server = Server()
    server.change = lambda _: [day("BTCUSDT", 7)]
    server.refuses_symbols = True
    async with server.serving() as rest:
        found = await rest.last_trades(["BTCUSDT", "NOSUCH"])
    assert [*found] == ["BTCUSDT"]
    assert ["symbols" in request.query for request in server.requests] == [True, False]


async def test_an_unreadable_symbol_does_not_hide_the_last_ids_of_the_others() -> None:
    server = Server()
    server.change = lambda _: [{"symbol": "AUSDT"}, day("BTCUSDT", 7), None]
    async with server.serving() as rest:
        assert [*await rest.last_trades(["AUSDT", "BTCUSDT"])] == ["BTCUSDT"]
        assert rest.unreadable_rows == 2


async def test_an_unreadable_symbol_does_not_hide_the_listing() -> None:
    server = Server()
    listed = [{"symbol": "BTCUSDT", "status": "TRADING"}, {"symbol": "ODDUSDT", "status": 7}, 5]
    server.change = lambda _: {"symbols": listed}
    async with server.serving() as rest:
        assert await rest.symbols() == {"BTCUSDT": "TRADING"}


async def test_the_last_id_of_one_stream_is_that_of_its_newest_row() -> None:
    server = Server()
    agg_row = {"a": 70, "p": "1.5", "q": "2", "f": 90, "l": 95, "T": 1_790_000_000_123, "m": True}
    async with server.serving() as rest:
        assert (await rest.last_of("trade", "BTCUSDT"))[4:6] == (NEWEST, NEWEST)
        server.change = lambda _: [agg_row]
        assert (await rest.last_of("agg_trade", "BTCUSDT"))[4:6] == (70, 95)
        server.change = lambda _: []
        assert (await rest.last_of("agg_trade", "BTCUSDT"))[4:6] == (-1, -1)


async def test_a_firewall_is_met_ever_more_rarely_by_all_requests_together(
    journal: Journal,
) -> None:
    server = Server(trades=403)
    async with server.serving() as rest:

        async def ask() -> None:
            for _ in range(4):
                with pytest.raises(FeedUnavailable, match="403"):
                    await rest.fetch("trade", "BTCUSDT", NEWEST, NEWEST)

        await asyncio.gather(*(ask() for _ in range(8)))
        waits = [entry["quiet_s"] for entry in journal.named("rest_refused")]
        assert waits == [1, 2, 4, 8]
        server.answers.clear()
        assert ids(await rest.fetch("trade", "BTCUSDT", NEWEST, NEWEST)) == [NEWEST]
        server.answers["trades"] = 403
        with pytest.raises(FeedUnavailable):
            await rest.fetch("trade", "BTCUSDT", NEWEST, NEWEST)
    assert journal.named("rest_refused")[-1]["quiet_s"] == 1


async def test_the_longest_wait_for_a_firewall_is_bounded(journal: Journal) -> None:
    server = Server(trades=403)
    async with server.serving() as rest:
        for _ in range(14):
            with pytest.raises(FeedUnavailable):
                await rest.fetch("trade", "BTCUSDT", NEWEST, NEWEST)
    assert max(entry["quiet_s"] for entry in journal.named("rest_refused")) == REFUSED_MAX_S


@pytest.mark.parametrize("value", ["", "many", "-5", "1.5", "²", "9" * 5000])
async def test_a_used_weight_that_is_no_number_is_ignored(value: str) -> None:
    server = Server()
    server.sends = {"X-MBX-USED-WEIGHT-1M": value}
    async with server.serving() as rest:
        assert ids(await rest.fetch("trade", "BTCUSDT", 1))[0] == 1


@pytest.mark.parametrize(("interval", "zone"), [("1m", None), ("1d@+08:00", "08:00")])
async def test_closed_candles_are_asked_for_from_the_end_of_the_last_one_to_the_present_one(
    interval: str, zone: str | None
) -> None:
    server = Server()
    async with server.serving() as rest:
        begin_ms = 1_790_000_040_000
        until = candle(begin_ms + 120_000, interval)
        found = await rest.fetch_after(begin_ms * 1000 - 1, until)
    assert [replace(event, received=0) for event in found] == [
        candle(begin_ms + n * 60_000, interval) for n in range(3)
    ]
    (request,) = server.requests
    assert request.query == {
        "symbol": "BTCUSDT",
        "interval": interval.partition("@")[0],
        "startTime": str(begin_ms),
        "endTime": str(begin_ms + 120_000),
        "limit": "1000",
    } | ({"timeZone": zone} if zone else {})


async def test_block_trades_are_asked_for_from_the_one_after_the_last() -> None:
    server = Server()
    until = BlockTrade("binance.spot", "BTCUSDT", 1, 1, "websocket", 9, "1.0", "1.0", "buy")
    async with server.serving() as rest:
        found = await rest.fetch_after(6, until)
    assert [event.trade_id for event in found if isinstance(event, BlockTrade)] == [7, 8, 9]
    assert {event.source for event in found} == {"rest"}
    assert server.names() == ["historicalBlockTrades"]


async def test_a_row_that_cannot_be_read_is_no_proof_that_nothing_is_missing() -> None:
    server = Server()
    server.change = lambda rows: [rows[0], "nonsense", rows[2]]
    async with server.serving() as rest:
        with pytest.raises(FeedUnavailable, match="BTCUSDT"):
            await rest.fetch_after(0, candle(120_000))
    assert rest.unreadable_rows == 1


async def test_an_answer_that_does_not_end_is_given_up_and_inflated_in_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A small compressed answer may become a thousand times as large."""
    monkeypatch.setattr(rest_client, "MAX_ANSWER_BYTES", 2**20)
    bomb = gzip.compress(bytes(256 * 2**20))

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=bomb, headers={"Content-Encoding": "gzip"})

    async with served("/api/v3/exchangeInfo", answer) as url:
        options = options_for(FakeExchange(), websocket_url="ws://127.0.0.1:9").binance
        async with Rest(options.model_copy(update={"rest_url": url})) as rest:
            tracemalloc.start()
            try:
                with pytest.raises(FeedUnavailable, match="more than 1048576 bytes"):
                    await rest.symbols()
                _, peak_bytes = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
    assert peak_bytes < 16 * 2**20
