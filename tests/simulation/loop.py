"""An event loop without sockets. Nothing happens outside of it, so its clock can jump.

The same seed gives the same order of everything: nothing here uses the machine's clock, its
randomness or the address of an object.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context
from itertools import count
from typing import Any
from unittest import mock

from bridge.core.sequencing.rules import MAX_AHEAD_US

# The start of every schedule, in seconds since the epoch.
BEGIN_S = 1_790_000_000


class Idle(Exception):
    """All tasks wait for each other, and no timer runs."""


class _Task(asyncio.Task[Any]):
    """A task whose place in a set depends on its creation, not on its address."""

    numbers = count()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._number = next(self.numbers)
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self._number


class SimulationLoop(asyncio.BaseEventLoop):
    """A loop that has timers only: there are no files, signals or threads.

    `clock_ahead_s` is the error of the machine's wall clock.
    """

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 0.0
        self.clock_ahead_s = 0
        self._selector = self
        self.errors: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, error: self.errors.append(error))
        self.set_task_factory(_new_task)
        _Task.numbers = count()

    def time(self) -> float:
        return self._now_s

    def select(self, timeout_s: float | None) -> list[Any]:
        """Advance the clock by the time that the loop may sleep. Raises Idle if no timer runs."""
        if timeout_s is None:
            raise Idle
        self._now_s += timeout_s
        return []

    def _process_events(self, _events: list[Any]) -> None:
        pass

    def add_signal_handler(self, sig: int, callback: Callable[..., Any], *args: Any) -> None:  # type: ignore[override]  # nobody sends any
        pass


def _new_task(
    loop: asyncio.AbstractEventLoop, coroutine: Any, context: Context | None = None
) -> asyncio.Task[Any]:
    return _Task(coroutine, loop=loop, context=context)


def now_us() -> int:
    """Return the exchange's virtual wall clock in microseconds since the epoch."""
    return BEGIN_S * 1_000_000 + round(asyncio.get_running_loop().time() * 1e6)


def is_clock_slow() -> bool:
    """Return whether our clock is so slow that each event of the exchange seems to be ahead."""
    return time.time_ns() // 1000 - now_us() < -MAX_AHEAD_US


@contextmanager
def _virtual(loop: SimulationLoop, seed: int) -> Iterator[None]:
    def time_ns() -> int:
        return (BEGIN_S + loop.clock_ahead_s) * 10**9 + round(loop.time() * 1e6) * 1000

    clocks: dict[str, Any] = {"time_ns": time_ns, "time": lambda: time_ns() / 1e9}
    clocks |= dict.fromkeys(("monotonic", "perf_counter"), loop.time)
    random.seed(seed)  # tenacity's jitter
    with mock.patch.multiple(time, **clocks):
        yield


def run(seed: int, main: Callable[[SimulationLoop], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine to its end, on virtual time."""
    loop = SimulationLoop()
    asyncio.set_event_loop(loop)
    try:
        with _virtual(loop, seed):
            loop.run_until_complete(main(loop))
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def within(seconds: float, awaited: Awaitable[object]) -> bool:
    """Return whether the awaitable finished in time."""
    try:
        async with asyncio.timeout(seconds):
            await awaited
    except TimeoutError:
        return False
    return True
