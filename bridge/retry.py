"""The retry policy for all connections, built on tenacity: no end, full jitter, a capped delay.

When a server comes back, full jitter keeps its thousand clients from connecting at the same moment.
After a success, the next failure starts from the shortest delay again.
"""

import asyncio
from collections.abc import Callable

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

FIRST_DELAY_S = 0.25
# There is a delay even after a success. Otherwise a server that accepts connections and then drops
# them would cause a loop without a pause.
LEAST_DELAY_S = 0.05


class Backoff(wait_random_exponential):
    """Exponential backoff with full jitter, and at least the `retry_after_s` of the error."""

    def __init__(self, max_delay_s: float) -> None:
        super().__init__(multiplier=FIRST_DELAY_S, max=max_delay_s, min=LEAST_DELAY_S)
        self._worked = False

    def worked(self) -> None:
        """Start from the shortest delay at the next failure."""
        self._worked = True

    def __call__(self, retry_state: RetryCallState) -> float:
        if self._worked:
            retry_state.attempt_number = 1
            self._worked = False
        return max(super().__call__(retry_state), _asked_for(retry_state))


def forever(
    backoff: Backoff,
    *errors: type[Exception],
    on_retry: Callable[[Exception, float], None],
) -> AsyncRetrying:
    """Return attempts that continue as long as one of `errors` is raised.

    Call `on_retry` with the error and the delay in seconds before each retry. Any other error is
    raised unchanged.
    """

    def before_sleep(state: RetryCallState) -> None:
        on_retry(_error(state), state.upcoming_sleep)

    return AsyncRetrying(
        wait=backoff,
        retry=retry_if_exception_type(errors),
        before_sleep=before_sleep,
        reraise=True,
    )


def check_cancelled() -> None:
    """Raise CancelledError if this task was cancelled and a library swallowed the exception.

    redis-py 8.1 sometimes does this while it connects or waits for an answer (seen in one stop of
    thirty). aiokafka 0.14 does it too.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _asked_for(state: RetryCallState) -> float:
    return getattr(_error(state), "retry_after_s", None) or 0.0


def _error(state: RetryCallState) -> Exception:
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, Exception):
        raise TypeError(f"retried without an error: {error!r}")
    return error
