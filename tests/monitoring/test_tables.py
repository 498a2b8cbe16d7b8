"""The tables of reports."""

from io import StringIO

from rich.console import Console
from rich.table import Table

from bridge.monitoring.tables import print_whole


def test_a_narrow_terminal_gets_every_cell_whole() -> None:
    out = StringIO()
    table = Table("symbol", box=None)
    for name in ("first trade_id", "last"):
        table.add_column(name, justify="right", no_wrap=True)
    cells = ("1000SATSUSDT", "3735683259", "123456.78000000")
    table.add_row(*cells)
    print_whole(Console(file=out, width=20, force_terminal=True, color_system=None), table)
    assert out.getvalue().splitlines()[1].split() == [*cells]
