import json
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.tools.simulator import Market, SimulatorError
from bridge.tools.simulator import market as market_module
from bridge.tools.simulator.candles import bounds
from bridge.tools.simulator.history import History
from bridge.tools.simulator.listing import decimal, listing_of
from tests.support.simulator import BEGIN_MS, decoded, market

ALL = frozenset({"btcusdt@bookTicker", "btcusdt@depth@100ms", "btcusdt@kline_1s"})

# Key order as binance.md, section 3, has it.
KEYS = {
    "trade": "e E s t p q T m M",
    "aggTrade": "e E s a p q f l T m M",
    "bookTicker": "u s b B a A",
    "ticker": "e E s p P w x c Q b B a A o h l v q O C F L n",
    "ticker_1h": "e E s p P w c o h l v q O C F L n",
    "ticker_4h": "e E s p P w c o h l v q O C F L n",
    "ticker_1d": "e E s p P w c o h l v q O C F L n",
    "miniTicker": "e E s c o h l v q",
    "kline_1m": "e E s k",
    "kline_1d@+08:00": "e E s k",
    "avgPrice": "e E s i w T",
    "depth": "e E s U u b a",
    "depth@100ms": "e E s U u b a",
    "depth5": "lastUpdateId bids asks",
    "depth20@100ms": "lastUpdateId bids asks",
    "referencePrice": "e s r t",
}


@given(st.integers(0, 10**9), st.lists(st.integers(1, 900), min_size=1, max_size=5))
@settings(max_examples=20)
def test_the_same_seed_gives_the_same_market_however_it_is_stepped(
    seed: int, steps: list[int]
) -> None:
    one, other = market(seed=seed), market(seed=seed)
    one.want(ALL)
    other.want(ALL)
    end_ms = BEGIN_MS + sum(steps)
    stepped, now_ms = [], BEGIN_MS
    for step in steps:
        now_ms += step
        stepped += one.step(now_ms)
    assert stepped == other.step(end_ms)


def test_another_seed_gives_another_market() -> None:
    assert market(seed=1).step(BEGIN_MS + 2_000) != market(seed=2).step(BEGIN_MS + 2_000)


def test_who_listens_changes_nothing_about_what_is_traded() -> None:
    heard, unheard = market(), market()
    heard.want(ALL)
    stream = "btcusdt@trade"
    assert decoded(heard.step(BEGIN_MS + 5_000), stream) == decoded(
        unheard.step(BEGIN_MS + 5_000), stream
    )


@pytest.mark.parametrize("kind", KEYS)
def test_every_payload_has_binances_keys_in_binances_order(kind: str) -> None:
    source = market("币安人生USDT")
    source.want(frozenset({f"币安人生usdt@{kind}"}))
    payloads = decoded(source.step(BEGIN_MS + 3_000), f"币安人生usdt@{kind}")
    assert payloads
    assert all(list(payload) == KEYS[kind].split() for payload in payloads)


def test_block_trades_have_ids_of_their_own() -> None:
    source = market("BTCUSDT", "ETHUSDT", trades_per_second=0.1)
    messages = source.step(BEGIN_MS + 600_000)
    blocks = decoded(messages, "btcusdt@blockTrade")
    assert list(blocks[0]) == "e E s t p q T m".split()
    assert all(after["t"] == before["t"] + 1 for before, after in pairwise(blocks))


def test_the_ids_of_a_symbol_start_again_at_1_and_its_history_forgets_those_before() -> None:
    one = market("BTCUSDT", "ETHUSDT")
    history = History(one.symbols)
    history.record(one.step(BEGIN_MS + 5_000))
    ids_before = history.id_range("ethusdt@trade")
    for kind in ("trade", "aggTrade"):
        history.forget(f"btcusdt@{kind}")
    one.restart_ids("BTCUSDT")
    history.record(one.step(BEGIN_MS + 10_000))
    for kind in ("trade", "aggTrade"):
        ids = [trade.id for trade in history.played(f"btcusdt@{kind}")]
        assert ids == [*range(1, len(ids) + 1)]
    ids_since = history.id_range("ethusdt@trade")
    assert ids_before
    assert ids_since
    assert ids_since[0] == ids_before[0] > len(ids)


def test_a_market_without_a_given_time_has_that_of_the_machine_and_begins_when_played(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_ms = BEGIN_MS
    monkeypatch.setattr(market_module, "present_ms", lambda: now_ms)
    source = Market(["BTCUSDT"], trades_per_second=20)
    source.want(frozenset({"btcusdt@ticker", "btcusdt@kline_1m"}))
    now_ms += 150_000
    assert source.now_ms == now_ms
    source.begin()
    assert source.due_us() in range(100_000)
    messages = source.take(2_000_000, 1_000)
    for stream, field in (("trade", "T"), ("ticker", "E"), ("kline_1m", "E")):
        times = [row[field] for row in decoded(messages, f"btcusdt@{stream}")]
        assert now_ms <= times[0]
        assert times[-1] <= source.now_ms <= now_ms + 2_000
    (bar,) = source.candles("BTCUSDT", [bounds("1m", now_ms - 60_000)])
    assert bar.trades == 0


def test_trades_and_their_aggregates_are_chained() -> None:
    messages = market().step(BEGIN_MS + 20_000)
    trades = decoded(messages, "btcusdt@trade")
    aggregates = decoded(messages, "btcusdt@aggTrade")
    assert all(after["t"] == before["t"] + 1 for before, after in pairwise(trades))
    assert all(after["a"] == before["a"] + 1 for before, after in pairwise(aggregates))
    assert all(after["f"] == before["l"] + 1 for before, after in pairwise(aggregates))
    by_id = {trade["t"]: trade for trade in trades}
    for aggregate in aggregates:
        parts = [by_id[i] for i in range(aggregate["f"], aggregate["l"] + 1)]
        assert {part["p"] for part in parts} == {aggregate["p"]}
        assert f"{sum(float(part['q']) for part in parts):.8f}" == aggregate["q"]
    assert any(aggregate["f"] < aggregate["l"] for aggregate in aggregates)


@pytest.mark.parametrize("stream", ["btcusdt@depth@100ms", "btcusdt@depth"])
def test_a_book_built_from_updates_equals_the_snapshot(stream: str) -> None:
    source = market()
    snapshot = json.loads(source.depth("BTCUSDT", 5_000))
    source.want(frozenset({stream}))
    updates = decoded(source.step(BEGIN_MS + 5_000), stream)
    bids, asks = dict(snapshot["bids"]), dict(snapshot["asks"])
    expected = snapshot["lastUpdateId"] + 1
    for update in updates:
        assert update["U"] == expected
        expected = update["u"] + 1
        bids |= dict(update["b"])
        asks |= dict(update["a"])
    final = json.loads(source.depth("BTCUSDT", 5_000))
    assert final["lastUpdateId"] == updates[-1]["u"]
    assert {p: q for p, q in bids.items() if float(q)} == dict(final["bids"])
    assert {p: q for p, q in asks.items() if float(q)} == dict(final["asks"])


@pytest.mark.parametrize("symbol", ["BTCUSDT", "SHIBUSDT", "ETHBTC", "币安人生USDT", "PEPEUSDT"])
def test_the_bid_is_always_below_the_ask_and_update_ids_rise(symbol: str) -> None:
    name = symbol.lower()
    source = market(symbol, trades_per_second=200)
    source.want(frozenset({f"{name}@bookTicker"}))
    quotes = decoded(source.step(BEGIN_MS + 10_000), f"{name}@bookTicker")
    assert all(0 < float(quote["b"]) < float(quote["a"]) for quote in quotes)
    assert all(float(quote["B"]) > 0 < float(quote["A"]) for quote in quotes)
    assert all(after["u"] > before["u"] for before, after in pairwise(quotes))


def test_a_candle_is_closed_once_and_the_next_one_continues_its_ids() -> None:
    source = market()
    source.want(frozenset({"btcusdt@kline_1m"}))
    candles = [row["k"] for row in decoded(source.step(BEGIN_MS + 200_000), "btcusdt@kline_1m")]
    closed = [candle for candle in candles if candle["x"]]
    assert Counter(candle["t"] for candle in closed).most_common(1)[0][1] == 1
    assert len(closed) >= 3
    assert all(after["t"] == before["T"] + 1 for before, after in pairwise(closed))
    assert all(after["f"] == before["L"] + 1 for before, after in pairwise(closed[1:]))
    assert all(candle["n"] == candle["L"] - candle["f"] + 1 for candle in closed[1:])


def test_arrays_hold_the_symbols_that_have_traded() -> None:
    source = market("BTCUSDT", "ETHUSDT")
    source.want(frozenset({"!miniTicker@arr", "!ticker_1d@arr"}))
    messages = source.step(BEGIN_MS + 3_000)
    for stream, kind in (("!miniTicker@arr", "24hrMiniTicker"), ("!ticker_1d@arr", "1dTicker")):
        rows = decoded(messages, stream)[0]
        assert {row["s"] for row in rows} == {"BTCUSDT", "ETHUSDT"}
        assert {row["e"] for row in rows} == {kind}


def test_streams_nobody_wants_are_not_made_except_trades() -> None:
    kinds = {stream.partition("@")[2] for stream, _ in market().step(BEGIN_MS + 5_000)}
    assert kinds <= {"trade", "aggTrade", "blockTrade"}


def test_an_unknown_stream_is_silent() -> None:
    source = market()
    silent = frozenset({"BTCUSDT@ticker", "btcusdt@depth30", "btcusdt@kline_7m", "nope@ticker"})
    source.want(silent)
    assert not silent & {stream for stream, _ in source.step(BEGIN_MS + 3_000)}


def test_trades_come_at_about_the_rate_asked_for_and_in_bursts() -> None:
    trades = decoded(market(trades_per_second=50).step(BEGIN_MS + 60_000), "btcusdt@trade")
    assert 2_700 < len(trades) < 3_300
    seconds = Counter(trade["T"] // 1_000 for trade in trades)
    mean = len(trades) / 60
    variance = sum((seconds[s] - mean) ** 2 for s in seconds) / 60
    assert variance > 2 * mean  # a Poisson process would have them equal


@pytest.mark.parametrize(
    ("symbol", "least", "most"),
    [("BTCUSDT", 10_000, 500_000), ("SHIBUSDT", 0.000001, 0.001), ("牛来USDT", 0.0001, 10)],
)
def test_prices_are_such_as_the_symbol_might_have(symbol: str, least: float, most: float) -> None:
    listing = listing_of(symbol)
    assert least < float(decimal(listing.price)) < most
    assert listing.price % listing.tick == 0


@pytest.mark.parametrize(
    ("interval", "begin", "end"),
    [
        ("1m", 1_789_999_980_000, 1_790_000_039_999),
        ("1w", 1_789_948_800_000, 1_790_553_599_999),
        ("1M", 1_788_220_800_000, 1_790_812_799_999),
    ],
)
def test_candles_begin_where_the_calendar_says(interval: str, begin: int, end: int) -> None:
    assert bounds(interval, BEGIN_MS) == (begin, end)


def test_a_market_needs_a_symbol_and_a_rate() -> None:
    with pytest.raises(SimulatorError, match="name at least one"):
        Market([], begin_ms=BEGIN_MS)
    with pytest.raises(SimulatorError, match="give one above 0"):
        Market(["BTCUSDT"], begin_ms=BEGIN_MS, trades_per_second=0)
