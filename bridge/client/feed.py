"""The interface of all feeds: events that have been read are returned without waiting.

So `bridge.client.sync` crosses the border between two threads once for many events.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import Self

from bridge.client.events import AnyEvent


class Feed(AsyncIterator[AnyEvent], ABC):
    """Events without end, read inside an async context."""

    @abstractmethod
    async def __aenter__(self) -> Self: ...

    @abstractmethod
    async def __aexit__(self, *_error: object) -> None: ...

    async def __anext__(self) -> AnyEvent:
        while (event := self.ready()) is None:
            await self.read_more()
        return event

    @abstractmethod
    def ready(self) -> AnyEvent | None:
        """Return the next event if it has been read; None if `read_more` must come first."""

    @abstractmethod
    async def read_more(self) -> None:
        """Wait for further events, but not without end: there may be none afterwards."""
