"""The metrics, and rendering them while other tasks run."""

import asyncio
from pathlib import Path

from bridge.monitoring.metrics import exposition
from bridge.monitoring.status import Status
from bridge.settings import load_settings
from bridge.sinks.outbox.chunk_store import ChunkStore
from tests.support.running_server import sinks_at_rest


async def test_whoever_waits_has_a_turn_after_each_family_and_all_are_of_one_moment() -> None:
    status = Status(["quote"])
    status.counts.frames = status.counts.received["quote"] = 1
    writing = asyncio.create_task(exposition(status))
    turns = 0
    while not writing.done():
        await asyncio.sleep(0)
        turns += 1
        status.counts.received["quote"] += 1
        status.lag.observe(0.5)

    text = writing.result().decode()

    assert turns >= text.count("# TYPE")
    assert "\ntickbridge_frames_received_total 1.0\n" in text
    assert '\ntickbridge_events_received_total{message_type="quote"} 1.0\n' in text
    assert "\ntickbridge_event_loop_lag_seconds_count 0.0\n" in text


async def test_each_buffer_has_its_limit_beside_it(tmp_path: Path) -> None:
    overrides = {
        "binance": {"symbols": ["BTCUSDT"]},
        "kafka": {"outbox_max_bytes": 2**21},
        "redis": {"publish_max_records": 300},
    }
    settings = load_settings(environment={}, overrides=overrides)
    store = ChunkStore(tmp_path, 2**26)
    status = Status(["trade"])
    sinks_at_rest(status, settings, store)
    text = (await exposition(status)).decode()
    store.close()
    assert '\ntickbridge_outbox_limit_bytes{sink="kafka"} 2.097152e+06\n' in text
    assert '\ntickbridge_spill_limit_bytes{sink="kafka"} 5.0331648e+07\n' in text
    assert '\ntickbridge_queue_limit_events{sink="redis"} 300.0\n' in text


async def test_gap_events_of_the_feed_and_of_a_sink_count_together() -> None:
    status = Status(["gap"])
    status.counts.gap_events["open", "repair_timeout"] = 2
    status.kafka.counts.gap_events["open", "repair_timeout"] = 1
    status.kafka.counts.gap_events["lost", "outbox_full"] = 5
    text = (await exposition(status)).decode()
    assert '\ntickbridge_gap_events_total{cause="repair_timeout",state="open"} 3.0\n' in text
    assert '\ntickbridge_gap_events_total{cause="outbox_full",state="lost"} 5.0\n' in text
    assert '\ntickbridge_gap_events_total{cause="restart",state="lost"} 0.0\n' in text
    assert status.counts.gaps == {"open": 2}
