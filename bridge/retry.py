"""The retry policy for all connections, built on tenacity: no end, full jitter, a capped delay.

When a server comes back, full jitter keeps its thousand clients from connecting at the same moment.
After a success, the next failure starts from the shortest delay again.
"""

import asyncio
from collections.abc import Callable

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

FIRST_DELAY_S = 0.06
# There is a delay even after a success. Otherwise a server that accepts connections and then drops
# them would cause a loop without a pause.
LEAST_DELAY_S = 0.03


# A failure that lasts is logged after 1 s, 2 s, 4 s and so on, and then every minute.
FIRST_SILENCE_S, MAX_SILENCE_S = 1.0, 60.0


class RepeatedFailure:
    """A failure that repeats until something works. It is logged at growing intervals."""

    def __init__(self) -> None:
        self._logged: set[str] = set()
        self._silence_s = FIRST_SILENCE_S / 2
        self._silent_until_s = 0.0

    def should_log(self, error: Exception) -> bool:
        """Return whether to log it this time: the first time, after a while, or if this error has
        not been logged since.
        """
        now_s, text = asyncio.get_running_loop().time(), str(error)
        if now_s >= self._silent_until_s:
            self._silence_s = min(2 * self._silence_s, MAX_SILENCE_S)
            self._silent_until_s = now_s + self._silence_s
            self._logged.clear()
        is_new = text not in self._logged
        self._logged.add(text)
        return is_new


class Backoff(wait_random_exponential):
    """Exponential backoff with full jitter, and at least the `retry_after_s` of the error."""

    def __init__(self, max_delay_s: float) -> None:
        super().__init__(multiplier=FIRST_DELAY_S, max=max_delay_s, min=LEAST_DELAY_S)
        self._worked = False
        self._failure = RepeatedFailure()

    def worked(self) -> None:
        """Start from the shortest delay at the next failure."""
        self._worked = True

    def should_log(self, error: Exception) -> bool:
        """Return whether to log a failure: see `RepeatedFailure`."""
        return self._failure.should_log(error)

    def __call__(self, retry_state: RetryCallState) -> float:
        if self._worked:
            retry_state.attempt_number = 1
            self._worked = False
            self._failure = RepeatedFailure()
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
