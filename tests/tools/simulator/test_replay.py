import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.tools.simulator import Capture, Message, Replay, SimulatorError
from bridge.tools.simulator.fields import kind_of
from tests.support.simulator import BEGIN_MS, capture_of, decoded, market, trades

EVERY_KIND = (
    "trade",
    "aggTrade",
    "bookTicker",
    "depth@100ms",
    "kline_1m",
    "ticker",
    "ticker_1h",
    "miniTicker",
    "avgPrice",
    "referencePrice",
    "depth5@100ms",
)


def rounds(replay: Replay, count: int) -> list[list[Message]]:
    return [list(replay.take(None, 10**9)) for _ in range(count)]


def invented(milliseconds: int = 4_000) -> list[Message]:
    source = market("BTCUSDT", "SHIBUSDT")
    streams = {f"{name}@{kind}" for name in ("btcusdt", "shibusdt") for kind in EVERY_KIND}
    source.want(frozenset(streams | {"!miniTicker@arr", "!ticker_1h@arr"}))
    return source.step(BEGIN_MS + milliseconds)


INVENTED = invented()


def continues(kind: str, before: Any, after: Any) -> bool:
    """Return whether one message may follow another of its stream (binance.md, section 5)."""
    match kind:
        case "trade":
            return bool(after["t"] == before["t"] + 1 and after["T"] >= before["T"])
        case "aggTrade":
            return bool(after["a"] == before["a"] + 1 and after["f"] == before["l"] + 1)
        case "depth" if "u" in after:
            in_order = after["pu"] == before["u"] if "pu" in after else True
            follows = "pu" in after or after["U"] == before["u"] + 1
            return bool(in_order and follows and after["U"] <= after["u"])
        case "depth":
            return bool(after["lastUpdateId"] >= before["lastUpdateId"])
        case "bookTicker":
            return bool(after["u"] > before["u"])
        case "referencePrice":
            return bool(after["t"] > before["t"])
        case _:
            first, second = (row[0] if isinstance(row, list) else row for row in (before, after))
            return bool(second["E"] > first["E"])


def assert_continuous(messages: list[Message]) -> None:
    for stream in {stream for stream, _ in messages}:
        of_stream = decoded(messages, stream)
        for before, after in pairwise(of_stream):
            assert continues(kind_of(stream), before, after), (stream, before, after)
        times = [row["E"] for row in of_stream if isinstance(row, dict) and "E" in row]
        assert times == sorted(times)


def test_the_first_round_is_byte_for_byte_what_the_capture_holds() -> None:
    assert rounds(Replay([capture_of(INVENTED)], loop=True), 1) == [INVENTED]


def test_a_looped_capture_continues_its_trade_ids() -> None:
    played = [m for part in rounds(Replay([capture_of(trades(5))], loop=True), 4) for m in part]
    assert [row["t"] for row in decoded(played, "btcusdt@trade")] == list(range(100, 120))


@given(
    st.integers(0, len(INVENTED) - 1).flatmap(
        lambda begin: st.tuples(st.just(begin), st.integers(begin + 1, len(INVENTED)))
    )
)
def test_any_slice_of_a_market_loops_without_a_seam(bounds: tuple[int, int]) -> None:
    sliced = [m for m in INVENTED[slice(*bounds)] if not m[0].endswith("@trade")]
    if sliced:
        replay = Replay([capture_of(sliced)], loop=True)
        assert_continuous([m for part in rounds(replay, 3) for m in part])


@given(st.integers(0, 300), st.integers(1, 300))
def test_any_slice_of_trades_and_quotes_loops_without_a_seam(begin: int, length: int) -> None:
    kinds = ("btcusdt@trade", "btcusdt@bookTicker", "shibusdt@trade", "btcusdt@depth@100ms")
    chosen = [m for m in INVENTED if m[0] in kinds][begin : begin + length]
    if chosen:
        replay = Replay([capture_of(chosen)], loop=True)
        assert_continuous([m for part in rounds(replay, 3) for m in part])


def test_looping_changes_numbers_and_nothing_else() -> None:
    replay = Replay([capture_of(INVENTED)], loop=True)
    first, second = rounds(replay, 2)
    for (stream, before), (same_stream, after) in zip(first, second, strict=True):
        assert stream == same_stream
        assert re.sub(rb":\d+", b":#", before) == re.sub(rb":\d+", b":#", after)
        json.loads(after)


def test_candles_stay_on_their_minute_when_looped() -> None:
    replay = Replay([capture_of(INVENTED)], loop=True)
    _, second = rounds(replay, 2)
    for row in decoded(second, "btcusdt@kline_1m"):
        assert row["k"]["t"] % 60_000 == 0
        assert row["k"]["T"] == row["k"]["t"] + 59_999


def test_usdm_depth_chains_by_its_previous_id_across_the_seam() -> None:
    updates = [
        (
            "btcusdt@depth@0ms",
            f'{{"e":"depthUpdate","E":{BEGIN_MS + i},"T":{BEGIN_MS + i},"s":"BTCUSDT",'
            f'"U":{100 + 10 * i},"u":{105 + 10 * i},"pu":{95 + 10 * i},"b":[],"a":[]}}'.encode(),
        )
        for i in range(3)
    ]
    played = rounds(Replay([capture_of(updates)], loop=True), 3)
    assert_continuous([message for part in played for message in part])


def test_captures_are_merged_by_their_receive_times() -> None:
    one, other = capture_of(trades(3)), capture_of(trades(3, symbol="ETHUSDT"))
    other.frames = [f._replace(received_us=f.received_us + 500) for f in other.frames]
    streams = [stream for stream, _ in rounds(Replay([other, one]), 1)[0]]
    assert streams == ["btcusdt@trade", "ethusdt@trade"] * 3


def test_captures_of_different_years_begin_together() -> None:
    one, other = capture_of(trades(3)), capture_of(trades(3, symbol="ETHUSDT"))
    other.frames = [f._replace(received_us=f.received_us + 10**14) for f in other.frames]
    replay = Replay([one, other])
    assert len(replay.take(3_000, 100)) == 6


def test_frames_are_handed_out_when_they_are_due() -> None:
    replay = Replay([capture_of(trades(5), every_us=1_000)])
    assert len(replay.take(1_999, 100)) == 2
    assert replay.due_us() == 2_000
    assert len(replay.take(10_000, 100)) == 3
    assert replay.due_us() is None
    assert replay.played_once
    assert replay.take(None, 100) == ()


def test_time_never_goes_back_over_rounds() -> None:
    replay = Replay([capture_of(trades(5))], loop=True)
    times = []
    for _ in range(15):
        replay.take(None, 1)
        times.append(replay.now_ms)
    assert times == sorted(times)


def test_the_recorded_book_follows_the_depth_updates_into_later_rounds() -> None:
    source = market()
    source.want(frozenset({"btcusdt@depth@100ms"}))
    messages = source.step(BEGIN_MS + 2_000)
    updates = decoded(messages, "btcusdt@depth@100ms")
    replay = Replay([capture_of(messages)], loop=True)

    replay.take(None, 10**9)
    first = json.loads(replay.depth("BTCUSDT", 5_000))
    assert first["lastUpdateId"] == updates[-1]["u"]
    levels = {price: quantity for update in updates for price, quantity in update["a"]}
    assert dict(first["asks"]) == {p: q for p, q in levels.items() if float(q)}

    replay.take(None, 10**9)
    later = json.loads(replay.depth("BTCUSDT", 5_000))
    assert later["lastUpdateId"] > first["lastUpdateId"]
    assert later["asks"] == first["asks"]


def test_nothing_to_replay_is_an_error() -> None:
    with pytest.raises(SimulatorError, match="name at least one file"):
        Replay([])


def test_recorded_traffic_loops_without_a_seam(captures: Path) -> None:
    capture = Capture.read(captures / "spot" / "ethusdt_20240808.gz")
    capture.frames = capture.frames[:4_000]
    replay = Replay([capture], loop=True)
    assert_continuous([message for part in rounds(replay, 3) for message in part])


@pytest.mark.parametrize("name", ["spot/altcoins_20211012.gz", "usdm/altcoins_20210722.gz"])
def test_traffic_recorded_in_seconds_loops_without_a_seam(captures: Path, name: str) -> None:
    replay = Replay([Capture.read(captures / name)], loop=True)
    assert_continuous([message for part in rounds(replay, 3) for message in part])


def test_a_recorded_book_begins_with_the_recorded_snapshot(captures: Path) -> None:
    replay = Replay([Capture.read(captures / "spot" / "btcusdt_20240808.gz")])
    replay.take(None, 20)
    book = json.loads(replay.depth("BTCUSDT", 5_000))
    assert len(book["bids"]) > 900
    assert float(book["bids"][0][0]) < float(book["asks"][0][0])
