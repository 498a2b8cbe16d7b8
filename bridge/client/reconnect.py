"""Opens a reader again after its server has gone away."""

import logging
from collections.abc import Awaitable, Callable

from bridge.errors import SinkUnavailable
from bridge.retry import Backoff, forever

# Between two attempts.
MAX_DELAY_S = 5.0

log = logging.getLogger(__name__)


async def until_open(server: str, open_reader: Callable[[], Awaitable[object]]) -> None:
    """Call `open_reader` until it no longer raises SinkUnavailable. `server` is for the log."""
    backoff = Backoff(MAX_DELAY_S)

    def on_retry(error: Exception, _delay_s: float) -> None:
        if backoff.should_log(error):
            log.warning("%s is not back yet: %s", server, error)

    async for attempt in forever(backoff, SinkUnavailable, on_retry=on_retry):
        with attempt:
            await open_reader()
