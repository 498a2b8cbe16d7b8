"""The view for terminals: tables that are refreshed in place."""

import sys
from collections import defaultdict
from decimal import Decimal
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.constrain import Constrain
from rich.live import Live
from rich.rule import Rule
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from bridge.client import LatestPrice
from bridge.monitoring.words import latency
from bridge.tools.demo.figures import Account, Figures, Row
from bridge.tools.demo.words import (
    ACCOUNT_COLUMNS,
    ENDS,
    MIN_DECIMALS,
    clock,
    decimals,
)

_UP, _DOWN = "green", "red"
MAX_WIDTH = 100  # rows of wider tables are hard to follow


class LiveTable:
    """Prices, and the accounts of both sinks, refreshed in place.

    The table disappears when the demo stops, and the summary replaces it. Logs appear above the
    table, because standard error goes through the same console if it is a terminal.
    """

    refresh_s = 0.25

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live = Live(
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=sys.stderr.isatty(),
            vertical_overflow="crop",
        )
        self._ticks: defaultdict[str, _Tick] = defaultdict(_Tick)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._live.stop()

    def wait_for(self, what: str) -> None:
        self._live.update(Spinner("dots", what), refresh=True)

    def show(self, figures: Figures) -> None:
        parts: list[RenderableType] = [
            Rule(style="dim"),
            self._prices(figures),
            "",
            _sinks(figures),
            "",
            _footer(figures),
        ]
        width = min(self.console.width, MAX_WIDTH)
        self._live.update(Constrain(Group(*parts), width), refresh=True)

    def _prices(self, figures: Figures) -> Table:
        table = _table("Symbol", "Price", "24 h", "Bid", "Ask", "Messages/s")
        for row in figures.rows:
            table.add_row(row.symbol, *self._cells(row))
        if figures.more_symbols:
            table.add_row(Text(f"… {figures.more_symbols:,} more", style="dim"))
        return table

    def _cells(self, row: Row) -> list[Text]:
        latest, rate = row.latest, Text(f"{row.messages_per_second:,.1f}")
        if latest is None:
            return [*(Text("-", style="dim") for _ in range(4)), rate]
        tick = self._ticks[row.symbol]
        tick.move(latest)
        price = Text(f"{tick.arrow} {tick.text(latest.price)}", style=f"bold {tick.style}")
        quote = [Text(tick.text(side)) for side in (latest.bid_price, latest.ask_price)]
        return [price, _change(latest.change_percent), *quote, rate]


class _Tick:
    """The last price movement of a symbol, and the number of decimals of its prices so far."""

    def __init__(self) -> None:
        self.style = ""
        self.arrow = " "
        self._price: Decimal | None = None
        self._decimals = MIN_DECIMALS

    def move(self, latest: LatestPrice) -> None:
        if self._price is not None and latest.price != self._price:
            up = latest.price > self._price
            self.style, self.arrow = (_UP, "▲") if up else (_DOWN, "▼")
        self._price = latest.price
        prices = (latest.price, latest.bid_price, latest.ask_price)
        self._decimals = max(self._decimals, *(decimals(p) for p in prices if p is not None))

    def text(self, price: Decimal | None) -> str:
        return "-" if price is None else f"{price:,.{self._decimals}f}"


def _sinks(figures: Figures) -> Table:
    table = _table("Frame to", *ACCOUNT_COLUMNS, "p50", "p99")
    for account in figures.accounts:
        recent = figures.latencies[account.sink]
        table.add_row(
            ENDS[account.sink], *_counts(figures.received, account), *map(latency, recent)
        )
    return table


def _counts(received: int, account: Account) -> list[Text]:
    return [
        Text(f"{received:,}", style="" if account.total == received else "bold red"),
        Text(f"{account.published:,}"),
        Text(f"{account.dropped:,}", style="bold red" if account.dropped else ""),
        Text(f"{account.pending:,}"),
    ]


def _footer(figures: Figures) -> Text:
    reconnects = f"{figures.reconnects} reconnect{'' if figures.reconnects == 1 else 's'}"
    return Text.assemble(
        f"  {clock(figures.elapsed_s)}",
        (f"   {figures.messages_per_second:,.0f} messages/s", "bold"),
        f"   {reconnects}",
        ("   Ctrl-C stops the demo", "dim"),
    )


def _change(percent: Decimal | None) -> Text:
    if percent is None:
        return Text("-", style="dim")
    return Text(f"{percent:+.2f} %", style=_UP if percent > 0 else _DOWN if percent < 0 else "")


def _table(first: str, *others: str) -> Table:
    table = Table(first, box=None, header_style="dim", expand=True, padding=(0, 0, 0, 2))
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table
