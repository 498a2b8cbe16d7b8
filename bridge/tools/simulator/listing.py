"""The properties of an invented symbol: its assets, price, tick, lot and usual size.

Amounts are integers in units of 1e-8, because Binance writes eight decimals on spot.
"""

import math
from dataclasses import dataclass
from zlib import crc32

UNIT = 10**8

_QUOTE_ASSETS = (
    "USDT", "USDC", "FDUSD", "TUSD", "BUSD", "BTC", "ETH", "BNB",
    "EUR", "TRY", "BRL", "JPY", "GBP", "PLN", "ARS", "MXN", "IDR", "USD",
)  # fmt: skip
_DOLLARS = {"BTC": 85_000.0, "ETH": 2_700.0, "BNB": 1_100.0, "EUR": 1.15, "GBP": 1.32}
_DOLLARS |= {"TRY": 0.024, "BRL": 0.18, "JPY": 0.0065, "PLN": 0.27, "ARS": 0.0007}
_DOLLARS |= {"MXN": 0.054, "IDR": 0.00006}

# Dollar prices of the best-known base assets; any other price is derived from the symbol.
_PRICES = _DOLLARS | {
    "SOL": 190.0, "XRP": 2.2, "ADA": 0.75, "DOGE": 0.18, "TRX": 0.31, "LTC": 110.0,
    "LINK": 19.0, "DOT": 4.1, "AVAX": 28.0, "UNI": 7.6, "BCH": 540.0, "ATOM": 4.3,
    "SHIB": 0.000012, "PEPE": 0.0000105, "TON": 2.9, "SUI": 3.2, "NEAR": 2.5, "PAXG": 4_100.0,
    "USDC": 1.0, "FDUSD": 1.0, "USDT": 1.0, "TUSD": 1.0,
}  # fmt: skip
_TICKS_IN_PRICE = 30_000  # about as fine as Binance lists: 0.7500, 0.00001200
_COARSEST_TICK = UNIT // 100  # also for a price such as 85000.00
_USUAL_TRADE_DOLLARS = 400


@dataclass(frozen=True, slots=True)
class Listing:
    """One symbol. `price`, `tick`, `lot` and `usual_quantity` are in units of 1e-8."""

    symbol: str
    base: str
    quote: str
    price: int
    tick: int
    lot: int
    usual_quantity: int


def listing_of(symbol: str) -> Listing:
    """Return the listing of any symbol, the same every time."""
    base, quote = assets_of(symbol)
    dollars = _PRICES.get(base) or _drawn_price(symbol)
    price = dollars / _DOLLARS.get(quote, 1.0)
    tick = min(_COARSEST_TICK, _power_of_ten(price * UNIT / _TICKS_IN_PRICE))
    usual = _USUAL_TRADE_DOLLARS / dollars
    lot = min(UNIT, max(1_000, _power_of_ten(usual * UNIT / 1_000)))
    whole_ticks = max(100, round(price * UNIT / tick))
    whole_lots = max(10, round(usual * UNIT / lot))
    return Listing(symbol, base, quote, whole_ticks * tick, tick, lot, whole_lots * lot)


def assets_of(symbol: str) -> tuple[str, str]:
    """Return the base and the quote asset: BTC and USDT for `BTCUSDT`.

    If no known quote asset matches, the last three characters are the quote asset.
    """
    for quote in _QUOTE_ASSETS:
        if symbol.endswith(quote) and len(symbol) > len(quote):
            return symbol[: -len(quote)], quote
    return symbol[:-3] or symbol, symbol[-3:]


def decimal(amount: int) -> str:
    """Return an amount in units of 1e-8 as Binance writes it: `61837.63000000`."""
    if amount < 0:
        return "-" + decimal(-amount)
    return f"{amount // UNIT}.{amount % UNIT:08d}"


def _drawn_price(symbol: str) -> float:
    """Return a price between 0.1 cent and ten dollars, derived from the symbol."""
    return float(10 ** (-3 + 4 * crc32(symbol.encode()) / 2**32))


def _power_of_ten(amount: float) -> int:
    return int(10 ** max(0, math.floor(math.log10(max(amount, 1)))))
