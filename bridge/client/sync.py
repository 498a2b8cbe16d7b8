"""The feeds and the latest prices without asyncio: for scripts, notebooks and threads.

    with KafkaFeed("localhost:9092", "trade", symbols="BTCUSDT") as trades:
        for trade in trades:
            ...

Each class takes the arguments of the class of the same name in `bridge.client`, and raises the same
errors. From entry to exit it runs an event loop in a thread of its own, so it also works where
another loop runs, as in a notebook. A feed belongs to one thread at a time.
"""

import asyncio
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future, wait
from contextlib import AbstractAsyncContextManager
from threading import Thread
from typing import Any, Generic, Self, TypeVar

from bridge import client, settings
from bridge.client.continuity import Finding
from bridge.client.events import AnyEvent
from bridge.client.feed import Feed
from bridge.client.kafka import Check
from bridge.client.latest import LatestPrice
from bridge.client.message_types import Names
from bridge.client.start import Start
from bridge.core.model.stream import SPOT

__all__ = ["KafkaFeed", "LatestPrices", "LiveFeed", "RedisFeed"]

T = TypeVar("T")
Source = TypeVar("Source", bound=AbstractAsyncContextManager[object, None])
FeedSource = TypeVar("FeedSource", bound=Feed)


class _LoopThread:
    """An event loop that runs in a thread until it is closed."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._closed = asyncio.Event()
        # A daemon: a program that forgets to close it can end all the same.
        self._thread = Thread(target=self._run, name="tickbridge-client", daemon=True)
        self._thread.start()

    def start(self, coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return the result of a coroutine. Cancel it if the wait is interrupted (Ctrl-C)."""
        future = self.start(coroutine)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Cancel what still runs, and end the thread."""
        self._loop.call_soon_threadsafe(self._closed.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._closed.wait())


class _Context(Generic[Source]):
    """A context manager that enters an async one in the loop of a thread."""

    _thread: _LoopThread | None = None

    def __init__(self, source: Source) -> None:
        self._source = source

    def __enter__(self) -> Self:
        self._thread = _LoopThread()
        try:
            self._thread.run(self._source.__aenter__())
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._opened.run(self._leave(*error))
        finally:
            self._close()

    @property
    def _opened(self) -> _LoopThread:
        if self._thread is None:
            name = type(self).__name__
            raise RuntimeError(f"{name} is not open; use it inside `with {name}(...) as ...:`")
        return self._thread

    async def _leave(self, *error: Any) -> None:
        await self._source.__aexit__(*error)

    def _close(self) -> None:
        self._opened.close()
        self._thread = None


class _Feed(_Context[FeedSource], Iterator[AnyEvent]):
    """Reads many events at a time in the thread of the loop. The caller's thread decodes them."""

    def __init__(self, source: FeedSource) -> None:
        super().__init__(source)
        # It goes on if the wait for it is interrupted, so that nothing is lost.
        self._reading: Future[None] | None = None
        self._one_at_a_time = asyncio.Lock()

    def __next__(self) -> AnyEvent:
        while (event := self.next_event()) is None:
            pass
        return event

    def next_event(self, timeout_s: float | None = None) -> AnyEvent | None:
        """Return the next event; None if none arrives within `timeout_s`."""
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        while self._reading or (event := self._source.ready()) is None:
            self._reading = self._reading or self._opened.start(self._read_more())
            if not wait([self._reading], end_s and max(0, end_s - time.monotonic())).done:
                return None
            done, self._reading = self._reading, None
            done.result()
        return event

    async def _read_more(self) -> None:
        async with self._one_at_a_time:
            await self._source.read_more()

    def _end_reading(self) -> None:
        if self._reading:
            self._reading.cancel()
            self._reading = None

    async def _leave(self, *error: object) -> None:
        self._end_reading()
        async with self._one_at_a_time:
            await super()._leave(*error)


class KafkaFeed(_Feed[client.KafkaFeed]):
    """See `bridge.client.KafkaFeed`."""

    def __init__(  # noqa: PLR0913 - those of bridge.client.KafkaFeed
        self,
        kafka: str | settings.Kafka,
        message_types: Names,
        *,
        symbols: Names = (),
        venue: str = SPOT,
        start: Start = "latest",
        check: Check = "report",
        group: str | None = None,
    ) -> None:
        super().__init__(
            client.KafkaFeed(
                kafka,
                message_types,
                symbols=symbols,
                venue=venue,
                start=start,
                check=check,
                group=group,
            )
        )

    def commit(self) -> None:
        self._opened.run(self._source.commit())

    @property
    def position(self) -> dict[str, int]:
        return self._source.position

    @property
    def findings(self) -> list[Finding]:
        return self._source.findings

    @property
    def findings_count(self) -> int:
        return self._source.findings_count


class RedisFeed(_Feed[client.RedisFeed]):
    """See `bridge.client.RedisFeed`."""

    def __init__(
        self,
        redis: str | settings.Redis,
        message_types: Names,
        *,
        symbols: Names = (),
        venue: str = SPOT,
    ) -> None:
        super().__init__(client.RedisFeed(redis, message_types, symbols=symbols, venue=venue))


class LiveFeed(_Feed[client.LiveFeed]):
    """See `bridge.client.LiveFeed`."""

    def __init__(  # noqa: PLR0913 - those of bridge.client.LiveFeed
        self,
        kafka: str | settings.Kafka,
        redis: str | settings.Redis,
        message_types: Names,
        *,
        symbols: Names = (),
        venue: str = SPOT,
        start: Start = "latest",
    ) -> None:
        super().__init__(
            client.LiveFeed(kafka, redis, message_types, symbols=symbols, venue=venue, start=start)
        )

    @property
    def position(self) -> dict[str, int]:
        return self._source.position

    @property
    def findings(self) -> list[Finding]:
        return self._source.findings


class LatestPrices(_Context[client.LatestPrices]):
    """See `bridge.client.LatestPrices`."""

    def __init__(self, redis: str | settings.Redis, *, venue: str = SPOT) -> None:
        super().__init__(client.LatestPrices(redis, venue=venue))

    def get(self, symbol: str) -> LatestPrice | None:
        return self._opened.run(self._source.get(symbol))

    def wait_for(self, symbol: str, timeout_s: float = 30.0) -> LatestPrice:
        return self._opened.run(self._source.wait_for(symbol, timeout_s))

    def get_many(self, symbols: Names) -> dict[str, LatestPrice]:
        return self._opened.run(self._source.get_many(symbols))

    def all_prices(self) -> dict[str, LatestPrice]:
        return self._opened.run(self._source.all_prices())

    def owner(self) -> str | None:
        return self._opened.run(self._source.owner())

    def symbols(self) -> list[str]:
        return self._opened.run(self._source.symbols())
