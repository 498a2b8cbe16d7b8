"""The interface of a market, which hands out its messages in order, on a clock of its own.

There are two markets: `Replay` plays captures, `Market` invents. Neither knows a socket or an event
loop, so both can be stepped at any speed. A seed or a file decides everything that they send,
except when an invented market begins.
"""

from collections.abc import Sequence
from typing import Protocol

from bridge.tools.simulator.candles import Bar

Message = tuple[str, bytes]
"""A stream's name and one payload of it, as in the raw form of Binance's streams."""


class Source(Protocol):
    """A market. Offsets are microseconds since its start, on its own clock."""

    @property
    def symbols(self) -> Sequence[str]: ...

    @property
    def played_once(self) -> bool:
        """Return whether all messages have been handed out once; never true without an end."""
        ...

    @property
    def now_ms(self) -> int:
        """Return the market's time in milliseconds since the epoch."""
        ...

    def begin(self) -> None:
        """Start the market: play begins now."""
        ...

    def due_us(self) -> int | None:
        """Return the offset of the next message; None if there are no more."""
        ...

    def take(self, until_us: int | None, limit: int) -> Sequence[Message]:
        """Return the next messages due by `until_us` (None: at any time), about `limit` at most.

        Trades are always included, wanted or not, because clients ask REST for them.
        """
        ...

    def want(self, streams: frozenset[str]) -> None:
        """Set the wanted streams; a source may leave out all other streams except trades."""
        ...

    def candles(self, symbol: str, spans: Sequence[tuple[int, int]]) -> Sequence[Bar]:
        """Return the trades between the first and last millisecond of each span, as far as the
        market knows them.
        """
        ...

    def depth(self, symbol: str, limit: int) -> bytes:
        """Return the order book now, as `/api/v3/depth` answers it."""
        ...
