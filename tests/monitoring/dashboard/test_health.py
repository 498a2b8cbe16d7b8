"""The figures of health add up, and stay bounded."""

import msgspec

from bridge.core.model.events import Gap
from bridge.core.model.stream import SPOT
from bridge.monitoring.dashboard.health import MAX_GAPS, HealthMonitor
from bridge.monitoring.dashboard.market import MAX_SAMPLES
from bridge.telemetry import now_us
from tests.support.exchange import trade
from tests.support.running_server import Running

GAP = Gap(SPOT, "BTCUSDT", None, 1, "websocket", "trade", 3, 4, 1, 2, "test", "open")


def feed(running: Running, *ids: int) -> None:
    running.connection.on_frames([trade(identity).encode() for identity in ids], now_us())


async def test_before_the_feed_is_known_the_reasons_are_told() -> None:
    found = HealthMonitor(Running().status, 0.0).look()
    assert [reason.split(":")[0] for reason in found.unready] == ["kafka", "redis", "feed"]
    assert (found.symbols, found.connectors, found.events) == (0, [], {})


async def test_rates_and_latencies_are_those_of_the_last_seconds() -> None:
    running = Running()
    health = HealthMonitor(running.status, 0.0)
    running.flow()
    running.status.recent.keep(2.0)
    found = health.look()
    assert (found.events, found.events_per_s) == ({"trade": 1}, {"trade": 0.5})
    assert found.latency["exchange"].p50_s is not None
    assert found.latency["kafka"].p50_s is None


async def test_a_message_type_that_has_just_come_has_a_rate() -> None:
    running = Running()
    running.flow()
    found = HealthMonitor(running.status, 0.0).look()
    assert (found.events, found.events_per_s) == ({"trade": 1}, {"trade": 0.0})


async def test_streams_that_do_not_send_are_named_and_those_of_a_symbol_are_found() -> None:
    running = Running()
    running.flow()
    health = HealthMonitor(running.status, 0.0)
    found = health.look()
    assert (found.without_data, found.without_data_names) == (1, ["ethusdt@trade"])
    (heard,) = health.streams("BTCUSDT")
    (unheard,) = health.streams("ETHUSDT")
    assert heard.silence_s is not None
    assert unheard.silence_s is None
    assert health.streams("XRPUSDT") == []


async def test_a_sample_has_what_happened_since_the_sample_before() -> None:
    running = Running()
    health = HealthMonitor(running.status, 0.0)
    running.flow()
    health.note_gap(GAP)
    first = health.sample(10_000_000, 10.0)
    assert (first.events_per_s, first.gaps) == (0.1, {"open": 1})
    assert first.pending == {"kafka": 1, "redis": 1}
    feed(running, 2, 3)
    health.note_gap(msgspec.structs.replace(GAP, state="filled"))
    second = health.sample(20_000_000, 20.0)
    assert (second.events_per_s, second.gaps) == (0.2, {"filled": 1})
    assert second.latency["exchange"].p50_s is not None


async def test_samples_and_gap_events_are_bounded_and_counts_are_not() -> None:
    health = HealthMonitor(Running().status, 0.0)
    for number in range(MAX_SAMPLES + MAX_GAPS):
        health.note_gap(msgspec.structs.replace(GAP, first_id=number))
        health.sample(number, float(number))
    assert (len(health.samples), len(health.gaps)) == (MAX_SAMPLES, MAX_GAPS)
    assert health.gaps[0].first_id == MAX_SAMPLES + MAX_GAPS - 1
    assert health.look().gaps == {"open": MAX_SAMPLES + MAX_GAPS}
