"""The view for pipes and logs: one line of plain text per second."""

import time
from typing import Self

from rich.console import Console

from bridge.monitoring.words import latency
from bridge.tools.demo.figures import Figures, Row
from bridge.tools.demo.words import TITLES, decimals


class Lines:
    """Prints one line for each refresh."""

    refresh_s = 1.0

    def __init__(self, console: Console) -> None:
        self.console = console

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def wait_for(self, what: str) -> None:
        self._print(what)

    def show(self, figures: Figures) -> None:
        latencies = (
            f"{TITLES[sink]} p50 {latency(recent.p50_s)} p99 {latency(recent.p99_s)}"
            for sink, recent in figures.latencies.items()
        )
        self._print(
            "  ".join(
                (
                    time.strftime("%H:%M:%S"),
                    *map(_price, figures.rows),
                    f"{figures.messages_per_second:,.0f} msg/s",
                    *latencies,
                )
            )
        )

    def _print(self, text: str) -> None:
        self.console.print(text, soft_wrap=True, markup=False, highlight=False)
        self.console.file.flush()  # a pipe would buffer it for minutes


def _price(row: Row) -> str:
    if row.latest is None:
        return f"{row.symbol} -"
    return f"{row.symbol} {row.latest.price:,.{decimals(row.latest.price)}f}"
