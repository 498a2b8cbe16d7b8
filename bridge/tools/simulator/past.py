"""The day before an invented market starts, so that every window is full from the start."""

import math
from random import Random

from bridge.tools.simulator.candles import DAY_MS, MINUTE_MS, Bar
from bridge.tools.simulator.listing import UNIT, Listing

VOLATILITY_PER_ROOT_SECOND = 0.00006  # about 1.8 % a day

_TRADES_PER_MINUTE = 400


def past_day(listing: Listing, random: Random, now_ms: int, last_id: int) -> list[Bar]:
    """Return a day of minute bars up to `now_ms`, walked backwards from the listing's price.

    Their trade ids end with `last_id`. The running minute is included, and still empty.
    """
    volatility = VOLATILITY_PER_ROOT_SECOND * math.sqrt(MINUTE_MS / 1000)
    open_ms = now_ms - now_ms % MINUTE_MS
    bars = [Bar.at(open_ms, listing.price)]
    for _ in range(DAY_MS // MINUTE_MS):
        open_ms -= MINUTE_MS
        bars.append(_minute(listing, random, bars[-1].open, open_ms, last_id, volatility))
        last_id = bars[-1].first_id - 1
    bars.reverse()
    return bars


def _minute(  # noqa: PLR0913, PLR0917 (a row of figures)
    listing: Listing, random: Random, close: int, open_ms: int, last_id: int, volatility: float
) -> Bar:
    def moved(price: int, by: float) -> int:
        return max(1, round(price * math.exp(by) / listing.tick)) * listing.tick

    opened = moved(close, random.gauss(0, volatility))
    high = moved(max(opened, close), abs(random.gauss(0, volatility / 2)))
    low = moved(min(opened, close), -abs(random.gauss(0, volatility / 2)))
    trades = 1 + round(random.expovariate(1 / _TRADES_PER_MINUTE))
    volume = trades * listing.usual_quantity
    quote_volume = volume * ((opened + close) // 2) // UNIT
    taker = random.uniform(0.3, 0.7)
    return Bar(
        open_ms,
        opened,
        high,
        low,
        close,
        volume=volume,
        quote_volume=quote_volume,
        taker_volume=round(volume * taker),
        taker_quote_volume=round(quote_volume * taker),
        trades=trades,
        first_id=last_id - trades + 1,
        last_id=last_id,
    )
