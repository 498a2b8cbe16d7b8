"""Names and number formats that all views of the demo share."""

from decimal import Decimal

TITLES = {"kafka": "Kafka", "redis": "Redis"}
MIN_DECIMALS = 2
# The equation of the accounts as table columns.
ACCOUNT_COLUMNS = ("Received", "= Published", "+ Dropped", "+ Pending")


def decimals(value: Decimal) -> int:
    """Return the number of decimals a price needs: Binance writes all prices with eight."""
    exponent = value.normalize().as_tuple().exponent
    return max(MIN_DECIMALS, -exponent) if isinstance(exponent, int) else MIN_DECIMALS


def clock(seconds: float) -> str:
    """Format elapsed time: `01:05`, `2:01:05`."""
    minutes, second = divmod(int(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute:02}:{second:02}"
