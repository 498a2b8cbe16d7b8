"""The paper trader: positions add up, and no order exceeds the limits."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.client import Quote, Trade
from examples.paper_trader import FEE_SHARE, Crossing, Limits, PaperTrader, Position

HEAD = ("binance.spot", "BTCUSDT", 1_790_000_000_000_000, 1_790_000_000_000_000, "websocket")
ONE = Decimal(1)

prices = st.decimals("1", "1000", places=2)
quantities = st.decimals("-10", "10", places=3).filter(bool)


def quote(bid: str, ask: str) -> Quote:
    return Quote(*HEAD, 1, Decimal(bid), ONE, Decimal(ask), ONE)


def trade(number: int, price: str) -> Trade:
    return Trade(*HEAD, number, Decimal(price), ONE, "buy")


@given(st.lists(st.tuples(quantities, prices), min_size=1), prices)
def test_the_profit_is_what_was_received_minus_what_was_paid(
    fills: list[tuple[Decimal, Decimal]], last: Decimal
) -> None:
    position = Position()
    for quantity, price in fills:
        position.fill(quantity, price)
    cash = -sum(quantity * price for quantity, price in fills)
    fees = sum(abs(quantity) * price * FEE_SHARE for quantity, price in fills)
    held = sum(quantity for quantity, _ in fills)
    assert position.quantity == held
    assert position.fees == fees
    assert abs(position.profit_at(last) - (cash + held * last - fees)) < Decimal("1e-15")


def test_a_crossing_is_told_once() -> None:
    crossing = Crossing()
    signals = [crossing.update(price) for price in (10, 11, 12, 13, 9, 5, 5, 5)]
    assert [signal for signal in signals if signal] == [1, -1]


def test_a_signal_becomes_an_order_that_fills_at_the_other_side_of_the_book() -> None:
    trader = PaperTrader(Limits())
    trader.on_event(quote("99", "101"))
    assert trader.on_event(trade(1, "100")) is None
    order = trader.on_event(trade(2, "105"))
    assert order is not None
    assert order.quantity == Decimal("9.52381")
    assert trader.positions["BTCUSDT"].average_price == Decimal(101)
    assert trader.counts["orders"] == 1


@pytest.mark.parametrize(
    ("limits", "has_quote", "reason"),
    [
        (Limits(), False, "no quote yet"),
        (Limits(order_value=Decimal("0.0001")), True, "less than a lot"),
        (Limits(max_position_value=Decimal(10)), True, "position too large"),
        (Limits(max_loss=Decimal(-1)), True, "loss too large"),
    ],
)
def test_an_order_beyond_the_limits_is_refused(
    limits: Limits,
    has_quote: bool,  # noqa: FBT001
    reason: str,
) -> None:
    trader = PaperTrader(limits)
    if has_quote:
        trader.on_event(quote("99", "101"))
    assert trader.on_event(trade(1, "100")) is None
    assert trader.on_event(trade(2, "105")) is None
    assert trader.counts[f"refused: {reason}"] == 1
    assert trader.counts["orders"] == 0


@given(st.lists(prices, min_size=1, max_size=200))
def test_no_position_exceeds_its_limit(path: list[Decimal]) -> None:
    limits = Limits(order_value=Decimal(1000), max_position_value=Decimal(1500))
    trader = PaperTrader(limits)
    for number, price in enumerate(path):
        trader.on_event(quote(str(price), str(price)))
        if trader.on_event(trade(number, str(price))):
            assert abs(trader.positions["BTCUSDT"].quantity) * price <= limits.max_position_value
