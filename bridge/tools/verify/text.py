"""The verification report for people: figures, checks, verdict."""

from rich.markup import escape
from rich.table import Table

from bridge.monitoring.tables import print_whole, report_console, right_aligned
from bridge.monitoring.words import duration, latency, name_cell
from bridge.tools.verify.report import (
    Check,
    Clock,
    Handshake,
    Latency,
    Observation,
    Problem,
    Range,
    Report,
    StreamReport,
)
from bridge.tools.verify.statistics import LONGEST_MS

MAX_ROWS = 20


def print_report(report: Report) -> None:
    """Print the figures, the streams, each check and the verdict."""
    console = report_console()
    seen = report.observation
    of = f"{seen.connection.websocket_url}, {seen.seconds:.0f} s"
    console.print(f"[bold]Verification[/bold] of {escape(of)}")
    console.print(_grid(figures(seen)))
    if streams := busiest_first(seen.streams):
        console.print()
        print_whole(console, _streams(streams))
        console.print()
        print_whole(console, _ranges(streams))
    if problems := seen.messages.problems:
        console.print()
        print_whole(console, _problems(problems))
    console.print()
    console.print(_checks(report.checks))
    console.print()
    console.print(_verdict(report))


def figures(seen: Observation) -> list[tuple[str, str]]:
    """Return what was measured, as names and texts."""
    connection, messages = seen.connection, seen.messages
    rate = f"{messages.per_second:,.1f}/s, {messages.most_in_a_second:,} in the busiest second"
    return [
        ("Transport", f"{connection.transport}, compression {connection.compression}"),
        *(_handshake(seen.handshake) if seen.handshake else ()),
        ("Events", f"{messages.events:,}: {rate}; {messages.duplicates:,} duplicates dropped"),
        ("Latency", f"exchange to arrival {_percentiles(messages.latency)}"),
        ("Clock", _clock(seen.clock)),
        ("Stability", _stability(seen)),
    ]


def busiest_first(streams: list[StreamReport]) -> list[StreamReport]:
    """Return the streams in the order of their events."""
    return sorted(streams, key=lambda stream: -stream.events)


def failed(report: Report) -> list[str]:
    """Return the names of the checks that failed."""
    return [name_of(check.name) for check in report.checks if not check.passed]


def name_of(name: str) -> str:
    """Return the name of a check for people."""
    return name.replace("_", " ")


def _handshake(handshake: Handshake) -> list[tuple[str, str]]:
    tls, pings_s = handshake.tls, sorted(each / 1000 for each in handshake.pings_ms)
    certificate = f"; {tls.subject} by {tls.issuer}, valid until {tls.valid_until}" if tls else ""
    pings = f"median {latency(pings_s[len(pings_s) // 2])} of {len(pings_s)}"
    return [
        ("Address", handshake.address),
        ("TLS", f"{tls.version}, {tls.cipher}{certificate}" if tls else "none"),
        ("Extensions", handshake.extensions or "none"),
        ("Handshake", latency(handshake.handshake_ms / 1000)),
        ("Ping", f"{pings}, at most {latency(pings_s[-1])}"),
    ]


def _percentiles(of: Latency | None) -> str:
    if of is None:
        return "not known: the exchange sends no time"
    shares = {"p50": of.p50_ms, "p90": of.p90_ms, "p99": of.p99_ms, "p99.9": of.p999_ms}
    return ", ".join(f"{name} {milliseconds(value)}" for name, value in shares.items())


def _stability(seen: Observation) -> str:
    connection = seen.connection
    closed = ", ".join(f"{count:,} {cause}" for cause, count in connection.lost.items())
    return f"{connection.open} of {connection.connectors} open at the end; " + (
        f"closed before: {closed}" if closed else "none closed before"
    )


def range_text(of: Range | None) -> str:
    """Return a range with the digits of the exchange."""
    if of is None:
        return "-"
    return f"{of.least:f} to {of.greatest:f}" if of.least != of.greatest else f"{of.least:f}"


def _clock(clock: Clock | None) -> str:
    """Describe the clock difference: latencies are too long or too short by this time."""
    if clock is None:
        return "not compared: REST did not return the time"
    offset_s, more_or_less = clock.offset_ms / 1000, latency(clock.uncertainty_ms / 1000)
    offset = latency(abs(offset_s)) if abs(offset_s) < 1 else duration(abs(offset_s))
    side = "ahead of" if offset_s > 0 else "behind"
    return f"the exchange's clock is {offset} (± {more_or_less}) {side} ours"


def _grid(rows: list[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, words in rows:
        table.add_row(f"  {name}", escape(words))
    return table


def _streams(streams: list[StreamReport]) -> Table:
    """Return the table of the first streams."""
    table = right_aligned(
        "kind", "symbol", "events", "a second", "first after", "silent at most", "p50", "p99"
    )
    for stream in streams[:MAX_ROWS]:
        table.add_row(
            stream.message_type,
            stream.symbol,
            f"{stream.events:,}",
            f"{stream.per_second:,.1f}",
            latency(stream.first_after_s),
            latency(stream.longest_silence_s),
            milliseconds(stream.p50_ms),
            milliseconds(stream.p99_ms),
        )
    if len(streams) > MAX_ROWS:
        table.caption = f"and {len(streams) - MAX_ROWS:,} more; --html and --json list all"
    return table


def _ranges(streams: list[StreamReport]) -> Table:
    """Return the table of prices, volumes and ids of the first streams."""
    table = right_aligned("kind", "symbol", "prices", "volumes", "ids")
    for stream in streams[:MAX_ROWS]:
        table.add_row(
            stream.message_type,
            stream.symbol,
            range_text(stream.prices),
            range_text(stream.volumes),
            ids_text(stream),
        )
    return table


def ids_text(stream: StreamReport) -> str:
    """Return the first and the last id of a stream with contiguous ids."""
    return "-" if stream.first_id is None else f"{stream.first_id} to {stream.last_id}"


def _problems(problems: list[Problem]) -> Table:
    """Return the table of invalid messages, the most frequent first."""
    table = Table("symbol", "reason", box=None, header_style="dim", padding=(0, 0, 0, 2))
    table.add_column("invalid", justify="right")
    table.add_column("the first one")
    for problem in problems[:MAX_ROWS]:
        symbol, example = name_cell(problem.symbol or "-"), name_cell(problem.example)
        table.add_row(symbol, problem.reason, f"{problem.count:,}", example)
    return table


def _checks(checks: list[Check]) -> Table:
    table = Table.grid(padding=(0, 2))
    for check in checks:
        mark = "[green]ok[/green]" if check.passed else "[bold red]NO[/bold red]"
        table.add_row(f"  {mark}", name_of(check.name), escape(check.text))
    return table


def _verdict(report: Report) -> str:
    if names := failed(report):
        return f"[bold red]NOT VERIFIED[/bold red]: {', '.join(names)}"
    return f"[bold green]VERIFIED[/bold green]: all {len(report.checks)} checks"


def milliseconds(value: float | None) -> str:
    """Return a latency as text; `-` for None."""
    if value is None:
        return "-"
    longer = "> " if value >= LONGEST_MS else ""
    return longer + latency(value / 1000)
