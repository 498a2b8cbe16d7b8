"""The summary of a demo run: its figures, and everything that does not add up."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bridge.errors import TickbridgeError
from bridge.monitoring.tables import right_aligned
from bridge.monitoring.words import latency
from bridge.tools.demo.figures import Account
from bridge.tools.demo.latency import Quantiles
from bridge.tools.demo.words import ACCOUNT_COLUMNS, TITLES


class DemoFailed(TickbridgeError):
    """Some received messages were not delivered. The text says which counts differ."""

    exit_code: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class Topic:
    """A Kafka topic: records published as the bridge counts them, and records found in Kafka."""

    name: str
    published: int
    records: int


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of one run.

    `heard` counts the messages of the Redis subscriber. `latencies` cover the whole run.
    """

    source: str
    duration_s: float
    first_message_s: float | None
    received: dict[str, int]
    most_in_a_second: int
    accounts: Sequence[Account]
    latencies: dict[str, Quantiles]
    topics: Sequence[Topic]
    heard: int
    reconnects: int

    def failures(self) -> list[str]:
        """Return a sentence for each count that does not add up."""
        return list(self._failures())

    def _failures(self) -> Iterator[str]:
        received = sum(self.received.values())
        if not received:
            yield "no message was received"
        for account in self.accounts:
            if account.dropped or account.pending:
                lost = f"{account.dropped:,} dropped and {account.pending:,} undelivered"
                yield f"{TITLES[account.sink]}: {lost} of {received:,} messages"
            if account.total != received:
                yield f"{TITLES[account.sink]}: {account.total:,} counted, {received:,} received"
        for topic in self.topics:
            if topic.records != topic.published:
                yield f"{topic.name}: {topic.records:,} found, {topic.published:,} published"
        redis = next(account for account in self.accounts if account.sink == "redis")
        if self.heard != redis.published:
            yield f"Redis subscriber: {self.heard:,} received, {redis.published:,} published"


def print_summary(console: Console, summary: Summary) -> None:
    """Print the summary. The last lines are the failures, or "All delivered."."""
    console.print()
    console.print("Summary", style="bold")
    console.print(_run(summary))
    console.print()
    console.print(_accounts(summary))
    console.print()
    console.print(_deliveries(summary))
    console.print()
    for failure in summary.failures():
        console.print(f"FAILED: {failure}", style="bold red")
    if not summary.failures():
        console.print("All delivered.", style="bold green")


def _run(summary: Summary) -> Table:
    received = sum(summary.received.values())
    mean = received / summary.duration_s if summary.duration_s else 0.0
    first = summary.first_message_s
    message_types = ", ".join(
        f"{count:,} {kind}" for kind, count in sorted(summary.received.items())
    )
    table = Table.grid(padding=(0, 2))
    table.add_row("  Source", Text(summary.source))
    table.add_row("  Duration", f"{summary.duration_s:.1f} s; {summary.reconnects} reconnects")
    table.add_row("  First tick", "none" if first is None else f"{first:.2f} s after the start")
    table.add_row(
        "  Received", f"{received:,} messages: {message_types}" if message_types else "nothing"
    )
    table.add_row("  Rate", f"{mean:,.0f}/s on average, {summary.most_in_a_second:,} at most")
    return table


def _accounts(summary: Summary) -> Table:
    received = sum(summary.received.values())
    table = right_aligned("Frame to", *ACCOUNT_COLUMNS, "p50", "p99")
    for account in summary.accounts:
        numbers = (received, account.published, account.dropped, account.pending)
        of_sink = map(latency, summary.latencies[account.sink])
        table.add_row(TITLES[account.sink], *(f"{n:,}" for n in numbers), *of_sink)
    return table


def _deliveries(summary: Summary) -> Table:
    table = right_aligned("Read back", "Published", "Found")
    for topic in summary.topics:
        table.add_row(f"topic {topic.name}", f"{topic.published:,}", f"{topic.records:,}")
    redis = next(account for account in summary.accounts if account.sink == "redis")
    table.add_row("Redis subscriber", f"{redis.published:,}", f"{summary.heard:,}")
    return table
