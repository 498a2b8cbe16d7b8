"""Fills the holes of contiguous streams from REST: at most two tasks a stream, all in one group.

One for the hole that holds the stream, for as long as `repair.timeout_s`; and one for what was
given up on the way, which holds up nothing: neither the next hole nor other streams. REST may be
behind the stream, may lack ids, may ask for quiet: each is a reason to ask again later, and none to
ask faster.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Protocol

import structlog

from bridge import settings
from bridge.core.model.events import Event, Gap
from bridge.core.sequencing.contiguous import Contiguous, closings
from bridge.errors import FeedRefused, FeedUnavailable
from bridge.retry import Backoff, forever

# How many requests are under way at once: each waits for its turn at the exchange's weight anyway.
PARALLEL = 8
MAX_DELAY_S = 2.0
# A hole that something late closes by itself, or the other connector, is not asked for:
# each request for trades takes 25 of the 6,000 that a minute has.
MOMENT_S = 0.05
# After so many answers that go on behind an id but lack it, it is not there to be had.
MAX_PASSED_OVER = 5
# How long what was given up is asked for, and how often at the least.
LATE_TIMEOUT_S = 600.0
LATE_MAX_DELAY_S = 30.0

log = structlog.get_logger(__name__)

Publish = Callable[[Sequence[Event]], None]
# Which ids of a stream (message type, symbol), of those published just now, were given up: returns
# when all others are where they belong.
GivenUp = Callable[[str, str, Sequence[int]], Awaitable[Collection[int]]]


class History(Protocol):
    """Where missing events are asked for."""

    async def fetch(self, message_type: str, symbol: str, from_id: int) -> list[Event]:
        """Events from an id on, rising, as many as one answer holds; perhaps none of them yet.

        Raises FeedUnavailable or FeedRefused.
        """
        ...


class _NotInHistory(Exception):
    """REST has what comes behind an id, and not the id."""


async def _always() -> None:
    pass


async def _none(_message_type: str, _symbol: str, _ids: Sequence[int]) -> Collection[int]:
    return ()


class Repairer:
    """Repairs streams as they are noticed, until it is cancelled.

    What was given up is asked for when `has_room` has returned. Its gap is called filled when
    `given_up` says that the durable record has what was brought. Otherwise a kill in between would
    leave a gap that is called filled and is not.
    """

    def __init__(
        self,
        options: settings.Repair,
        history: History,
        publish: Publish,
        *,
        given_up: GivenUp = _none,
        has_room: Callable[[], Awaitable[None]] = _always,
    ) -> None:
        self._has_room = has_room
        self._given_up = given_up
        self._options = options
        self._history = history
        self._publish = publish
        self._under_repair: set[Contiguous] = set()
        self._under_closure: set[Contiguous] = set()
        # Bounded by the number of streams: each is in it once at the most.
        self._noticed: asyncio.Queue[tuple[str, Contiguous]] = asyncio.Queue()
        self._places = asyncio.Semaphore(PARALLEL)

    def notice(self, symbol: str, sequencer: Contiguous) -> None:
        """A stream has a hole: see to it, if that is not under way."""
        if sequencer not in self._under_repair:
            self._under_repair.add(sequencer)
            self._noticed.put_nowait((symbol, sequencer))

    async def run(self) -> None:
        """Start a task for each stream noticed, for ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                symbol, sequencer = await self._noticed.get()
                group.create_task(self._repair(symbol, sequencer), name=f"repair {symbol}")

    async def _repair(self, symbol: str, sequencer: Contiguous) -> None:
        await self._fill(symbol, sequencer)
        self._under_repair.discard(sequencer)
        if sequencer not in self._under_closure:
            self._under_closure.add(sequencer)
            await self._close_gaps(symbol, sequencer)
            self._under_closure.discard(sequencer)

    async def _fill(self, symbol: str, sequencer: Contiguous) -> None:
        """Bring what holds the stream; after too long, or if there is too much, let it go on."""
        while hole := sequencer.hole:
            if hole[1] - hole[0] >= self._options.max_ids:
                self._give_up(symbol, sequencer, "too_many_ids")
                continue
            await asyncio.sleep(MOMENT_S)
            if sequencer.hole != hole:
                continue
            try:
                async with asyncio.timeout(self._options.timeout_s):
                    await self._fetch_hole(symbol, sequencer, hole[1])
            except TimeoutError:
                self._give_up(symbol, sequencer, "repair_timeout")
            except _NotInHistory:
                self._give_up(symbol, sequencer, "not_in_history")
            except FeedRefused as error:
                log.warning("repair_refused", symbol=symbol, error=str(error))
                self._give_up(symbol, sequencer, "repair_refused")

    async def _fetch_hole(self, symbol: str, sequencer: Contiguous, end: int) -> None:
        """Until the hole is filled that reaches to `end`: the next one has patience of its own."""
        backoff = Backoff(MAX_DELAY_S)
        passed_over = 0
        async for attempt in forever(backoff, FeedUnavailable, on_retry=_on_retry):
            with attempt:
                while (hole := sequencer.hole) and hole[0] <= end:
                    async with self._places:
                        found = await self._history.fetch(sequencer.message_type, symbol, hole[0])
                    self._publish(sequencer.fill(found))
                    if sequencer.expected != hole[0]:
                        passed_over = 0
                        backoff.worked()
                        continue
                    passed_over += bool(found)
                    if passed_over == MAX_PASSED_OVER:
                        raise _NotInHistory
                    raise FeedUnavailable(
                        f"REST has no {sequencer.message_type} {hole[0]} of {symbol} yet"
                    )

    async def _close_gaps(self, symbol: str, sequencer: Contiguous) -> None:
        """Ask for what was given up, oldest first, while the stream flows."""
        while gaps := sequencer.open_gaps:
            gap = gaps[0]
            found: dict[int, Event] = {}
            await self._has_room()
            try:
                async with asyncio.timeout(LATE_TIMEOUT_S):
                    await self._fetch_gap(symbol, sequencer, gap, found)
            except (TimeoutError, FeedRefused) as error:
                log.warning(
                    "gap_lost",
                    symbol=symbol,
                    message_type=sequencer.message_type,
                    error=str(error) or "late",
                )
            await self._close_gap(symbol, sequencer, gap, found)

    async def _close_gap(
        self, symbol: str, sequencer: Contiguous, gap: Gap, found: dict[int, Event]
    ) -> None:
        """Bring what was found, and then say what became of the gap.

        What the record has given up again, it announces and has brought by itself.
        """
        if gap not in sequencer.open_gaps:
            return  # the ids have started again meanwhile
        brought = sorted(found)
        lost = [part for part in sequencer.close_gap(gap, brought) if part.state == "lost"]
        self._publish([found[identity] for identity in brought])
        given_up = await self._given_up(sequencer.message_type, symbol, brought)
        there = (identity for identity in brought if identity not in given_up)
        filled = [part for part in closings(gap, there) if part.state == "filled"]
        self._publish([*sorted([*lost, *filled], key=_first_id)])

    async def _fetch_gap(
        self, symbol: str, sequencer: Contiguous, gap: Gap, found: dict[int, Event]
    ) -> None:
        """Gather the events of a gap into `found`, until all are there."""
        first, last = gap.first_id or 0, gap.last_id or 0
        backoff = Backoff(LATE_MAX_DELAY_S)
        async for attempt in forever(backoff, FeedUnavailable, on_retry=_on_retry):
            with attempt:
                while first <= last:
                    async with self._places:
                        events = await self._history.fetch(sequencer.message_type, symbol, first)
                    inside = {i: e for e in events if (i := sequencer.first_of(e)) <= last}
                    found |= inside
                    first = max(inside, default=last) + 1
                first = _first_missing(gap, found)
                if first <= last:
                    raise FeedUnavailable(
                        f"REST has no {sequencer.message_type} {first} of {symbol} yet"
                    )

    def _give_up(self, symbol: str, sequencer: Contiguous, cause: str) -> None:
        log.info(
            "repair_abandoned", symbol=symbol, message_type=sequencer.message_type, cause=cause
        )
        self._publish(sequencer.give_up(cause))


def _first_id(gap: Gap) -> int:
    return gap.first_id or 0


def _first_missing(gap: Gap, found: dict[int, Event]) -> int:
    identity = gap.first_id or 0
    while identity in found:
        identity += 1
    return identity


def _on_retry(error: Exception, delay_s: float) -> None:
    log.debug("repair_waiting", error=str(error), retry_in_s=round(delay_s, 2))
