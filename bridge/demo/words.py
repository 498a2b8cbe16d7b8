"""How figures are written, alike in every view."""

from decimal import Decimal

from rich.table import Table

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


def latency(seconds: float | None) -> str:
    """`0.85 ms`, `12 ms`, `1.2 s`; `-` for none yet."""
    if seconds is None:
        return "-"
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.{0 if seconds >= 0.01 else 1}f} ms"  # noqa: PLR2004 - 10 ms


def clock(seconds: float) -> str:
    """Time passed: `01:05`, `2:01:05`."""
    minutes, second = divmod(int(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute:02}:{second:02}"


def right_aligned(first: str, *others: str) -> Table:
    """A table without lines: names in the first column, numbers in the others."""
    table = Table(first, box=None, header_style="dim", padding=(0, 0, 0, 2))
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table
