"""How anything is tried again, as tenacity values: for ever, with full jitter, capped.

Full jitter keeps the thousand clients of a server that comes back from arriving together. Once
something has worked, the next failure starts from the shortest wait again.
"""

import asyncio
from collections.abc import Callable

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

FIRST_DELAY_S = 0.25
# Not even after success is anything tried again at once: a server that accepts and then drops would
# otherwise be met by a loop without a pause.
LEAST_DELAY_S = 0.05


class Backoff(wait_random_exponential):
    """Exponential back-off with full jitter; waits at least an error's `retry_after_s`."""

    def __init__(self, max_delay_s: float) -> None:
        super().__init__(multiplier=FIRST_DELAY_S, max=max_delay_s, min=LEAST_DELAY_S)
        self._worked = False

    def worked(self) -> None:
        """Start from the shortest wait at the next failure."""
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
    """Attempts without end while one of `errors` is raised; `on_retry` gets it and the wait in
    seconds.
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
    """Raise CancelledError if somebody has cancelled this task and a library kept it to itself.

    redis-py 8.1 does so now and then, while it connects or waits for an answer (seen in one stop of
    thirty), and so does aiokafka 0.14.
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
