"""The candle builder: each candle once, and only when nothing can be missing from it any more."""

from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from bridge.client import AnyEvent, Gap, SymbolStatus, Trade
from examples.candle_builder import Candle, CandleBuilder

BEGIN_US = 1_790_000_000_000_000
SECOND_US = 1_000_000
ONE = Decimal(1)


def trade(number: int, second: float, price: int = 1) -> AnyEvent:
    time = BEGIN_US + round(second * SECOND_US)
    head = ("binance.spot", "BTCUSDT", time, time, "websocket")
    return Trade(*head, number, Decimal(price), ONE, "buy")


def status(trade_id: int, complete_to: float) -> AnyEvent:
    head = ("binance.spot", "BTCUSDT", None, BEGIN_US, "bridge", "live", BEGIN_US)
    end = BEGIN_US + round(complete_to * SECOND_US)
    return SymbolStatus(*head, trade_id, None, end, None, "someone", None)


def lost(first: int, last: int, second: float) -> AnyEvent:
    time = BEGIN_US + round(second * SECOND_US)
    head = ("binance.spot", "BTCUSDT", None, BEGIN_US, "websocket", "trade")
    return Gap(*head, first, last, time, None, "closed", "lost")


def built(events: Iterable[AnyEvent]) -> list[Candle]:
    builder = CandleBuilder(timedelta(seconds=1))
    return [candle for event in events for candle in builder.take(event)]


def test_a_candle_is_complete_at_the_watermark_and_not_before() -> None:
    events = [trade(1, 0.5), trade(2, 1.1, 5), trade(3, 1.9, 3), trade(4, 2.1, 9)]
    assert built([*events, status(4, 1.99)]) == []
    (candle,) = built([*events, status(4, 2.0)])
    assert str(candle) == "2026-09-21T14:13:21+00:00 BTCUSDT 5 5 3 3 2 2"


def test_the_first_candle_is_left_out_because_it_began_before_us() -> None:
    assert built([trade(1, 0.5), trade(2, 0.7), status(2, 10)]) == []


def test_a_status_waits_until_its_trades_were_read() -> None:
    begin = [trade(1, 0.5), trade(2, 1.2), status(3, 5)]
    assert built(begin) == []
    (candle,) = built([*begin, trade(3, 1.3)])
    assert list(candle.trades) == [2, 3]


def test_a_trade_that_was_fetched_late_is_in_its_place() -> None:
    events = [trade(1, 0.5), trade(2, 1.2, 2), trade(4, 1.4, 4), trade(3, 1.3, 9), status(4, 2)]
    (candle,) = built(events)
    assert str(candle).split()[2:] == ["2", "9", "2", "4", "3", "3"]


def test_what_is_missing_for_good_is_said() -> None:
    (candle,) = built([trade(1, 0.5), trade(2, 1.2), lost(3, 5, 1.3), trade(6, 1.4), status(6, 2)])
    assert str(candle).endswith("2  3 trades lost")


@given(st.lists(st.integers(0, 20 * SECOND_US), min_size=1))
def test_every_trade_is_in_exactly_one_candle(times: list[int]) -> None:
    times.sort()
    trades = [trade(number, time / SECOND_US) for number, time in enumerate(times)]
    candles = built([*trades, status(len(trades) - 1, 30)])
    begin = times[0] // SECOND_US + 1  # the candle of the first trade is left out
    assert [number for candle in candles for number in candle.trades] == [
        number for number, time in enumerate(times) if time >= begin * SECOND_US
    ]
    assert [candle.begin_us for candle in candles] == sorted({c.begin_us for c in candles})
