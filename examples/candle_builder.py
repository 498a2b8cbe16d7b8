"""Builds candles from trades, and prints each one once, when it is complete.

When is a candle complete? Not when the next trade comes, because a lost one may still be fetched.
The status of a symbol says up to which time its trades are complete in Kafka (`complete_to`). That
is the watermark: a candle that ends before it is final. A trade that was never fetched is announced
by a gap event, and its candle says so.
"""

import argparse
import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from bridge.client import AnyEvent, Gap, KafkaFeed, SymbolStatus, Trade
from bridge.client.events import datetime_of


@dataclass(slots=True)
class Candle:
    """The trades of a symbol from `begin_us` on. `lost` counts ids that are missing for good."""

    symbol: str
    begin_us: int
    trades: dict[int, Trade]
    lost: int = 0

    def __str__(self) -> str:
        prices = [self.trades[number].price for number in sorted(self.trades)]
        volume = sum((trade.volume for trade in self.trades.values()), Decimal(0))
        figures = f"{prices[0]} {max(prices)} {min(prices)} {prices[-1]} {volume}"
        lost = f"  {self.lost} trades lost" if self.lost else ""
        begin = datetime_of(self.begin_us).isoformat(timespec="seconds")
        return f"{begin} {self.symbol} {figures} {len(self.trades)}{lost}"


class CandleBuilder:
    """Sorts trades into candles of one length, and yields those that are complete."""

    def __init__(self, length: timedelta) -> None:
        self._length_us = length // timedelta(microseconds=1)
        self._candles: defaultdict[str, dict[int, Candle]] = defaultdict(dict)
        # The first candle of a symbol began before we did.
        self._first: dict[str, int] = {}
        self._watermarks: dict[str, SymbolStatus] = {}
        self._last_ids: defaultdict[str, int] = defaultdict(int)

    def take(self, event: AnyEvent) -> Iterator[Candle]:
        """Take the next event of the feed; yield the candles that are complete now."""
        match event:
            case Trade(symbol=symbol, timestamp=int(time)):
                self._candle(symbol, time).trades[event.trade_id] = event
                self._last_ids[symbol] = max(self._last_ids[symbol], event.trade_id)
            case Gap(kind="trade", state="lost", symbol=symbol, from_time=int(time)):
                count = 1 + (event.last_id or 0) - (event.first_id or 0)
                self._candle(symbol, time).lost += count
            case SymbolStatus(symbol=symbol, complete_to=int()):
                self._watermarks[symbol] = event
        yield from self._complete(event.symbol)

    def _candle(self, symbol: str, time_us: int) -> Candle:
        begin_us = time_us - time_us % self._length_us
        self._first.setdefault(symbol, begin_us)
        return self._candles[symbol].setdefault(begin_us, Candle(symbol, begin_us, {}))

    def _complete(self, symbol: str) -> Iterator[Candle]:
        """Yield the candles that end before the watermark, once we have read that far.

        The topics are read side by side: a status may come before the trades that it is about.
        """
        status = self._watermarks.get(symbol)
        if status is None or (status.trade_id or 0) > self._last_ids[symbol]:
            return
        candles = self._candles[symbol]
        for begin_us in sorted(candles):
            if begin_us + self._length_us > (status.complete_to or 0):
                return
            candle = candles.pop(begin_us)
            if begin_us != self._first[symbol] and candle.trades:
                yield candle


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kafka", default="localhost:9092", metavar="HOST:PORT")
    parser.add_argument("--symbols", default="BTCUSDT", help="comma-separated")
    parser.add_argument("--seconds", type=int, default=60, help="the length of a candle")
    parser.add_argument("--candles", type=int, default=0, help="stop after so many; 0: never")
    options = parser.parse_args()
    builder, printed = CandleBuilder(timedelta(seconds=options.seconds)), 0
    kinds, symbols = ["trade", "gap", "status"], options.symbols.split(",")
    print("begin symbol open high low close volume trades")
    async with KafkaFeed(options.kafka, kinds, symbols=symbols) as feed:
        async for event in feed:
            for candle in builder.take(event):
                print(candle, flush=True)
                printed += 1
                if printed == options.candles:
                    return


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
