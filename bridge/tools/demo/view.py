"""The interface of the views, and the choice between them."""

import sys
from typing import Protocol, Self

from rich.console import Console

from bridge.tools.demo.figures import Figures
from bridge.tools.demo.lines import Lines
from bridge.tools.demo.live import LiveTable


class View(Protocol):
    """A context manager that uses the console between entry and exit."""

    console: Console
    refresh_s: float

    def __enter__(self) -> Self: ...

    def __exit__(self, *_error: object) -> None: ...

    def wait_for(self, what: str) -> None:
        """Show what the demo waits for."""
        ...

    def show(self, figures: Figures) -> None:
        """Show the current figures in place of the earlier ones, or below them."""
        ...


def choose_view(*, plain: bool) -> View:
    """Return the live table in a terminal, and lines otherwise or if `plain`."""
    terminal = sys.stdout.isatty() and not plain
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal may be ASCII
    if terminal:
        return LiveTable(Console())
    return Lines(Console(force_terminal=False, color_system=None, legacy_windows=False))
