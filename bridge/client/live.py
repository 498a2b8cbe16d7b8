"""Events as fast as Redis brings them and as complete as Kafka's record."""

import asyncio
from collections import deque
from contextlib import AsyncExitStack
from typing import Self

from bridge import settings
from bridge.client.continuity import Finding
from bridge.client.events import AggTrade, AnyEvent, Gap, Trade, UnreadableEvent
from bridge.client.feed import Feed
from bridge.client.kafka import KafkaFeed
from bridge.client.merge import MERGED, Merge
from bridge.client.message_types import Names, check_message_types
from bridge.client.redis import RedisFeed
from bridge.client.start import Start
from bridge.core.model.events import GAP
from bridge.core.model.stream import SPOT


class LiveFeed(Feed):
    """Reads trade and agg_trade from both Kafka and Redis, and returns each event once: the first
    copy that comes. An async context manager.

        async with LiveFeed(kafka, redis, "trade", symbols="BTCUSDT", start=FromId(1234)) as feed:
            async for trade in feed:
                ...

    It starts in Kafka's record, catches up, and then returns what Redis brings. If Redis misses
    events, it waits until Kafka has brought them, so the events of a symbol come in the order of
    their ids. Trades that the bridge has fetched late are the exception, as in a KafkaFeed: they
    come after higher ids, with `source == "rest"`. Ids that are announced as missing are not waited
    for. Gap events come from Kafka, and are returned if `message_types` has "gap". One may name ids
    that Kafka has lost and Redis has brought.

    The arguments, the checks and the errors are those of KafkaFeed and RedisFeed. If one of the two
    servers goes away, the feed continues with the other: without Redis it is as fast as Kafka,
    without Kafka it continues until Redis misses an event, and then waits for Kafka.
    """

    def __init__(  # noqa: PLR0913 - each is an option of its own
        self,
        kafka: str | settings.Kafka,
        redis: str | settings.Redis,
        message_types: Names,
        *,
        symbols: Names = (),
        venue: str = SPOT,
        start: Start = "latest",
    ) -> None:
        wanted = check_message_types(message_types)
        merged = _merged(wanted)
        symbols = (symbols,) if isinstance(symbols, str) else tuple(symbols)
        self._with_gaps = GAP in wanted
        self._kafka = KafkaFeed(kafka, (*merged, GAP), symbols=symbols, venue=venue, start=start)
        self._redis = RedisFeed(redis, merged, symbols=symbols, venue=venue)
        self._merge = Merge()
        # Events that come next. They come from one event of Kafka or Redis.
        self._next: deque[AnyEvent] = deque()
        self._reading: dict[Feed, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opened:
            await opened.enter_async_context(self._kafka)
            await opened.enter_async_context(self._redis)
            opened.push_async_callback(self._end_reading)
            self._opened = opened.pop_all()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._opened.aclose()

    @property
    def position(self) -> dict[str, int]:
        """Return where to continue in Kafka's record: no later than after the last event that was
        returned. Events that Redis brought ahead of Kafka come again.
        """
        return self._kafka.position_before if self._next else self._kafka.position

    @property
    def findings(self) -> list[Finding]:
        """Return what is wrong with Kafka's record: see KafkaFeed."""
        return self._kafka.findings

    def ready(self) -> AnyEvent | None:
        """Return the next event if it has been read; None if `read_more` must come first.

        Raises UnreadableEvent.
        """
        while not self._next:
            if not (self._take_published() or self._take_recorded()):
                return None
        return self._next.popleft()

    async def read_more(self) -> None:
        """Wait until Kafka or Redis brings something, at most QUIET_S while one of them answers."""
        feeds: tuple[Feed, ...] = (self._redis, self._kafka)
        for feed in feeds:
            if feed not in self._reading:
                self._reading[feed] = asyncio.create_task(feed.read_more())
        await asyncio.wait(self._reading.values(), return_when=asyncio.FIRST_COMPLETED)
        for feed, task in list(self._reading.items()):
            if task.done():
                del self._reading[feed]
                task.result()

    def _take_recorded(self) -> bool:
        """Merge the next event of Kafka. Return whether there was one."""
        if self._kafka in self._reading or not (event := self._kafka.ready()):
            return False
        if isinstance(event, Gap):
            self._next.extend([event] if self._with_gaps else ())
            self._next.extend(self._merge.announce(event))
        elif isinstance(event, Trade | AggTrade):
            self._next.extend(self._merge.recorded(event))
        return True

    def _take_published(self) -> bool:
        """Merge the next event of Redis. Return whether there was one."""
        if self._redis in self._reading:
            return False
        try:
            event = self._redis.ready()
        except UnreadableEvent:
            return True  # Kafka has it too, and raises it in its turn
        if isinstance(event, Trade | AggTrade):
            self._next.extend(self._merge.published(event))
        return event is not None

    async def _end_reading(self) -> None:
        for task in self._reading.values():
            task.cancel()
        await asyncio.gather(*self._reading.values(), return_exceptions=True)


def _merged(wanted: tuple[str, ...]) -> list[str]:
    """Return the message types to merge. Raises ValueError if another one is wanted."""
    merged = [kind for kind in wanted if kind != GAP]
    for kind in merged or wanted:
        if kind not in MERGED:
            raise ValueError(
                f"a LiveFeed merges {' and '.join(MERGED)} by their ids, and cannot merge "
                f"{kind!r}; read it with a KafkaFeed or a RedisFeed"
            )
    return merged
