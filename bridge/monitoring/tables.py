"""The layout of reports, the same in every command."""

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

# The width for a pipe or a file, which have no width. It keeps the numbers of a table complete.
WIDTH_OF_A_FILE = 160


def report_console(*, markup: bool = True) -> Console:
    """Return the console for a report. It leaves the wrapping of long lines to the terminal."""
    console = Console(soft_wrap=True, highlight=False, markup=markup)
    if not console.is_terminal:
        console.width = WIDTH_OF_A_FILE
    return console


def print_whole(console: Console, table: Table) -> None:
    """Print a table without cutting a cell: a narrow terminal wraps its lines."""
    options = console.options.update(max_width=WIDTH_OF_A_FILE)
    console.width = max(console.width, Measurement.get(console, options, table).maximum)
    console.print(table, crop=False)


def right_aligned(first: str, *others: str) -> Table:
    """Return a table without lines: names in the first column, numbers in the others."""
    table = Table(first, box=None, header_style="dim", padding=(0, 0, 0, 2))
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table
