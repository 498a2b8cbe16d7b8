"""How reports are laid out, alike in every command."""

from rich.console import Console
from rich.table import Table

# Where nobody sets a width, a pipe or a file, a table keeps its numbers whole.
WIDTH_OF_A_FILE = 160


def report_console(*, markup: bool = True) -> Console:
    """Where a report is printed: long lines are left to the terminal."""
    console = Console(soft_wrap=True, highlight=False, markup=markup)
    if not console.is_terminal:
        console.width = WIDTH_OF_A_FILE
    return console


def right_aligned(first: str, *others: str) -> Table:
    """A table without lines: names in the first column, numbers in the others."""
    table = Table(first, box=None, header_style="dim", padding=(0, 0, 0, 2))
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table
