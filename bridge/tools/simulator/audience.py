"""All subscribers, as the player sees them."""

import asyncio
from collections.abc import Sequence

from bridge.tools.simulator.batch import Batch
from bridge.tools.simulator.source import Message, Source
from bridge.tools.simulator.subscriber import Subscriber


class Audience:
    """The subscribers and the streams that they want together.

    `present` is set while at least one stream is wanted. `gathered` is set once
    `start_after_streams` different streams are wanted; from the start if that is 0.
    """

    def __init__(self, source: Source, start_after_streams: int) -> None:
        self.present = asyncio.Event()
        self.gathered = asyncio.Event()
        self._source = source
        self._start_after_streams = start_after_streams
        self._subscribers: set[Subscriber] = set()
        self._wanted: frozenset[str] = frozenset()
        if start_after_streams == 0:
            self.gathered.set()

    def join(self, subscriber: Subscriber) -> None:
        self._subscribers.add(subscriber)

    def leave(self, subscriber: Subscriber) -> None:
        self._subscribers.discard(subscriber)
        self.recount()

    def subscribers(self) -> tuple[Subscriber, ...]:
        """Return all subscribers that are connected now."""
        return tuple(self._subscribers)

    def recount(self) -> None:
        """Update the set of wanted streams."""
        names = [subscriber.session.streams for subscriber in self._subscribers]
        self._wanted = frozenset().union(*names)
        self._source.want(self._wanted)
        if self._wanted:
            self.present.set()
        else:
            self.present.clear()
        if len(self._wanted) >= self._start_after_streams:
            self.gathered.set()

    def deliver(self, messages: Sequence[Message]) -> None:
        """Write each message to every subscriber that wants it, without waiting."""
        wanted = self._wanted
        batch = Batch([message for message in messages if message[0] in wanted])
        for subscriber in self._subscribers:
            subscriber.deliver(batch)

    def leave_the_slow_behind(self) -> None:
        for subscriber in self._subscribers:
            subscriber.end_if_behind()

    def dismiss(self) -> None:
        """Abort the connections that do not read: a closing handshake would hang."""
        for subscriber in self._subscribers:
            subscriber.drop()

    async def caught_up(self) -> None:
        """Wait until the slowest subscriber has caught up."""
        for subscriber in tuple(self._subscribers):
            await subscriber.caught_up()

    async def flushed(self) -> None:
        for subscriber in tuple(self._subscribers):
            await subscriber.flushed()
