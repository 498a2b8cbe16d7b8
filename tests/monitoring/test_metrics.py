"""Rendering the metrics while other tasks run."""

import asyncio

from bridge.monitoring.metrics import exposition
from bridge.monitoring.status import Status


async def test_whoever_waits_has_a_turn_after_each_family_and_all_are_of_one_moment() -> None:
    status = Status(["quote"], [])
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
