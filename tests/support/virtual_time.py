"""An event loop whose clock stands still while anything happens and else jumps to the next timer.

So the real settings are tested (a minute of quiet, a ping every 30 s) at no cost in time. Only for
tests whose both ends live in this loop: whoever is elsewhere cannot keep up with such a clock.
"""

import asyncio
import selectors

# Loopback needs microseconds to bring what has been sent; this is for a busy machine.
IDLE_S = 0.005


class _Selector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        happened = super().select(min(timeout, IDLE_S))
        if not happened:
            self.now_s += timeout
        return happened


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now_s
