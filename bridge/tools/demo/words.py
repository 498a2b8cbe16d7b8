"""How the demo calls and writes things, alike in every view."""

from decimal import Decimal

TITLES = {"kafka": "Kafka", "redis": "Redis"}
# Where each latency ends; all begin when the frame arrives.
ENDS = {"kafka": "Kafka confirmed", "redis": "Redis subscriber"}
MIN_DECIMALS = 2
# The equation of the accounts, spread over a table.
ACCOUNT_COLUMNS = ("Received", "= Published", "+ Dropped", "+ Pending")


def decimals(value: Decimal) -> int:
    """How many decimals a price needs: Binance writes all with eight."""
    exponent = value.normalize().as_tuple().exponent
    return max(MIN_DECIMALS, -exponent) if isinstance(exponent, int) else MIN_DECIMALS


def clock(seconds: float) -> str:
    """Time passed: `01:05`, `2:01:05`."""
    minutes, second = divmod(int(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute:02}:{second:02}"
