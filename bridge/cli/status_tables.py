"""The tables of `tickbridge status`."""

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from bridge.core.model.shard import WHOLE
from bridge.monitoring.words import duration, latency, name_cell

if TYPE_CHECKING:
    from bridge.core.model.events import SymbolStatus
    from bridge.monitoring.cluster import ClusterShard, OwnerStatus, StandbyStatus
    from bridge.monitoring.report import PositionReport, Report, ShardReport, StreamReport

# All streams would push the other tables off the screen. The longest silence comes first, and the
# symbols that are not live.
MAX_STREAMS = MAX_SYMBOLS = 20


def headline(found: "Report") -> Iterator[str]:
    """Yield the first lines, as markup of rich: the state, the rate, and what is wrong."""
    state = "[red]not ready[/red]" if found.unready else "[green]ready[/green]"
    yield f"Tickbridge {found.version}, up {duration(found.uptime_s)}, {state}"
    arrival = found.exchange_latency
    yield (
        f"{sum(found.events_per_s.values()):,.0f} events/s; exchange to arrival: "
        f"{latency(arrival.p50_s)} in the median, p99 {latency(arrival.p99_s)}"
    )
    yield from filter(None, map(_role, found.shards))
    for reason in (*found.unready, *found.refused, *found.waiting):
        yield f"  {name_cell(reason)}"
    if found.needs_restart:
        yield f"  changed, takes effect after a restart: {', '.join(found.needs_restart)}"


def _role(shard: "ShardReport") -> str:
    """Return a line about a shard; empty for one that no other bridge shares."""
    if shard.role == "standby":
        owner = name_cell(shard.owner) if shard.owner else "not known"
        return f"standby of shard {shard.name}; its owner is {owner}"
    if shard.role == "owner" and shard.standby:
        return f"owner of shard {shard.name}; its standby is {name_cell(shard.standby)}"
    return f"{shard.role} of shard {shard.name}" if shard.name != str(WHOLE) else ""


def tables(found: "Report", *, only_trouble: bool = False) -> Iterator[tuple[Table, str]]:
    """Yield the tables that have rows, each with a line about what it leaves out.

    With `only_trouble`, symbols that are live and streams that send as usual are left out.
    """
    symbols = [s for s in found.symbols if s.feed != "live" or not only_trouble]
    streams = [s for s in found.streams if s.is_stalled or s.silence_s is None or not only_trouble]
    for table, left_out in (
        (_sinks(found), ""),
        (_connectors(found), ""),
        (_accounts(found), ""),
        (_symbols(symbols), _more(len(symbols) - MAX_SYMBOLS, "symbols")),
        (_streams(streams), _more(len(streams) - MAX_STREAMS, "streams")),
        (_gaps(found), ""),
    ):
        if table.row_count:
            yield table, left_out


def shards_table(shards: "Sequence[ClusterShard]") -> Table:
    """Return the table of the shards of all bridges, with a row for each role."""
    now = time.time_ns() // 1000
    table = _table(
        *("shard", "role", "bridge", "state"), right=("since", "heard", "behind", "takeovers")
    )
    for shard in shards:
        owner, standby = shard.owner, shard.standby
        takeovers = f"{owner.takeovers:,}" if owner else ""
        table.add_row(shard.name, "owner", *_bridge(owner, now), "", takeovers)
        if standby:
            table.add_row("", "standby", *_bridge(standby, now), latency(standby.lag_s), "")
    return table


def _bridge(found: "OwnerStatus | StandbyStatus | None", now_us: int) -> tuple[str, str, str, str]:
    if found is None:
        return "-", "[red]none[/red]", "", ""
    state = found.state if found.state in {"live", "ready"} else f"[red]{found.state}[/red]"
    heard = f"{duration(found.heard_s)} ago"
    return name_cell(found.name), state, _ago(found.since, now_us), heard


def _more(count: int, noun: str) -> str:
    return f"{count} more {noun}; use --json to list all\n" if count > 0 else ""


def _sinks(found: "Report") -> Table:
    table = _table(
        *("sink", "state"),
        right=("events/s", "p50", "p99", "buffer", "pending", "oldest", "dropped"),
    )
    is_waiting = all(shard.role == "standby" for shard in found.shards)
    for sink in found.sinks:
        accounts = sink.accounts.values()
        table.add_row(
            sink.name,
            "waits" if is_waiting else "ready" if sink.ready else "[red]not ready[/red]",
            f"{sink.published_per_s:,.0f}",
            latency(sink.latency.p50_s),
            latency(sink.latency.p99_s),
            f"{sink.buffer_share:.0%}",
            f"{sum(account.pending for account in accounts):,}",
            duration(sink.oldest_pending_s),
            f"{sum(account.dropped for account in accounts):,}",
        )
    return table


def _connectors(found: "Report") -> Table:
    table = _table(
        "connector", "state", right=("age", "streams", "without data", "events", "duplicates")
    )
    for connector in found.connectors:
        counts = (connector.streams, connector.without_data, connector.events, connector.duplicates)
        table.add_row(
            connector.name, connector.state, duration(connector.age_s), *(f"{n:,}" for n in counts)
        )
    return table


def _accounts(found: "Report") -> Table:
    table = _table("sink", "message type", right=("received", "published", "dropped", "pending"))
    for sink in found.sinks:
        name = sink.name
        for kind, account in sink.accounts.items():
            counts = (account.received, account.published, account.dropped, account.pending)
            table.add_row(name, kind, *(f"{n:,}" for n in counts))
            name = ""
    return table


def _symbols(symbols: "list[SymbolStatus]") -> Table:
    """Return the table of the symbols: those that are not live, then the least complete ones."""
    now = time.time_ns() // 1000
    table = _table("symbol", "feed", right=("since", "trades complete to", "checked"))
    by_need = sorted(symbols, key=lambda s: (s.feed == "live", s.complete_to or 0))
    for status in by_need[:MAX_SYMBOLS]:
        feed = status.feed if status.feed == "live" else f"[red]{status.feed}[/red]"
        times = (status.since, status.complete_to, status.checked)
        table.add_row(name_cell(status.symbol), feed, *(_ago(time, now) for time in times))
    return table


def _ago(time_us: int | None, now_us: int) -> str:
    return "-" if time_us is None else f"{duration(max(0, now_us - time_us) / 1e6)} ago"


def _streams(streams: "list[StreamReport]") -> Table:
    table = _table("stream", right=("last event",))
    never = float("inf")
    silent = sorted(streams, key=lambda s: -(never if s.silence_s is None else s.silence_s))
    for stream in silent[:MAX_STREAMS]:
        heard = "never" if stream.silence_s is None else f"{duration(stream.silence_s)} ago"
        table.add_row(name_cell(stream.name), f"[red]{heard}[/red]" if stream.is_stalled else heard)
    return table


def _gaps(found: "Report") -> Table:
    """Return the table of the holes that hold streams back, and of the open gaps."""
    table = _table("gap", "symbol", right=("held", "first id", "last id", "cause"))
    for position in found.positions:
        for held, first, last, cause in _gaps_of(position):
            table.add_row(
                position.message_type, name_cell(position.symbol), held, first, last, cause
            )
    return table


def _gaps_of(position: "PositionReport") -> Iterator[tuple[str, str, str, str]]:
    if position.held and position.last_id is not None:
        yield f"{position.held:,}", str(position.last_id + 1), "", "being fetched"
    for gap in position.open_gaps:
        yield "", str(gap.first_id), str(gap.last_id), gap.cause


def _table(*left: str, right: tuple[str, ...]) -> Table:
    table = Table(*left, box=None, header_style="bold", pad_edge=False)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table
