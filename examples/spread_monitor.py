"""Watches the spreads of symbols, and prints an alert when one stays wide, or its feed stops.

A quiet market and a broken feed look the same to a subscriber. The latest values in Redis have the
state of each symbol's feed, so the monitor can tell them apart.
"""

import argparse
import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal

from bridge.client import LatestPrices, Quote, RedisFeed

# How often the states of the feeds are looked up.
LOOK_INTERVAL_S = 1.0


@dataclass(slots=True)
class SpreadMonitor:
    """Finds spreads that stay at `limit` (in basis points of the middle) or above for `hold_us`."""

    limit: Decimal
    hold_us: int
    _wide_since: dict[str, int] = field(default_factory=dict)
    _alerted: set[str] = field(default_factory=set)
    _feeds: dict[str, str] = field(default_factory=dict)

    def take(self, quote: Quote) -> Iterator[str]:
        """Take a quote; yield an alert, or the end of one."""
        middle = (quote.bid_price + quote.ask_price) / 2
        if not middle:
            return  # one side of the book is empty
        spread = 10_000 * (quote.ask_price - quote.bid_price) / middle
        symbol = quote.symbol
        if spread < self.limit:
            self._wide_since.pop(symbol, None)
            if symbol in self._alerted:
                self._alerted.remove(symbol)
                yield f"OK     {symbol} spread {spread:.2f} bp"
            return
        since = self._wide_since.setdefault(symbol, quote.received)
        if symbol not in self._alerted and quote.received - since >= self.hold_us:
            self._alerted.add(symbol)
            yield f"ALERT  {symbol} spread {spread:.2f} bp: {quote.bid_price} to {quote.ask_price}"

    def take_feeds(self, feeds: dict[str, str]) -> Iterator[str]:
        """Take the states of the feeds by symbol; yield an alert for each that has changed."""
        for symbol, feed in feeds.items():
            if self._feeds.get(symbol, "live") != feed:
                yield f"{'OK   ' if feed == 'live' else 'ALERT'}  {symbol} feed is {feed}"
        self._feeds |= feeds


async def watch_feeds(prices: LatestPrices, monitor: SpreadMonitor) -> None:
    """Look up the states of the feeds, without end. Without a bridge no feed is live."""
    while True:
        is_there = await prices.owner() is not None
        found = await prices.all_prices()
        feeds = {name: price.feed if is_there else "down" for name, price in found.items()}
        known = {name: feed for name, feed in feeds.items() if feed}
        for line in monitor.take_feeds(known):
            print(line, flush=True)
        await asyncio.sleep(LOOK_INTERVAL_S)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redis", default="redis://localhost:6379/0", metavar="URL")
    parser.add_argument("--symbols", default="*", help="comma-separated; patterns as *USDT")
    parser.add_argument("--basis-points", type=Decimal, default=Decimal(5))
    parser.add_argument("--hold-ms", type=int, default=500)
    options = parser.parse_args()
    monitor = SpreadMonitor(options.basis_points, options.hold_ms * 1000)
    async with (
        LatestPrices(options.redis) as prices,
        RedisFeed(options.redis, "quote", symbols=options.symbols.split(",")) as feed,
        asyncio.TaskGroup() as group,
    ):
        print(f"watching {options.symbols}: above {options.basis_points} basis points", flush=True)
        group.create_task(watch_feeds(prices, monitor))
        async for quote in feed:
            if isinstance(quote, Quote):
                for line in monitor.take(quote):
                    print(line, flush=True)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
