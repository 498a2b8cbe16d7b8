"""The audit report for people: a table, the findings, the verdict."""

from rich.table import Table

from bridge.monitoring.tables import print_whole, report_console
from bridge.monitoring.words import printable
from bridge.tools.audit.report import Report, StreamReport

MAX_ROWS = 30
MAX_FINDINGS = 100
MAX_RESTARTED = 5


def print_report(report: Report) -> None:
    """Print the table, a line for each finding, and the verdict."""
    console = report_console(markup=False)
    if report.symbols:
        print_whole(console, _table(report))
    for line in (*_findings(report), *_summary(report)):
        console.print(printable(line))


def _table(report: Report) -> Table:
    """Sort the streams with findings first, then the busiest ones."""
    guilty = {finding.symbol for finding in report.findings}
    streams = sorted(report.symbols, key=lambda s: (s.symbol not in guilty, -s.records))
    table = Table("symbol", box=None, header_style="bold", pad_edge=False, caption_justify="left")
    for name in _cells(report, streams[0]):
        table.add_column(name, justify="right", no_wrap=True)
    for stream in streams[:MAX_ROWS]:
        table.add_row(printable(stream.name), *_cells(report, stream).values())
    if hidden := streams[MAX_ROWS:]:
        found = sum(stream.symbol in guilty for stream in hidden)
        words = f"{found:,} of them with findings" if found else "without findings"
        table.caption = f"and {len(hidden):,} more, {words}"
    return table


def _cells(report: Report, stream: StreamReport) -> dict[str, str]:
    """Return the cells of a stream by column, only those that its message type can prove."""
    begun = stream.first_id is not None
    cells: dict[str, object] = {
        "partition": stream.partition,
        "records": stream.records,
        f"first {report.id_field}": f"{stream.first_id}" if begun else "-",
        "at offset": stream.first_offset if begun else "-",
        "last": f"{stream.last_id}" if begun else "-",
    }
    if "completeness" in report.proves:
        cells["missing"] = stream.missing.ids + stream.missing_filled.ids
        cells |= {"announced": stream.missing_announced.ids, "late": stream.late}
    if "no repeats" in report.proves:
        cells["repeated"] = stream.repeated.count
    cells["out of order"] = stream.out_of_order.count
    return {
        name: f"{cell:,}" if isinstance(cell, int) else f"{cell}" for name, cell in cells.items()
    }


def _findings(report: Report) -> list[str]:
    shown, more = report.findings[:MAX_FINDINGS], report.findings[MAX_FINDINGS:]
    lines = [f"{finding.symbol or report.topic}: {finding.text}" for finding in shown]
    return [*lines, f"and {len(more):,} more findings; --json lists all"] if more else lines


def _summary(report: Report) -> list[str]:
    """Return the lines below the findings: the records read, the notes, and the verdict."""
    symbols = _counted(len({stream.symbol for stream in report.symbols}), "symbol")
    gaps = "no gap topic" if report.gap_events is None else _counted(report.gap_events, "gap event")
    read = f"{report.topic}: {_counted(report.records, 'record')}, {symbols}, {gaps}"
    if report.statuses is not None:
        read += f", {_counted(report.statuses, 'status', 'statuses')}"
    return [read, *report.notes, _verdict(report)]


def _verdict(report: Report) -> str:
    claims = ", ".join(report.proves)
    limit = "" if "completeness" in report.proves else "; a loss does not show in these ids"
    if report.findings:
        count = _counted(len(report.findings), "finding")
        return f"NOT PROVEN ({claims}{limit}): {count}"
    if not report.records:
        return "nothing to prove: the topic is empty"
    proven = "PROVEN from the first to the last record of each symbol"
    return f"{proven}: {claims}{limit}{_restarts(report)}"


def _restarts(report: Report) -> str:
    """Name the symbols whose ids have restarted: nothing is proven of the moment between."""
    names = [stream.name for stream in report.symbols if stream.restarts_announced.count]
    if not names:
        return ""
    count = sum(stream.restarts_announced.count for stream in report.symbols)
    shown, more = names[:MAX_RESTARTED], len(names) - MAX_RESTARTED
    named = ", ".join(shown) + (f" and {more:,} more" if more > 0 else "")
    return f"; except across {_counted(count, 'announced restart')} of the ids ({named})"


def _counted(count: int, noun: str, plural: str = "") -> str:
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
