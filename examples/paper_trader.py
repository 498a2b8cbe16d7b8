"""Trades on paper: events become signals, signals become orders within risk limits, orders fill.

A signal comes when a fast average of the trades' prices crosses a slow one. An order fills at the
best bid or ask, with a fee. This shows how a strategy is built on the feed; it makes no money.
"""

import argparse
import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from random import Random
from statistics import median
from typing import NamedTuple

from bridge.client import AnyEvent, Quote, RedisFeed, Trade

FEE_SHARE = Decimal("0.001")
LOT = Decimal("0.00001")
ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Limits:
    """The risk limits, in the currency of the prices."""

    order_value: Decimal = Decimal(1_000)
    max_position_value: Decimal = Decimal(5_000)
    max_loss: Decimal = Decimal(500)


class Order(NamedTuple):
    """An order at the market. A negative quantity sells."""

    symbol: str
    quantity: Decimal


@dataclass(slots=True)
class Crossing:
    """A fast and a slow average of a price."""

    fast_weight: float = 0.3
    slow_weight: float = 0.1
    fast: float = 0.0
    slow: float = 0.0

    def update(self, price: float) -> int:
        """Return 1 if the fast one rises above the slow one, -1 if it falls below it, else 0."""
        if not self.slow:
            self.fast = self.slow = price
        was_above = self.fast > self.slow
        self.fast += self.fast_weight * (price - self.fast)
        self.slow += self.slow_weight * (price - self.slow)
        return (self.fast > self.slow) - was_above


@dataclass(slots=True)
class Position:
    """What is held of a symbol, the average price of that, and the profit that was made."""

    quantity: Decimal = ZERO
    average_price: Decimal = ZERO
    profit: Decimal = ZERO
    fees: Decimal = ZERO

    def fill(self, quantity: Decimal, price: Decimal) -> None:
        """Buy, or sell a negative quantity."""
        held, self.quantity = self.quantity, self.quantity + quantity
        self.fees += abs(quantity) * price * FEE_SHARE
        if held * quantity >= ZERO:
            value = held * self.average_price + quantity * price
            self.average_price = value / self.quantity
            return
        closed = min(abs(held), abs(quantity)).copy_sign(held)
        self.profit += closed * (price - self.average_price)
        if abs(quantity) > abs(held):
            self.average_price = price

    def profit_at(self, price: Decimal) -> Decimal:
        """Return the profit if everything were sold at this price, after fees."""
        return self.profit - self.fees + self.quantity * (price - self.average_price)


class PaperTrader:
    """Turns events into orders and fills. `counts` has what came and what became of it."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.counts: Counter[str] = Counter()
        self.positions: defaultdict[str, Position] = defaultdict(Position)
        self.quotes: dict[str, Quote] = {}
        self._crossings: defaultdict[str, Crossing] = defaultdict(Crossing)

    def on_event(self, event: AnyEvent) -> Order | None:
        """Take an event; return the order that it leads to, which is filled by then."""
        self.counts["events"] += 1
        if isinstance(event, Quote):
            self.quotes[event.symbol] = event
        elif isinstance(event, Trade):
            direction = self._crossings[event.symbol].update(float(event.price))
            return self._order(event, direction) if direction else None
        return None

    def _order(self, trade: Trade, direction: int) -> Order | None:
        self.counts["signals"] += 1
        quantity = (direction * self.limits.order_value / trade.price).quantize(LOT)
        order = Order(trade.symbol, quantity)
        if reason := self._objection(order, trade.price):
            self.counts[f"refused: {reason}"] += 1
            return None
        quote, position = self.quotes[order.symbol], self.positions[order.symbol]
        position.fill(quantity, quote.ask_price if quantity > ZERO else quote.bid_price)
        self.counts["orders"] += 1
        return order

    def _objection(self, order: Order, price: Decimal) -> str:
        """Return why the risk limits forbid an order; empty if they do not."""
        if order.symbol not in self.quotes:
            return "no quote yet"
        if not order.quantity:
            return "less than a lot"
        position = self.positions[order.symbol]
        if abs(position.quantity + order.quantity) * price > self.limits.max_position_value:
            return "position too large"
        if position.profit_at(price) < -self.limits.max_loss:
            return "loss too large"
        return ""


class Stopwatch:
    """Trades, and measures the nanoseconds from each event to its order."""

    def __init__(self, trader: PaperTrader) -> None:
        self.trader = trader
        self.taken_ns: list[int] = []

    def on_event(self, event: AnyEvent) -> None:
        begun_ns = time.perf_counter_ns()
        if self.trader.on_event(event):
            self.taken_ns.append(time.perf_counter_ns() - begun_ns)


async def trade_on_paper(feed: RedisFeed, stopwatch: Stopwatch, seconds: float) -> None:
    """Trade for some seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            async for event in feed:
                stopwatch.on_event(event)


def invented_market(count: int) -> Iterator[AnyEvent]:
    """Yield quotes and trades whose price goes up and down at random."""
    random, price, volume = Random(1), 60_000.0, Decimal(1)
    for number in range(count // 2):
        price += random.gauss(0, 5)
        head = ("invented", "BTCUSDT", number, number, "invented")
        bid, ask = Decimal(f"{price - 0.01:.2f}"), Decimal(f"{price + 0.01:.2f}")
        yield Quote(*head, number, bid, volume, ask, volume)
        yield Trade(*head, number, Decimal(f"{price:.2f}"), volume, "buy")


def print_report(stopwatch: Stopwatch) -> None:
    """Print what came, what became of it, and the profit."""
    trader, taken_ns = stopwatch.trader, stopwatch.taken_ns
    for name, count in sorted(trader.counts.items()):
        print(f"{name:<28}{count:>10,}")
    if taken_ns:
        print(f"{'event to order, median':<28}{median(taken_ns) / 1000:>10.1f} µs")
    print(f"\n{'symbol':<12}{'position':>14}{'average price':>16}{'profit':>12}{'fees':>12}")
    for symbol, position in sorted(trader.positions.items()):
        profit = position.profit_at(trader.quotes[symbol].bid_price)
        figures = f"{position.average_price:>16.4f}{profit:>12.2f}{position.fees:>12.2f}"
        print(f"{symbol:<12}{position.quantity:>14}{figures}")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redis", default="redis://localhost:6379/0", metavar="URL")
    parser.add_argument("--symbols", default="*", help="comma-separated; patterns as *USDT")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--invented", type=int, metavar="EVENTS", help="trade without a bridge")
    options = parser.parse_args()
    stopwatch = Stopwatch(PaperTrader(Limits()))
    if options.invented:
        for event in invented_market(options.invented):
            stopwatch.on_event(event)
    else:
        symbols = options.symbols.split(",")
        async with RedisFeed(options.redis, ["trade", "quote"], symbols=symbols) as feed:
            await trade_on_paper(feed, stopwatch, options.seconds)
    print_report(stopwatch)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
