"""The verification report for people: figures, checks, verdict."""

from rich.markup import escape
from rich.table import Table

from bridge.monitoring.tables import report_console, right_aligned
from bridge.monitoring.words import duration, latency
from bridge.tools.verify.observer import LONGEST_MS
from bridge.tools.verify.report import Check, Clock, Observation, Report, StreamReport

MAX_ROWS = 20


def print_report(report: Report) -> None:
    """Print the figures, the streams, each check and the verdict."""
    console = report_console()
    seen = report.observation
    of = f"{seen.connection.websocket_url}, {seen.seconds:.0f} s"
    console.print(f"[bold]Verification[/bold] of {escape(of)}")
    console.print(_figures(seen))
    if seen.streams:
        console.print()
        console.print(_streams(seen.streams))
    console.print()
    console.print(_checks(report.checks))
    console.print()
    console.print(_verdict(report))


def _figures(seen: Observation) -> Table:
    connection, messages = seen.connection, seen.messages
    table = Table.grid(padding=(0, 2))
    table.add_row("  Transport", f"{connection.transport}, compression {connection.compression}")
    rate = f"{messages.per_second:,.1f}/s, {messages.most_in_a_second:,} in the busiest second"
    table.add_row(
        "  Events", f"{messages.events:,}: {rate}; {messages.duplicates:,} duplicates dropped"
    )
    p50, p99 = _latency(messages.latency_p50_ms), _latency(messages.latency_p99_ms)
    table.add_row("  Latency", f"exchange to arrival p50 {p50}, p99 {p99}")
    table.add_row("  Clock", _clock(seen.clock))
    return table


def _clock(clock: Clock | None) -> str:
    """Describe the clock difference: latencies are too long or too short by this time."""
    if clock is None:
        return "not compared: REST did not return the time"
    offset_s, more_or_less = clock.offset_ms / 1000, latency(clock.uncertainty_ms / 1000)
    offset = latency(abs(offset_s)) if abs(offset_s) < 1 else duration(abs(offset_s))
    side = "ahead of" if offset_s > 0 else "behind"
    return f"the exchange's clock is {offset} (± {more_or_less}) {side} ours"


def _streams(streams: list[StreamReport]) -> Table:
    """Return the table of the streams, busiest first."""
    table = right_aligned(
        "kind", "symbol", "events", "a second", "first after", "silent at most", "p50", "p99"
    )
    for stream in sorted(streams, key=lambda s: -s.events)[:MAX_ROWS]:
        table.add_row(
            stream.message_type,
            stream.symbol,
            f"{stream.events:,}",
            f"{stream.per_second:,.1f}",
            latency(stream.first_after_s),
            latency(stream.longest_silence_s),
            _latency(stream.latency_p50_ms),
            _latency(stream.latency_p99_ms),
        )
    if len(streams) > MAX_ROWS:
        table.caption = f"and {len(streams) - MAX_ROWS:,} more; --json lists all"
    return table


def _checks(checks: list[Check]) -> Table:
    table = Table.grid(padding=(0, 2))
    for check in checks:
        mark = "[green]ok[/green]" if check.passed else "[bold red]NO[/bold red]"
        table.add_row(f"  {mark}", check.name.replace("_", " "), escape(check.text))
    return table


def _verdict(report: Report) -> str:
    failed = [check.name.replace("_", " ") for check in report.checks if not check.passed]
    if failed:
        return f"[bold red]NOT VERIFIED[/bold red]: {', '.join(failed)}"
    return f"[bold green]VERIFIED[/bold green]: all {len(report.checks)} checks"


def _latency(milliseconds: float | None) -> str:
    if milliseconds is None:
        return "-"
    longer = "> " if milliseconds >= LONGEST_MS else ""
    return longer + latency(milliseconds / 1000)
