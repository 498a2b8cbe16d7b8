import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenacity import Future, RetryCallState

from bridge.errors import FeedRefused, FeedUnavailable
from bridge.retry import FIRST_DELAY_S, LEAST_DELAY_S, Backoff, forever
from tests.support.virtual_time import VirtualTimeLoop


def failed(attempt: int, error: Exception | None = None) -> RetryCallState:
    state = RetryCallState(None, None, (), {})  # type: ignore[arg-type]
    state.attempt_number = attempt
    state.outcome = Future.construct(attempt, error or FeedUnavailable("down"), has_exception=True)
    return state


@given(attempt=st.integers(1, 10**6), max_delay_s=st.floats(0.001, 3600))
def test_a_wait_is_jittered_between_the_least_and_the_exponential_bound(
    attempt: int, max_delay_s: float
) -> None:
    wait_s = Backoff(max_delay_s)(failed(attempt))
    bound_s = min(FIRST_DELAY_S * 2.0 ** min(attempt - 1, 60), max_delay_s)
    assert LEAST_DELAY_S <= wait_s <= max(bound_s, LEAST_DELAY_S)


def test_the_jitter_is_full() -> None:
    backoff = Backoff(30)
    waits = [backoff(failed(20)) for _ in range(500)]
    assert min(waits) < 3
    assert max(waits) > 27


@given(attempt=st.integers(1, 10**6))
def test_after_something_has_worked_the_next_wait_is_a_first_one(attempt: int) -> None:
    backoff = Backoff(3600)
    backoff.worked()
    state = failed(attempt)
    assert backoff(state) <= FIRST_DELAY_S
    assert state.attempt_number == 1


def test_one_success_makes_one_wait_short() -> None:
    backoff = Backoff(10**6)
    backoff.worked()
    backoff(failed(30))
    assert max(backoff(failed(30)) for _ in range(50)) > FIRST_DELAY_S


@given(attempt=st.integers(1, 100), retry_after_s=st.floats(0, 10**6))
def test_what_the_server_asks_for_is_the_least_wait(attempt: int, retry_after_s: float) -> None:
    error = FeedUnavailable("rate_limited", retry_after_s, cause="rate_limited")
    assert Backoff(30)(failed(attempt, error)) >= retry_after_s


async def logged_at(errors_by_s: dict[float, str], works_at_s: float = math.inf) -> list[float]:
    """Return the times at which failures are logged; at `works_at_s` something works."""
    backoff, found, began_s = Backoff(30), [], asyncio.get_running_loop().time()
    for at_s, text in errors_by_s.items():
        await asyncio.sleep(at_s + began_s - asyncio.get_running_loop().time())
        if at_s == works_at_s:
            backoff.worked()
        error = FeedUnavailable(text)
        backoff(failed(9, error))
        if backoff.should_log(error):
            found.append(at_s)
    return found


@pytest.mark.parametrize(
    ("errors_by_s", "works_at_s", "expected"),
    [
        (dict.fromkeys(range(300), "down"), math.inf, [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]),
        (dict.fromkeys(range(40), "down") | {20: "refused"}, math.inf, [0, 1, 3, 7, 15, 20, 31]),
        (
            {at: ("down", "refused")[at % 2] for at in range(20)},
            math.inf,
            [0, 1, 2, 3, 4, 7, 8, 15, 16],
        ),
        (dict.fromkeys(range(12), "down"), 9, [0, 1, 3, 7, 9, 10]),
    ],
    ids=["lasting", "another error", "two in turn", "after a success"],
)
def test_a_failure_that_lasts_is_logged_at_growing_intervals(
    errors_by_s: dict[float, str], works_at_s: float, expected: list[float]
) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(logged_at(errors_by_s, works_at_s)) == expected


async def attempts(errors: list[Exception], waits: list[float]) -> int:
    """Return the number of attempts until no error was left."""
    backoff = Backoff(30)
    made = 0
    async for attempt in forever(
        backoff, FeedUnavailable, on_retry=lambda _error, delay_s: waits.append(delay_s)
    ):
        with attempt:
            made += 1
            if errors:
                raise errors.pop(0)
    return made


def test_an_error_named_is_tried_again_and_each_wait_is_told() -> None:
    waits: list[float] = []
    errors: list[Exception] = [FeedUnavailable("down") for _ in range(9)]
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(attempts(errors, waits)) == 10
        assert runner.get_loop().time() == pytest.approx(sum(waits))
    assert len(waits) == 9


@pytest.mark.parametrize("error", [FeedRefused("no", "change it"), ValueError("a bug")], ids=repr)
def test_any_other_error_comes_out_as_it_is(error: Exception) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner, pytest.raises(type(error)) as got:
        runner.run(attempts([FeedUnavailable("down"), error], []))
    assert got.value is error
