"""One invented symbol: a random fair price, makers that follow it, takers that come in bursts.

Orders arrive as a Hawkes process (each makes others likelier for a moment), by Ogata's thinning.
All randomness comes from one generator, seeded with the market's seed and the symbol's name. It
does not depend on the subscribers.
"""

import math
from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from bridge.tools.simulator.book import Book
from bridge.tools.simulator.candles import MINUTE_MS, Tape
from bridge.tools.simulator.listing import Listing
from bridge.tools.simulator.past import VOLATILITY_PER_ROOT_SECOND, past_day

BOOK_LEVELS = 30  # per side: more than the widest partial depth shows

_MORE_FILLS = 0.2  # probability that an order needs one more maker, if one is left
_TRADES_PER_ORDER = 1.21  # the result, measured over many symbols and rates
_BRANCHING = 0.6  # share of the orders that answer earlier ones
_DECAY_PER_S = 8.0
_SAME_SIDE = 0.65
_MAKERS_PER_ORDER = 3.0
_AT_THE_TOP = 0.5
_LEVEL_GAP = 0.00001  # average distance of two levels, as a share of the price
_RESTING = 8.0  # size of makers' orders, in usual trades


class Fill(NamedTuple):
    """One trade; `buy` if the taker bought. Amounts in units of 1e-8."""

    trade_id: int
    price: int
    quantity: int
    buy: bool


class Instrument:
    """The state of one symbol. It starts at `now_ms`; `rate` is its average trades per second."""

    def __init__(self, listing: Listing, seed: int, now_ms: int, rate: float) -> None:
        self.listing = listing
        self.random = random = Random(f"{seed}:{listing.symbol}")  # noqa: S311 (a seed is the point)
        self.trade_id = random.randrange(10**6, 10**9)
        self.aggregate_id = self.trade_id // 2
        self.block_id = random.randrange(1, 10**4)
        self.book = Book(random.randrange(10**8, 10**10))
        self.tape = Tape(past_day(listing, random, now_ms, self.trade_id))
        self._fair = self.tape.price / listing.tick
        self._fair_at_ms = float(now_ms)
        self._buying = True
        order_rate = rate / _TRADES_PER_ORDER
        self._background = order_rate * (1 - _BRANCHING)
        self._excitement = 0.0
        self._maker_rate = max(2.0, order_rate * _MAKERS_PER_ORDER)
        self._refill()

    def skip_to(self, at_ms: int) -> None:
        """Let time pass in which nothing happens."""
        self.tape.roll(at_ms)
        self._fair_at_ms = float(at_ms)

    def next_order_ms(self, at_ms: float) -> float:
        """Return the time of the next taker after one at `at_ms`."""
        seconds = 0.0
        while True:
            bound = self._background + self._excitement
            wait = self.random.expovariate(bound)
            seconds += wait
            self._excitement *= math.exp(-_DECAY_PER_S * wait)
            intensity = self._background + self._excitement
            if self.random.random() * bound <= intensity:
                self._excitement += _BRANCHING * _DECAY_PER_S
                return at_ms + seconds * 1000

    def next_maker_ms(self, at_ms: float) -> float:
        return at_ms + self.random.expovariate(self._maker_rate) * 1000

    def next_block_ms(self, at_ms: float) -> float:
        return at_ms + self.random.expovariate(1 / MINUTE_MS)

    def order(self, at_ms: int) -> list[Fill]:
        """Execute a taker's order at the best price: one trade or several, all at that price."""
        if self.random.random() > _SAME_SIDE:
            self._buying = not self._buying
        bid, bid_quantity, ask, ask_quantity = self.book.top()
        buy = self._buying
        price, resting = (ask, ask_quantity) if buy else (bid, bid_quantity)
        fills = [
            self._fill(at_ms, price, quantity, buy=buy) for quantity in self._quantities(resting)
        ]
        left = resting - sum(fill.quantity for fill in fills)
        (self.book.set_ask if buy else self.book.set_bid)(price, left)
        self._refill()
        return fills

    def make(self, at_ms: float) -> None:
        """Let a maker act: the fair price moves, and orders that it has passed are withdrawn."""
        self._walk(at_ms)
        book, fair = self.book, self._fair_price()
        for price in [price for price in book.asks if price <= fair]:
            book.set_ask(price, 0)
        for price in [price for price in book.bids if price > fair]:
            book.set_bid(price, 0)
        away = 0 if self.random.random() < _AT_THE_TOP else self._gap(BOOK_LEVELS // 3)
        if self.random.random() < 0.5:  # noqa: PLR2004 (either side as likely)
            book.set_bid(max(self.listing.tick, fair - away), self.quantity(_RESTING))
        else:
            book.set_ask(fair + self.listing.tick + away, self.quantity(_RESTING))
        self._refill()

    def quantity(self, factor: float = 1.0) -> int:
        """Return a random size in whole lots: log-normal around the usual one."""
        lot = self.listing.lot
        size = self.listing.usual_quantity * factor * self.random.lognormvariate(0, 1.1)
        return max(1, round(size / lot)) * lot

    def _quantities(self, resting: int) -> Iterator[int]:
        while resting:
            quantity = min(self.quantity(), resting)
            resting -= quantity
            yield quantity
            if self.random.random() > _MORE_FILLS:
                return

    def _fill(self, at_ms: int, price: int, quantity: int, *, buy: bool) -> Fill:
        self.trade_id += 1
        self.tape.trade(at_ms, self.trade_id, price, quantity, buy=buy)
        return Fill(self.trade_id, price, quantity, buy)

    def _walk(self, at_ms: float) -> None:
        seconds = (at_ms - self._fair_at_ms) / 1000
        self._fair_at_ms = at_ms
        self._fair *= math.exp(
            self.random.gauss(0, VOLATILITY_PER_ROOT_SECOND * math.sqrt(seconds))
        )

    def _fair_price(self) -> int:
        """Return the highest price of a bid: the fair price, rounded down to a tick."""
        return max(2 * BOOK_LEVELS, math.floor(self._fair)) * self.listing.tick

    def _gap(self, levels: int = 1) -> int:
        ticks = self._fair * _LEVEL_GAP * levels
        return (1 + round(self.random.expovariate(1 / ticks))) * self.listing.tick

    def _refill(self) -> None:
        """Keep each side at `BOOK_LEVELS` levels at least, and twice as many at most."""
        book, fair, tick = self.book, self._fair_price(), self.listing.tick
        while len(book.bids) < BOOK_LEVELS:
            lowest = min(book.bids) if book.bids else min(fair, book.best_ask or fair) + tick
            price = max(tick, lowest - self._gap())
            if price in book.bids:
                break  # nothing is cheaper than one tick
            book.set_bid(price, self.quantity(_RESTING))
        while len(book.asks) < BOOK_LEVELS:
            highest = max(book.asks) if book.asks else max(fair, book.best_bid)
            book.set_ask(highest + self._gap(), self.quantity(_RESTING))
        while len(book.bids) > 2 * BOOK_LEVELS:
            book.set_bid(min(book.bids), 0)
        while len(book.asks) > 2 * BOOK_LEVELS:
            book.set_ask(max(book.asks), 0)
