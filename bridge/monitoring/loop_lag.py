"""How late the event loop is: a timer that measures its own delay.

Whatever holds the loop up (a large read, a garbage collection, a machine without a core to spare)
shows here, and is added to every other latency.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from bridge.telemetry import Histogram

INTERVAL_S = 1.0


@contextmanager
def lag_observed(seconds: Histogram) -> Iterator[None]:
    """Observe the running loop's delays into `seconds` while the context is open."""
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
