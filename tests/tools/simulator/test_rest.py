import json
from collections.abc import Sequence
from typing import Any

import pytest

from bridge.tools.simulator import Replay
from bridge.tools.simulator.history import History
from bridge.tools.simulator.rest import Answer, Rest, WeightBudget
from tests.support.simulator import BEGIN_MS, capture_of, decoded, market, trades

MINUTE = 60_000.0


class Shop:
    """A played market with its REST side, and a clock that stands still."""

    def __init__(
        self,
        weight_per_minute: int = 6_000,
        milliseconds: int = 30_000,
        streams: Sequence[str] = (),
    ) -> None:
        self.now_s = MINUTE + 42
        self.market = market("BTCUSDT", "ETHUSDT")
        self.market.want(frozenset(streams))
        self.history = History(self.market.symbols)
        self.messages = self.market.step(BEGIN_MS + milliseconds)
        self.history.record(self.messages)
        budget = WeightBudget(weight_per_minute, lambda: self.now_s)
        self.rest = Rest(self.market, self.history, budget)

    def get(self, path: str, query: str = "") -> Answer:
        return self.rest.answer(f"/api/v3/{path}", query)

    def json(self, path: str, query: str = "") -> Any:
        return json.loads(self.get(path, query).body)


@pytest.fixture
def shop() -> Shop:
    return Shop()


def test_missed_trades_are_found_by_their_id_which_is_included(shop: Shop) -> None:
    streamed = decoded(shop.messages, "btcusdt@trade")
    third = streamed[2]
    rows = shop.json("historicalTrades", f"symbol=BTCUSDT&fromId={third['t']}&limit=5")
    assert [row["id"] for row in rows] == [trade["t"] for trade in streamed[2:7]]
    assert list(rows[0]) == "id price qty quoteQty time isBuyerMaker isBestMatch".split()
    assert rows[0]["price"] == third["p"]
    assert rows[0]["qty"] == third["q"]
    assert rows[0]["time"] == third["T"]
    assert rows[0]["isBuyerMaker"] == third["m"]
    assert float(rows[0]["quoteQty"]) == pytest.approx(float(third["p"]) * float(third["q"]))


def test_without_an_id_the_latest_trades_are_given_500_unless_told() -> None:
    replay = Replay([capture_of(trades(1_200))])
    history = History(replay.symbols)
    history.record(replay.take(None, 10_000))
    rest = Rest(replay, history, WeightBudget(6_000))

    def ids(path: str, query: str) -> list[int]:
        body = rest.answer(f"/api/v3/{path}", query).body
        return [row["id"] for row in json.loads(body)]

    assert ids("trades", "symbol=BTCUSDT") == list(range(800, 1_300))
    assert ids("historicalTrades", "symbol=BTCUSDT&limit=1000") == list(range(300, 1_300))
    assert ids("historicalTrades", "symbol=BTCUSDT&fromId=5000") == []


def test_history_forgets_the_oldest_trades_beyond_its_bound() -> None:
    history = History(["BTCUSDT"], trades_kept=10)
    history.record(trades(25))
    assert [row["id"] for row in history.trades("BTCUSDT", 0, 1_000)] == list(range(115, 125))


def test_aggregate_trades_are_found_by_id_or_by_time(shop: Shop) -> None:
    streamed = decoded(shop.messages, "ethusdt@aggTrade")
    begin, end = streamed[3], streamed[8]
    by_id = shop.json("aggTrades", f"symbol=ETHUSDT&fromId={begin['a']}&limit=2")
    assert [row["a"] for row in by_id] == [begin["a"], begin["a"] + 1]
    assert list(by_id[0]) == "a p q f l T m M".split()
    by_time = shop.json("aggTrades", f"symbol=ETHUSDT&startTime={begin['T']}&endTime={end['T']}")
    expected = [row["a"] for row in streamed if begin["T"] <= row["T"] <= end["T"]]
    assert [row["a"] for row in by_time] == expected
    until = shop.json("aggTrades", f"symbol=ETHUSDT&endTime={end['T']}&limit=3")
    assert [row["a"] for row in until] == [r["a"] for r in streamed if r["T"] <= end["T"]][-3:]


def test_the_depth_is_the_markets_book(shop: Shop) -> None:
    book = shop.json("depth", "symbol=BTCUSDT&limit=5")
    assert list(book) == ["lastUpdateId", "bids", "asks"]
    assert len(book["bids"]) == len(book["asks"]) == 5


def test_exchange_information_lists_what_is_traded(shop: Shop) -> None:
    listed = shop.json("exchangeInfo")["symbols"]
    assert [(s["symbol"], s["status"], s["baseAsset"], s["quoteAsset"]) for s in listed] == [
        ("BTCUSDT", "TRADING", "BTC", "USDT"),
        ("ETHUSDT", "TRADING", "ETH", "USDT"),
    ]
    one = shop.json("exchangeInfo", "symbol=ETHUSDT")["symbols"]
    assert [s["symbol"] for s in one] == ["ETHUSDT"]
    some = shop.json("exchangeInfo", "symbols=%5B%22BTCUSDT%22%5D")["symbols"]
    assert [s["symbol"] for s in some] == ["BTCUSDT"]


def test_the_time_and_the_last_prices_are_the_markets(shop: Shop) -> None:
    assert shop.json("ping") == {}
    assert shop.json("time") == {"serverTime": BEGIN_MS + 30_000}
    last = decoded(shop.messages, "btcusdt@trade")[-1]["p"]
    assert shop.json("ticker/price", "symbol=BTCUSDT") == {"symbol": "BTCUSDT", "price": last}
    assert [row["symbol"] for row in shop.json("ticker/price")] == ["BTCUSDT", "ETHUSDT"]


def test_the_last_ids_of_the_day_are_those_of_the_last_trades(shop: Shop) -> None:
    last = {
        name: decoded(shop.messages, f"{name.lower()}@trade")[-1]["t"]
        for name in shop.market.symbols
    }
    rows = shop.json("ticker/24hr", "type=MINI")
    assert {row["symbol"]: row["lastId"] for row in rows} == last
    assert {row["closeTime"] for row in rows} == {BEGIN_MS + 30_000}
    empty = Rest(shop.market, History(shop.market.symbols), WeightBudget(6_000))
    body = empty.answer("/api/v3/ticker/24hr", "type=MINI&symbol=BTCUSDT").body
    assert json.loads(body)["lastId"] == -1


def test_times_are_microseconds_if_the_header_wants_them(shop: Shop) -> None:
    def times(path: str, query: str) -> set[int]:
        body = shop.rest.answer(f"/api/v3/{path}", query, microseconds=True).body
        return {row["time"] for row in json.loads(body)}

    milliseconds = {row["time"] for row in shop.json("trades", "symbol=BTCUSDT")}
    assert times("trades", "symbol=BTCUSDT") == {1000 * time for time in milliseconds}
    query = "symbol=BTCUSDT&interval=1m&limit=1"
    body = shop.rest.answer("/api/v3/klines", query, microseconds=True).body
    in_milliseconds = shop.json("klines", query)[0]
    assert json.loads(body)[0][::6] == [1000 * time for time in in_milliseconds[::6]]


@pytest.mark.parametrize("kind", ["1s", "1m", "3m", "1m@+08:00"])
def test_candles_are_those_that_the_stream_brings_when_they_close(kind: str) -> None:
    shop = Shop(milliseconds=400_000, streams=[f"btcusdt@kline_{kind}"])
    streamed = decoded(shop.messages, f"btcusdt@kline_{kind}")
    closed = [event["k"] for event in streamed if event["k"]["x"]]
    interval, _, zone = kind.partition("@")
    query = f"symbol=BTCUSDT&interval={interval}&startTime={closed[0]['t']}&limit={len(closed)}"
    rows = shop.json("klines", f"{query}&timeZone=8:00" if zone else query)
    assert rows == [[each[key] for key in "tohlcvTqnVQ"] + ["0"] for each in closed]


def test_candles_of_a_time_zone_begin_with_its_days(shop: Shop) -> None:
    (row,) = shop.json("klines", "symbol=BTCUSDT&interval=1d&limit=1&timeZone=8")
    assert row[0] % 86_400_000 == 57_600_000
    (row,) = shop.json("klines", "symbol=BTCUSDT&interval=1d&limit=1&timeZone=-05:30")
    assert row[0] % 86_400_000 == 19_800_000


def test_without_a_time_the_latest_candles_are_given_the_running_one_last(shop: Shop) -> None:
    rows = shop.json("klines", "symbol=BTCUSDT&interval=1m&limit=3")
    assert [row[0] for row in rows] == [rows[-1][6] + 1 - n * 60_000 for n in (3, 2, 1)]
    assert rows[-1][0] <= shop.market.now_ms <= rows[-1][6]
    between = f"startTime={rows[0][0]}&endTime={rows[1][0]}"
    assert shop.json("klines", f"symbol=BTCUSDT&interval=1m&{between}") == rows[:2]


def test_block_trades_are_found_by_their_id_which_is_included() -> None:
    shop = Shop(milliseconds=600_000)
    streamed = decoded(shop.messages, "btcusdt@blockTrade")
    begin = streamed[1]["t"]
    rows = shop.json("historicalBlockTrades", f"symbol=BTCUSDT&fromId={begin}&limit=2")
    assert [row["id"] for row in rows] == [trade["t"] for trade in streamed[1:3]]
    assert list(rows[0]) == "id price qty quoteQty time isBuyerMaker".split()


@pytest.mark.parametrize(
    ("path", "query", "code"),
    [
        ("historicalTrades", "symbol=NOPEUSDT", -1121),
        ("exchangeInfo", "symbols=[%22NOPE%22]", -1121),
        ("trades", "", -1102),
        ("trades", "symbol=BTCUSDT&limit=1001", -1130),
        ("trades", "symbol=BTCUSDT&limit=0", -1130),
        ("historicalTrades", "symbol=BTCUSDT&fromId=-5", -1100),
        ("exchangeInfo", "symbols=BTCUSDT", -1100),
        ("exchangeInfo", "symbol=BTCUSDT&symbols=[]", -1128),
        ("aggTrades", "symbol=BTCUSDT&fromId=1&startTime=2", -1128),
        ("historicalBlockTrades", "symbol=BTCUSDT", -1102),
        ("klines", "symbol=BTCUSDT", -1120),
        ("klines", "symbol=BTCUSDT&interval=1m&timeZone=east", -1130),
    ],
)
def test_bad_requests_are_refused_with_binances_codes(
    shop: Shop, path: str, query: str, code: int
) -> None:
    answer = shop.get(path, query)
    assert answer.status == 400
    assert json.loads(answer.body)["code"] == code


def test_an_unknown_path_is_not_found(shop: Shop) -> None:
    assert shop.get("nonsense").status == 404


@pytest.mark.parametrize(
    ("path", "query", "weight"),
    [
        ("ping", "", 1),
        ("exchangeInfo", "", 20),
        ("historicalTrades", "symbol=BTCUSDT", 25),
        ("ticker/24hr", "type=MINI", 80),
        ("ticker/24hr", "type=MINI&symbol=BTCUSDT", 2),
        ("ticker/24hr", 'type=MINI&symbols=["BTCUSDT"]', 2),
        ("aggTrades", "symbol=BTCUSDT", 4),
        ("historicalBlockTrades", "symbol=BTCUSDT&fromId=1", 25),
        ("klines", "symbol=BTCUSDT&interval=1m", 2),
        ("depth", "symbol=BTCUSDT", 5),
        ("depth", "symbol=BTCUSDT&limit=500", 25),
        ("depth", "symbol=BTCUSDT&limit=1000", 50),
        ("depth", "symbol=BTCUSDT&limit=5000", 250),
    ],
)
def test_every_answer_says_what_weight_is_used(
    shop: Shop, path: str, query: str, weight: int
) -> None:
    shop.get("ping")
    assert shop.get(path, query).headers["X-MBX-USED-WEIGHT-1M"] == str(weight + 1)


def test_over_the_budget_is_429_until_the_next_minute() -> None:
    shop = Shop(weight_per_minute=50, milliseconds=100)
    assert [shop.get("trades", "symbol=BTCUSDT").status for _ in range(3)] == [200, 200, 429]
    refused = shop.get("ping")
    assert (refused.status, refused.headers["Retry-After"]) == (429, "18")
    assert json.loads(refused.body)["code"] == -1003
    shop.now_s += 18
    assert shop.get("ping").headers["X-MBX-USED-WEIGHT-1M"] == "1"
