"""An event loop whose clock stands still while something happens, and then jumps to the next timer.

So the real settings are tested (a minute of silence, a ping every 30 s) without waiting. Only for
tests in which both ends run in this loop: another process cannot keep up with such a clock.
"""

import asyncio
import selectors

# Loopback delivers data within microseconds; this leaves room for a busy machine.
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
