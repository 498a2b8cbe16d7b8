"""Shares the event loop between the connections and the sinks.

All connections together handle a bounded amount of frames, and then the others of the event loop
get their turn. What is left waits for the next turns, in the order of arrival, and its connections
are not read meanwhile. Without this bound, the connections of 1,500 symbols handled 3,000 frames in
a row under overload: the sinks had 15 turns a second, and Redis dropped most messages.
"""

import asyncio
from collections import deque
from collections.abc import Callable


class Turns:
    """Tells connections when they may handle frames. One for all connections of an event loop.

    The share of a read is its part of what one turn allows: 1 is all of it.
    """

    def __init__(self) -> None:
        self._left = 1.0
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_scheduled = False

    def may_proceed(self) -> bool:
        """Return whether a connection may handle frames now."""
        return self._left > 0 and not self._waiting

    def spend(self, share: float) -> None:
        """Note that frames are handled now."""
        self._left -= share
        if self._left <= 0:
            self._schedule()

    def take(self, proceed: Callable[[], None]) -> None:
        """Call `proceed` now if there is room, otherwise in a later turn."""
        if self.may_proceed():
            proceed()
        else:
            self.wait(proceed)

    def wait(self, proceed: Callable[[], None]) -> None:
        """Call `proceed` in a later turn, when no other connection waits for longer."""
        self._waiting.append(proceed)
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        """Begin the next turn."""
        self._is_scheduled = False
        self._left = 1.0
        try:
            while self._waiting and self._left > 0:
                self._waiting.popleft()()
        finally:  # an error of one connection does not stop the others
            if self._waiting:
                self._schedule()
