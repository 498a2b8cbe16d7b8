"""All who listen, as the player sees them."""

import asyncio
from collections.abc import Sequence

from bridge.tools.simulator.batch import Batch
from bridge.tools.simulator.source import Message, Source
from bridge.tools.simulator.subscriber import Subscriber


class Audience:
    """The subscribers and what they want between them.

    `present` is set while anybody has a stream; `gathered` once `start_after_streams` different
    ones have been asked for, from the beginning if that is 0.
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

    def recount(self) -> None:
        """Find out anew which streams are wanted."""
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
        """Write the messages to everyone who wants them; waits for nobody."""
        wanted = self._wanted
        batch = Batch([message for message in messages if message[0] in wanted])
        for subscriber in self._subscribers:
            subscriber.deliver(batch)

    def announce(self, message: Message) -> None:
        """Send a message to everyone, whatever they asked for."""
        stream, _ = message
        batch = Batch([message])
        for subscriber in self._subscribers:
            subscriber.deliver(batch, streams=(stream,))

    def leave_the_slow_behind(self) -> None:
        for subscriber in self._subscribers:
            subscriber.end_if_behind()

    def dismiss(self) -> None:
        """Break off with those who do not read: nobody could say goodbye to them."""
        for subscriber in self._subscribers:
            subscriber.drop()

    async def caught_up(self) -> None:
        """Wait for the slowest."""
        for subscriber in tuple(self._subscribers):
            await subscriber.caught_up()

    async def flushed(self) -> None:
        for subscriber in tuple(self._subscribers):
            await subscriber.flushed()
