"""Health and metrics of a status that the test creates."""

import asyncio
from collections.abc import AsyncIterator
from importlib.metadata import version
from platform import python_version
from typing import Any, get_args
from unittest.mock import Mock, create_autospec

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bridge.binance.connector import State
from bridge.binance.coverage import LINES
from bridge.core.binance.subscription import Subscription
from bridge.core.sequencing.sequencers import Sequencers
from bridge.errors import INVALID_REASONS, RECONNECT_CAUSES, SettingsError
from bridge.monitoring import server
from bridge.monitoring import status as monitored
from bridge.monitoring.metrics import GAP_CAUSES
from bridge.monitoring.server import MAX_CONNECTIONS, serve
from bridge.monitoring.status import FencedCause
from bridge.pipeline.gap_repair import Repairer
from bridge.settings.model import Http
from bridge.sinks.kafka.owner_watch import Reason
from bridge.telemetry import now_us
from bridge.tools.embedded import free_port
from tests.support.exchange import trade
from tests.support.running_server import KINDS, Running

LOOPBACK = "127.0.0.1"


@pytest.fixture
def two() -> Running:
    return Running(connectors=2)


@pytest.fixture
def running() -> Running:
    return Running()


@pytest.fixture
async def url(running: Running) -> AsyncIterator[str]:
    async with serve(Http(port=0), running.status) as port:
        yield f"http://{LOOPBACK}:{port}"


async def ready(url: str) -> tuple[int, Any]:
    async with aiohttp.request("GET", f"{url}/readyz") as answer:
        return answer.status, await answer.json()


async def metrics(url: str) -> dict[tuple[str, ...], float]:
    """Return our samples by name and label values, in the order of the label names."""
    async with aiohttp.request("GET", f"{url}/metrics") as answer:
        assert answer.content_type == "text/plain"
        families = text_string_to_metric_families(await answer.text())
    samples = [s for family in families for s in family.samples if s.name.startswith("tickbridge")]
    found = {(s.name, *(s.labels[name] for name in sorted(s.labels))): s.value for s in samples}
    assert len(found) == len(samples)
    return found


async def test_it_is_live_as_soon_as_it_answers(url: str) -> None:
    async with aiohttp.request("GET", f"{url}/livez") as answer:
        assert answer.status == 200


async def test_it_is_ready_when_the_feed_flows_and_both_sinks_take_it(
    url: str, running: Running
) -> None:
    running.flow()
    status, body = await ready(url)
    assert status == 200
    assert body["ready"] is True
    assert body["unready"] == []
    assert body["streams_without_data"] == ["ethusdt@trade"]
    assert (await metrics(url))["tickbridge_ready",] == 1


async def test_at_the_start_every_reason_is_named(url: str) -> None:
    status, body = await ready(url)
    assert status == 503
    assert body["ready"] is False
    assert [reason.split(":")[0] for reason in body["unready"]] == ["kafka", "redis", "feed"]


@pytest.mark.parametrize("sink", ["kafka", "redis"])
async def test_a_sink_that_is_away_makes_it_unready(sink: str, url: str, running: Running) -> None:
    running.flow()
    running.connect(**{sink: False})
    status, body = await ready(url)
    assert status == 503
    assert body["unready"] == [f"{sink}: not connected"]


@pytest.mark.parametrize("state", [State.CONNECTING, State.REFUSED])
async def test_a_connector_that_is_not_open_makes_it_unready(
    state: State, url: str, running: Running
) -> None:
    running.flow()
    running.connection.on_lost()
    running.feed.connectors[0]._refusals = int(state is State.REFUSED)
    status, body = await ready(url)
    assert status == 503
    assert body["unready"] == [f"connector-1: {state.value}, 1 of 2 streams without data"]


async def test_an_open_connector_over_which_nothing_came_makes_it_unready(
    url: str, running: Running
) -> None:
    running.flow(heard=False)
    status, body = await ready(url)
    assert status == 503
    assert body["unready"] == ["connector-1: open, 2 of 2 streams without data"]


async def test_trades_that_wait_long_for_missing_ones_make_it_unready(
    url: str, running: Running
) -> None:
    running.flow()
    held = {"trade of BTCUSDT": 4.9}
    running.shard.repairer = repairer = create_autospec(Repairer, instance=True)
    repairer.held_s.return_value = held
    assert (await ready(url))[0] == 200
    held |= {"trade of ETHUSDT": 5.1, "agg_trade of ETHUSDT": 7.2}
    status, body = await ready(url)
    assert status == 503
    assert body["unready"] == [
        "repair: 2 streams wait for missing events, agg_trade of ETHUSDT for 7 s"
    ]
    assert (await metrics(url))["tickbridge_events_held_seconds",] == 7.2
    del held["agg_trade of ETHUSDT"]
    _, body = await ready(url)
    assert body["unready"] == [
        "repair: 1 stream waits for missing events, trade of ETHUSDT for 5 s"
    ]


async def test_events_that_wait_long_for_a_connected_sink_make_it_unready(
    url: str, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.flow()
    assert (await ready(url))[0] == 200
    monkeypatch.setattr(monitored, "age_s", lambda received: 7.2 if received else 0.0)
    status, body = await ready(url)
    assert status == 503
    assert body["unready"] == [
        "kafka: the oldest event has waited for 7 s",
        "redis: the oldest event has waited for 7 s",
    ]


async def test_a_bridge_that_drains_is_not_ready(url: str, running: Running) -> None:
    running.flow()
    running.status.draining = True
    status, body = await ready(url)
    assert status == 503
    assert body["unready"][0].startswith("draining")


async def test_what_could_not_be_subscribed_to_is_said_and_changes_nothing(
    url: str, running: Running
) -> None:
    running.flow()
    running.status.subscription = lambda: Subscription(
        refused=["the exchange lists no symbol 'X'"],
        waiting=["'*USDT' waits until a symbol that it matches trades"],
    )
    status, body = await ready(url)
    assert status == 200
    assert body["refused"] == ["the exchange lists no symbol 'X'"]
    assert (await metrics(url))["tickbridge_symbols_unlisted",] == 1
    assert body["waiting"] == ["'*USDT' waits until a symbol that it matches trades"]


async def test_every_known_series_is_there_from_the_start_at_zero(url: str) -> None:
    found = await metrics(url)
    expected = {
        ("tickbridge_frames_received_total",),
        ("tickbridge_gaps_open",),
        ("tickbridge_ready",),
        ("tickbridge_symbols_unlisted",),
        *(("tickbridge_gap_events_total", cause, "lost") for cause in RECONNECT_CAUSES),
        *(("tickbridge_gap_events_total", cause, "open") for cause in GAP_CAUSES),
        ("tickbridge_rest_weight_used",),
        ("tickbridge_rest_weight_limit",),
        ("tickbridge_exchange_latency_seconds_count",),
        ("tickbridge_event_loop_lag_seconds_count",),
        *(("tickbridge_events_received_total", kind) for kind in KINDS),
        *(("tickbridge_frames_invalid_total", reason) for reason in INVALID_REASONS),
        *(("tickbridge_reconnects_total", cause) for cause in RECONNECT_CAUSES),
        *(("tickbridge_connections", state.value) for state in State),
        ("tickbridge_streams_without_data",),
        ("tickbridge_streams_stalled",),
        *(("tickbridge_stream_silence_seconds", kind) for kind in KINDS),
        *(("tickbridge_connection_age_seconds", label) for label in LINES),
        *(("tickbridge_line_events_total", label) for label in LINES),
        *(("tickbridge_line_first_total", label) for label in LINES),
        *(("tickbridge_line_lead_seconds_count", label) for label in LINES),
        *(("tickbridge_line_lead_seconds_sum", label) for label in LINES),
    }
    for sink, causes in (
        ("kafka", ("outbox_full", "too_large", "refused")),
        ("redis", ("queue_full",)),
    ):
        expected |= {
            ("tickbridge_sink_ready", sink),
            ("tickbridge_pending_bytes", sink),
            ("tickbridge_sink_latency_seconds_count", sink),
            ("tickbridge_sink_failures_total", "unavailable", sink),
            *(("tickbridge_events_published_total", kind, sink) for kind in KINDS),
            *(("tickbridge_events_pending", kind, sink) for kind in KINDS),
            *(
                ("tickbridge_events_dropped_total", cause, kind, sink)
                for kind in KINDS
                for cause in causes
            ),
        }
    expected |= {
        *(("tickbridge_shards", role) for role in ("owner", "standby")),
        *(("tickbridge_takeovers_total", reason) for reason in get_args(Reason)),
        *(("tickbridge_fenced_total", cause) for cause in get_args(FencedCause)),
    }
    assert expected <= set(found)
    del found["tickbridge_shards_wanted", "owner"]
    del found["tickbridge_build_info", python_version(), version("tickbridge")]
    del (
        found["tickbridge_outbox_limit_bytes", "kafka"],
        found["tickbridge_queue_limit_events", "redis"],
    )
    assert set(found.values()) == {0}


async def test_the_accounts_hold_in_the_metrics_of_each_sink_and_kind(
    url: str, running: Running
) -> None:
    running.flow()
    running.connection.on_frames([b"{", trade(2).encode()], 1_790_000_000_000_000)
    running.redis.counts.latency.observe(0.003)
    found = await metrics(url)
    assert found["tickbridge_frames_received_total",] == 3
    assert found["tickbridge_frames_invalid_total", "malformed"] == 1
    assert found["tickbridge_connections", "open"] == 1
    assert found["tickbridge_streams_without_data",] == 1
    assert found["tickbridge_sink_latency_seconds_count", "redis"] == 1
    assert found["tickbridge_sink_latency_seconds_bucket", "0.0025", "redis"] == 0
    assert found["tickbridge_sink_latency_seconds_bucket", "0.005", "redis"] == 1
    for sink in ("kafka", "redis"):
        for kind, received in {"trade": 2, "invalid": 1, "gap": 0}.items():
            assert found["tickbridge_events_received_total", kind] == received
            assert found["tickbridge_events_pending", kind, sink] == received
            assert found["tickbridge_events_published_total", kind, sink] == 0


async def test_the_lead_of_one_connector_over_the_other_is_in_the_metrics(two: Running) -> None:
    moment = 1_790_000_000_000_000
    connections = [two.open(connector) for connector in two.feed.connectors]
    for number in range(1, 5):
        for connection, late_us in zip(connections, (0, 2_000), strict=True):
            connection.on_frames([trade(number).encode()], moment + number * 1_000_000 + late_us)
    two.status.feed = two.feed
    async with serve(Http(port=0), two.status) as port:
        found = await metrics(f"http://{LOOPBACK}:{port}")
    assert [found["tickbridge_line_events_total", label] for label in LINES] == [4, 4]
    assert [found["tickbridge_line_first_total", label] for label in LINES] == [4, 0]
    assert [found["tickbridge_line_lead_seconds_count", label] for label in LINES] == [4, 0]
    assert found["tickbridge_line_lead_seconds_sum", "a"] == pytest.approx(0.008)
    assert found["tickbridge_stream_silence_seconds", "trade"] > 0


async def test_one_open_connector_of_two_is_enough_to_be_ready(two: Running) -> None:
    two.status.feed, two.shard.sequencers = two.feed, Sequencers([])
    two.connect()
    assert [reason.split(":")[0] for reason in two.status.unready()] == [
        "connector-1a",
        "connector-1b",
    ]
    connection = two.open(two.feed.connectors[1])
    connection.on_frames([trade(1).encode()], now_us())
    assert two.status.unready() == []
    assert two.status.connectors() == {("connecting",): 1, ("open",): 1, ("refused",): 0}


@pytest.mark.parametrize(
    ("is_reading", "is_settled", "reason"),
    [(True, True, ""), (False, False, "kafka"), (True, False, "cluster")],
)
async def test_a_standby_is_ready_when_it_could_take_over(
    running: Running, *, is_reading: bool, is_settled: bool, reason: str
) -> None:
    running.shard.owner_watch = Mock(is_reading=is_reading, is_settled=is_settled)
    reasons = [each for each in running.status.unready() if not each.startswith("feed")]
    assert [each.split(":")[0] for each in reasons] == ([reason] if reason else [])


async def test_a_port_that_is_taken_is_an_error_of_the_settings_naming_it(
    running: Running,
) -> None:
    port = free_port()
    async with await asyncio.start_server(lambda _reader, _writer: None, LOOPBACK, port):
        with pytest.raises(SettingsError) as caught:
            async with serve(Http(port=port), running.status):
                pass
    (problem,) = caught.value.problems
    assert (problem.key, problem.value) == ("http.port", str(port))
    assert LOOPBACK in problem.what
    assert "set another" in problem.remedy


async def test_requests_that_never_end_are_closed_and_many_of_them_stop_no_probe(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "REQUEST_TIMEOUT_S", 0.5)
    async with serve(Http(port=0), running.status) as port, asyncio.timeout(30):
        half_sent = [
            await asyncio.open_connection(LOOPBACK, port) for _ in range(3 * MAX_CONNECTIONS)
        ]
        for _, writer in half_sent:
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: a\r\n")
        async with aiohttp.request("GET", f"http://{LOOPBACK}:{port}/livez") as answer:
            assert answer.status == 200
        ends = (reader.read() for reader, _ in half_sent)
        for end in await asyncio.gather(*ends, return_exceptions=True):
            assert end == b"" or isinstance(end, ConnectionError)
        for _, writer in half_sent:
            writer.close()


@pytest.mark.parametrize("path", ["metrics", "status"])
async def test_many_who_ask_at_once_get_one_rendering_that_is_not_older_than_their_question(
    path: str, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered = 0

    async def render(*_: object) -> bytes:
        nonlocal rendered
        rendered += 1
        mine = rendered
        await asyncio.sleep(0.05)
        return b"%d" % mine

    monkeypatch.setattr(server, {"metrics": "exposition", "status": "_status"}[path], render)
    async with (
        serve(Http(port=0), running.status) as port,
        aiohttp.ClientSession(f"http://{LOOPBACK}:{port}") as session,
    ):

        async def ask() -> bytes:
            before = rendered
            async with session.get(f"/{path}") as answer:
                body = await answer.read()
            assert int(body) > before
            return body

        await asyncio.gather(*(ask() for _ in range(50)))
    assert rendered < 10
