"""`status`: tables for people, JSON for scripts, exit code 1 if the bridge is not ready."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import msgspec
import pytest

from bridge.core.model.events import FeedState, Gap, SymbolStatus
from bridge.monitoring.cluster import ClusterShard, ClusterStatus, OwnerStatus, StandbyStatus
from bridge.monitoring.report import (
    ConnectorReport,
    Latency,
    PositionReport,
    Report,
    ShardReport,
    SinkReport,
    StreamReport,
)
from bridge.telemetry import Account
from bridge.tools.embedded import free_port
from tests.cli.conftest import Run, ended, in_terminal

GAP = Gap("binance.spot", "ETHUSDT", None, 1, "websocket", "trade", 7, 9, 1, 2, "patience", "open")


def status(
    symbol: str, feed: FeedState, complete_to: int | None, checked: int | None
) -> SymbolStatus:
    now = time.time_ns() // 1000
    ends = (7, None, complete_to, checked)
    return SymbolStatus(
        "binance.spot",
        symbol,
        None,
        now,
        "bridge",
        feed,
        now - 7_200_000_000,
        *ends,
        "a/1",
        None,
    )


def a_report() -> Report:
    now = time.time_ns() // 1000
    return Report(
        version="1.2.3",
        libraries={},
        uptime_s=7300.0,
        settings_age_s=60.0,
        needs_restart=["log.level"],
        bridge="a/1",
        shards=[ShardReport("1-of-1", "owner", "a/1", None)],
        unready=[],
        refused=[],
        waiting=["'*USDT' waits until a symbol that it matches trades"],
        events_per_s={"trade": 1_200.4, "quote": 34.0},
        exchange_latency=Latency(0.012, 0.05, 0.08),
        connectors=[ConnectorReport("connector-1", "open", 65.0, 2, 1, 12_345, 0)],
        symbols=[
            status("BTCUSDT", "live", now - 61_000_000, now - 122_000_000),
            status("ETHUSDT", "stale", None, None),
        ],
        streams=[
            StreamReport("btcusdt@trade", 0.2, is_stalled=False),
            StreamReport("ethusdt@trade", None, is_stalled=False),
        ],
        positions=[
            PositionReport("trade", "BTCUSDT", 41, 1, 3, []),
            PositionReport("trade", "ETHUSDT", 12, 1, 0, [GAP]),
        ],
        gaps={"open": 1},
        sinks=[
            sink("kafka", Latency(0.002, 0.008, 0.012), 4.0, Account(12_345, 12_000, 5, 340)),
            sink("redis", Latency(None, None, None), 0.0, Account(12_345, 12_345, 0, 0)),
        ],
    )


def sink(name: str, latency: Latency, oldest_s: float, account: Account) -> SinkReport:
    return SinkReport(
        name=name,
        ready=True,
        published_per_s=1234.5,
        latency=latency,
        buffer_share=0.25,
        oldest_pending_s=oldest_s,
        accounts={"trade": account},
        dropped={},
        failures={},
    )


@contextmanager
def serving(body: bytes, code: int = 200, port: int = 0) -> Iterator[str]:
    """Serve `body` as the status of a bridge, and yield the URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/status"
            self.send_response(code)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", port), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_the_tables_tell_connectors_accounts_streams_and_gaps(tickbridge: Run) -> None:
    with serving(msgspec.json.encode(a_report())) as url:
        result = tickbridge("status", "--url", url)
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()]
    assert rows[0] == "Tickbridge 1.2.3, up 2 h, ready".split()
    assert rows[1] == (
        "1,234 events/s; exchange to arrival: 12 ms in the median, p99 80 ms".split()
    )
    assert "kafka ready 1,234 2.0 ms 12 ms 25% 340 4.0 s 5".split() in rows
    assert "redis ready 1,234 - - 25% 0 0.0 s 0".split() in rows
    assert "connector-1 open 1 min 2 1 12,345 0".split() in rows
    assert "kafka trade 12,345 12,000 5 340".split() in rows
    assert "ETHUSDT stale 2 h ago - -".split() in rows
    assert "BTCUSDT live 2 h ago 1 min ago 2 min ago".split() in rows
    assert "ethusdt@trade never".split() in rows
    assert "btcusdt@trade 0.2 s ago".split() in rows
    assert "trade BTCUSDT 3 42 being fetched".split() in rows
    assert "trade ETHUSDT 7 9 patience".split() in rows


def test_names_are_neither_markup_nor_commands_for_the_terminal(tickbridge: Run) -> None:
    report = a_report()
    report.symbols[0] = status("[red]\x1b[2J", "live", None, None)
    report.streams[0].name = "[bold]\nx"
    with serving(msgspec.json.encode(report)) as url:
        result = tickbridge("status", "--url", url)
    assert result.exit_code == 0
    assert r"[red]\x1b[2J" in result.stdout
    assert r"[bold]\nx" in result.stdout


def test_json_is_what_the_bridge_has_said(tickbridge: Run) -> None:
    body = msgspec.json.encode(a_report())
    with serving(body) as url:
        result = tickbridge("status", "--url", url, "--json")
    assert result.stdout.strip().encode() == body


def test_one_that_is_not_ready_is_answered_with_1_and_the_reasons(tickbridge: Run) -> None:
    report = a_report()
    report.unready = ["kafka: not connected"]
    with serving(msgspec.json.encode(report)) as url:
        result = tickbridge("status", "--url", url)
    assert result.exit_code == 1
    assert "not ready" in result.stdout
    assert "  kafka: not connected" in result.stdout


@pytest.mark.parametrize("body", [b"<html>", b"{}"])
def test_who_is_no_bridge_is_said_to_be_none(tickbridge: Run, body: bytes) -> None:
    with serving(body) as url:
        result = tickbridge("status", "--url", url)
    assert result.exit_code == 1
    assert f"no bridge of this version answers at {url}/status" in result.stderr
    assert "--url" in result.stderr


def test_where_nobody_answers_the_address_and_the_remedy_are_named(tickbridge: Run) -> None:
    port = str(free_port())
    result = tickbridge("status", TICKBRIDGE_HTTP__PORT=port, TICKBRIDGE_HTTP__HOST="0.0.0.0")  # noqa: S104
    assert result.exit_code == 1
    assert f"no bridge answers at http://127.0.0.1:{port}/status" in result.stderr
    assert "tickbridge run" in result.stderr


def test_an_address_that_is_none_is_named(tickbridge: Run) -> None:
    result = tickbridge("status", "--url", "http://nowhere.invalid")
    assert result.exit_code == 1
    assert "no bridge answers at http://nowhere.invalid/status" in result.stderr


def test_an_address_without_a_scheme_is_one_of_http(tickbridge: Run) -> None:
    with serving(msgspec.json.encode(a_report())) as url:
        result = tickbridge("status", "--url", url.removeprefix("http://"))
    assert result.exit_code == 0


def test_a_bridge_without_events_yet_tells_its_sinks(tickbridge: Run) -> None:
    report = a_report()
    for each in report.sinks:
        each.ready, each.accounts = False, {}
    with serving(msgspec.json.encode(report)) as url:
        result = tickbridge("status", "--url", url)
    rows = [line.split() for line in result.stdout.splitlines()]
    assert "kafka not ready 1,234 2.0 ms 12 ms 25% 0 4.0 s 0".split() in rows
    assert "redis not ready 1,234 - - 25% 0 0.0 s 0".split() in rows


def test_a_standby_tells_for_whom_it_stands_by(tickbridge: Run) -> None:
    report = a_report()
    report.shards = [ShardReport("1-of-1", "standby", "other/7", "a/1")]
    for sink in report.sinks:
        sink.ready = False
    with serving(msgspec.json.encode(report)) as url:
        result = tickbridge("status", "--url", url)
    assert result.exit_code == 0
    assert "standby of shard 1-of-1; its owner is other/7" in result.stdout
    assert "kafka  waits" in result.stdout


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> ClusterStatus:
    """Let this be what Kafka says."""
    since = time.time_ns() // 1000 - 7_200_000_000
    first = ClusterShard(
        "1-of-2",
        OwnerStatus("a", "live", since, 0.4, 1),
        StandbyStatus("b", "cut", since, 1.2, 0.025),
    )
    second = ClusterShard("2-of-2", None, None)
    found = ClusterStatus([first, second], ["2-of-2: no owner"])

    async def read_cluster(*_: object) -> ClusterStatus:
        return found

    monkeypatch.setattr("bridge.monitoring.cluster.read_cluster", read_cluster)
    return found


def test_the_shards_of_all_bridges_are_a_table(tickbridge: Run, cluster: ClusterStatus) -> None:
    result = tickbridge("status", "--cluster")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0] == cluster.wrong[0]
    rows = [line.split() for line in lines]
    assert "1-of-2 owner a live 2 h ago 0.4 s ago 1".split() in rows
    assert "standby b cut 2 h ago 1.2 s ago 25 ms".split() in rows
    assert "2-of-2 owner - none - - -".split()[:4] in [row[:4] for row in rows]


def test_the_shards_are_printed_as_json(tickbridge: Run, cluster: ClusterStatus) -> None:
    cluster.wrong.clear()
    result = tickbridge("status", "--cluster", "--json")
    assert result.exit_code == 0
    assert msgspec.json.decode(result.stdout, type=ClusterStatus) == cluster


def test_the_shards_are_not_asked_of_a_bridge(tickbridge: Run) -> None:
    result = tickbridge("status", "--cluster", "--url", "localhost:1")
    assert result.exit_code == 2
    assert "--cluster asks Kafka" in result.stderr


def test_without_kafka_the_error_names_its_address(tickbridge: Run) -> None:
    servers = f"127.0.0.1:{free_port()}"
    result = tickbridge("status", "--cluster", TICKBRIDGE_KAFKA__BOOTSTRAP_SERVERS=servers)
    assert result.exit_code == 1
    assert servers in result.stderr


def test_watching_needs_a_terminal(tickbridge: Run) -> None:
    result = tickbridge("status", "--watch")
    assert result.exit_code == 2
    assert "needs a terminal" in result.stderr


def test_watching_shows_the_newest_status_and_outlives_the_bridge() -> None:
    port = free_port()
    with in_terminal("status", "--watch", "--url", f"localhost:{port}") as terminal:
        terminal.until("no bridge answers")
        with serving(msgspec.json.encode(a_report()), port=port):
            terminal.until("Tickbridge 1.2.3, up 2 h, ready")
            terminal.until("kafka  ready")
        terminal.until("no bridge answers")
        assert ended(terminal.running, signal.SIGINT) == 0


def test_an_error_of_the_bridge_is_told(tickbridge: Run) -> None:
    with serving(b"", code=500) as url:
        result = tickbridge("status", "--url", url)
    assert result.exit_code == 1
    assert "500" in result.stderr
