"""The lag of the event loop: a timer measures its own delay.

Anything that blocks the loop (a large read, a garbage collection, a machine without a free core)
shows here, and adds to every other latency.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from bridge.telemetry import Histogram

INTERVAL_S = 1.0


@contextmanager
def lag_observed(seconds: Histogram) -> Iterator[None]:
    """Observe the delays of the running event loop in `seconds` while the context is open."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def tick() -> None:
        nonlocal timer
        seconds.observe(loop.time() - timer.when())
        timer = loop.call_later(INTERVAL_S, tick)

    timer = loop.call_later(INTERVAL_S, tick)
    try:
        yield
    finally:
        timer.cancel()
