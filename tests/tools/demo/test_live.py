"""The table of the demo: what it shows stays in its place."""

import re
from decimal import Decimal

import pytest
from rich.console import Console

from bridge.client import LatestPrice
from bridge.tools.demo.figures import Account, Figures, Row
from bridge.tools.demo.latency import Quantiles
from bridge.tools.demo.live import LiveTable


def figures(count: int, price: str, latency_s: float) -> Figures:
    latest = LatestPrice(
        symbol="BTCUSDT",
        price=Decimal(price),
        price_time=0,
        bid_price=Decimal(price),
        ask_price=Decimal(price),
        change_percent=Decimal(count) / 1_000,
    )
    sinks = ("kafka", "redis")
    return Figures(
        elapsed_s=float(count),
        received=count,
        messages_per_second=count / 10,
        reconnects=count % 9,
        rows=[Row("BTCUSDT", latest, count / 100), Row("1000SATSUSDT", None, 0.0)],
        more_symbols=0,
        accounts=[Account(sink, count, 0, 0) for sink in sinks],
        latencies={sink: Quantiles(latency_s, 2 * latency_s) for sink in sinks},
    )


FEW = figures(1, "9876.5", 0.0009)
MANY = figures(99_999, "123456.78", 0.45)


def shown(table: LiveTable, what: Figures) -> list[str]:
    with table.console.capture() as capture:
        table.console.print(table.frame(what))
    return re.sub("[▲▼]", " ", capture.get()).splitlines()


def right_edges(line: str) -> list[int]:
    """Return where the words of a line end; a unit belongs to its number."""
    return [word.end() for word in re.finditer(r"\S+(?: (?:%|ms|s))?", line)]


@pytest.mark.parametrize("width", [70, 80, 120])
def test_a_figure_that_has_more_or_fewer_digits_does_not_move_its_column(width: int) -> None:
    table = LiveTable(Console(width=width, force_terminal=False))
    few, many, again = (shown(table, what) for what in (FEW, MANY, FEW))
    assert few == again
    for line in (2, 3, 6, 7):
        assert right_edges(few[line]) == right_edges(many[line])


@pytest.mark.parametrize("width", [70, 80, 120])
def test_no_line_wraps_or_is_cut_in_70_columns(width: int) -> None:
    lines = shown(LiveTable(Console(width=width, force_terminal=False)), MANY)
    assert max(map(len, lines)) <= 70
    assert "…" not in "".join(lines)
    assert "123,456.78" in lines[2]
    assert len(lines) == 10


def test_a_column_grows_for_a_long_price_and_keeps_its_width() -> None:
    table = LiveTable(Console(width=120, force_terminal=False))
    (_, _, _, grown, *_), (_, _, _, later, *_) = (
        shown(table, what) for what in (figures(1, "1500000000.25", 0.001), FEW)
    )
    assert len(grown) == len(later) > 70
