"""What every view can do, and which one suits."""

import sys
from typing import Protocol, Self

from rich.console import Console

from bridge.tools.demo.figures import Figures
from bridge.tools.demo.lines import Lines
from bridge.tools.demo.live import LiveTable


class View(Protocol):
    """A context manager: entered, it may be shown something; left, the console is free again."""

    console: Console
    refresh_s: float

    def __enter__(self) -> Self: ...

    def __exit__(self, *_error: object) -> None: ...

    def wait_for(self, what: str) -> None:
        """Say what takes a moment."""
        ...

    def show(self, figures: Figures) -> None:
        """Show the figures of now in place of earlier ones, or below them."""
        ...


def choose_view(*, plain: bool) -> View:
    """The live table in a terminal, else, or if asked for, lines."""
    terminal = sys.stdout.isatty() and not plain
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal of ASCII only
    if terminal:
        return LiveTable(Console())
    return Lines(Console(force_terminal=False, color_system=None, legacy_windows=False))
