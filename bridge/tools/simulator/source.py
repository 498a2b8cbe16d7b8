"""What the exchange plays: a market that hands out its messages in order, on a clock of its own.

Two of them exist: `Replay` plays captures, `Market` invents. Neither knows a socket or an event
loop, so both can be stepped at any speed, and a seed or a file settles everything they say.
"""

from collections.abc import Sequence
from typing import Protocol

Message = tuple[str, bytes]
"""A stream's name and one payload of it, as the raw form of Binance's streams has it."""


class Source(Protocol):
    """A market. Offsets are microseconds since its beginning, on its own clock."""

    @property
    def symbols(self) -> Sequence[str]: ...

    @property
    def played_once(self) -> bool:
        """Whether everything has been handed out once; never true of what has no end."""
        ...

    @property
    def now_ms(self) -> int:
        """The market's time, milliseconds since the epoch."""
        ...

    def due_us(self) -> int | None:
        """When the next message is due; None when there are no more."""
        ...

    def take(self, until_us: int | None, limit: int) -> Sequence[Message]:
        """The next messages due by `until_us` (None: whatever comes next), about `limit` at most.

        Trades are always among them, wanted or not: they are what REST will be asked for.
        """
        ...

    def want(self, streams: frozenset[str]) -> None:
        """Say which streams somebody listens to; a source may leave out all others but trades."""
        ...

    def depth(self, symbol: str, limit: int) -> bytes:
        """The order book now, as `/api/v3/depth` answers it."""
        ...
