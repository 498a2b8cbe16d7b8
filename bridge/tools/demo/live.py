"""The view for terminals: tables that are refreshed in place."""

import sys
from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal
from typing import Self

from rich.cells import cell_len
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
    MIN_DECIMALS,
    TITLES,
    clock,
    decimals,
)

_UP, _DOWN = "green", "red"
# Both tables are this wide at first, so no line wraps in a terminal of 70 columns, and a resize
# leaves no torn lines behind.
WIDTH = 69
_PRICES = {"Symbol": 12, "Price": 12, "24 h": 9, "Bid": 10, "Ask": 10, "Messages/s": 10}
_SINKS = dict(
    zip(("Frame to", *ACCOUNT_COLUMNS, "p50", "p99"), (8, 11, 11, 9, 9, 7, 7), strict=True)
)


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
        self._prices, self._sinks = _Columns(_PRICES), _Columns(_SINKS)
        self._ticks: defaultdict[str, _Tick] = defaultdict(_Tick)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._live.stop()

    def wait_for(self, what: str) -> None:
        self._live.update(Spinner("dots", what), refresh=True)

    def show(self, figures: Figures) -> None:
        self._live.update(self.frame(figures), refresh=True)

    def frame(self, figures: Figures) -> RenderableType:
        """Return the tables with these figures."""
        prices = [[Text(row.symbol), *self._cells(row)] for row in figures.rows]
        if figures.more_symbols:
            prices.append([Text(f"… {figures.more_symbols:,} more", style="dim")])
        return Group(
            Constrain(Rule(style="dim"), WIDTH),
            self._prices.table(prices),
            "",
            self._sinks.table([_sink(figures, account) for account in figures.accounts]),
            "",
            _footer(figures),
        )

    def _cells(self, row: Row) -> list[Text]:
        latest, rate = row.latest, Text(f"{row.messages_per_second:,.1f}")
        if latest is None:
            return [*(Text("-", style="dim") for _ in range(4)), rate]
        tick = self._ticks[row.symbol]
        tick.move(latest)
        price = Text(f"{tick.arrow} {tick.text(latest.price)}", style=f"bold {tick.style}")
        quote = [Text(tick.text(side)) for side in (latest.bid_price, latest.ask_price)]
        return [price, _change(latest.change_percent), *quote, rate]


class _Columns:
    """The columns of a table, by name, with their widths. They grow with their contents and never
    shrink.
    """

    def __init__(self, widths: dict[str, int]) -> None:
        self._widths = widths.copy()

    def table(self, rows: Sequence[Sequence[Text]]) -> Table:
        """Return the table of these rows."""
        for row in rows:
            for name, cell in zip(self._widths, row, strict=False):
                self._widths[name] = max(self._widths[name], cell_len(cell.plain))
        table = Table(box=None, header_style="dim", padding=(0, 0, 0, 1))
        for name, width in self._widths.items():
            table.add_column(name, justify="right", width=width, no_wrap=True)
        table.columns[0].justify = "left"
        for row in rows:
            table.add_row(*row)
        return table


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


def _sink(figures: Figures, account: Account) -> list[Text]:
    recent = map(latency, figures.latencies[account.sink])
    return [
        Text(TITLES[account.sink]),
        Text(
            f"{figures.received:,}", style="" if account.total == figures.received else "bold red"
        ),
        Text(f"{account.published:,}"),
        Text(f"{account.dropped:,}", style="bold red" if account.dropped else ""),
        Text(f"{account.pending:,}"),
        *map(Text, recent),
    ]


def _footer(figures: Figures) -> Text:
    reconnects = f"{figures.reconnects} reconnect{'' if figures.reconnects == 1 else 's'}"
    return Text.assemble(
        f" {clock(figures.elapsed_s):<7}",
        (f"{figures.messages_per_second:>8,.0f} messages/s", "bold"),
        f"{reconnects:>15}",
        ("   Ctrl-C stops the demo", "dim"),
        no_wrap=True,
    )


def _change(percent: Decimal | None) -> Text:
    if percent is None:
        return Text("-", style="dim")
    return Text(f"{percent:+.2f} %", style=_UP if percent > 0 else _DOWN if percent < 0 else "")
