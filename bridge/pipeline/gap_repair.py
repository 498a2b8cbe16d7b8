"""Fill the holes of streams from REST, with at most two tasks per stream in one group.

One task fills the holes that hold the stream back. It gives each up `repair.timeout_s` after it has
shown, so that the waits for several holes do not add up. The other task fetches the gaps that were
given up; it delays neither the next hole nor other streams. REST may lag behind the stream, may
lack ids, or may limit the rate. In each case the request is retried later, and never faster.

Candles and block trades are fetched in their place only: what is given up stays lost.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from http import HTTPStatus
from typing import Protocol

import structlog
from tenacity import AsyncRetrying

from bridge import settings
from bridge.core.model.events import Event, Gap
from bridge.core.sequencing.backfilled import Backfilled
from bridge.core.sequencing.contiguous import Contiguous, closings
from bridge.core.sequencing.rules import Ids
from bridge.core.sequencing.sequencers import Repairable
from bridge.errors import FeedRefused, FeedUnavailable
from bridge.retry import Backoff, forever

# The limit of concurrent requests: each waits for its share of the exchange's weight anyway.
PARALLEL = 8
MAX_DELAY_S = 2.0
# The delay before a hole is fetched, because a late event or the other connector may close it. Each
# request for trades takes 25 of the weight of 6,000 per minute.
MOMENT_S = 0.05
# The delay for candles and block trades, which REST reads from its database: that is behind, and a
# candle that has just closed may still change there.
BACKFILL_DELAY_S = 1.0
# Holes that show within this time of each other count as one moment.
SAME_MOMENT_S = 0.1
# After this many answers that have later ids but lack one, that id is not in the history.
MAX_PASSED_OVER = 5
# A host that answers so lacks the request, or does not know the stream.
_LACKING = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND)
# How long a gap is fetched after it was given up, and the longest delay between two requests.
LATE_TIMEOUT_S = 600.0
LATE_MAX_DELAY_S = 30.0

log = structlog.get_logger(__name__)

Publish = Callable[[Sequence[Event]], None]
# Takes a message type, a symbol and the ids just published. Waits until each id is acknowledged or
# dropped, and returns the dropped ones.
GivenUp = Callable[[str, str, Sequence[int]], Awaitable[Collection[int]]]


class History(Protocol):
    """The source of missing events."""

    async def fetch(
        self, message_type: str, symbol: str, from_id: int, newest_id: int | None = None
    ) -> list[Event]:
        """Return the events from an id on, rising, as many as one answer holds; perhaps none yet.

        `newest_id` is the newest id of the stream, if known. Raises FeedUnavailable or FeedRefused.
        """
        ...

    async def fetch_after(self, place: int, until: Event) -> list[Event]:
        """Return candles or block trades after a place (`Backfilled`) in the stream of the event
        `until`, rising: as many as one answer holds, the one at the place of `until` included.

        Raises FeedUnavailable or FeedRefused.
        """
        ...


class _NotInHistory(Exception):
    """REST has the events after an id, but not the id itself. Or it has no such history."""


class _TooMany(Exception):
    """More events are missing than a stream waits for."""


async def _always() -> None:
    pass


async def _none(_message_type: str, _symbol: str, _ids: Sequence[int]) -> Collection[int]:
    return ()


class _Shown:
    """Remembers when each hole of a stream has shown."""

    def __init__(self) -> None:
        # The moment, and the newest id known then; both rise. At most one every SAME_MOMENT_S.
        self._moments: deque[tuple[float, int]] = deque()

    def note(self, newest_id: int) -> None:
        """Note that ids up to this one are known to exist."""
        now_s = asyncio.get_running_loop().time()
        if self._moments and now_s - self._moments[-1][0] < SAME_MOMENT_S:
            now_s, _ = self._moments.pop()
        self._moments.append((now_s, newest_id))

    def age_s(self, missing_id: int) -> float:
        """Return the time since the stream's first hole has shown, which begins with this id.
        Earlier moments are forgotten.
        """
        while len(self._moments) > 1 and self._moments[0][1] < missing_id:
            self._moments.popleft()
        return asyncio.get_running_loop().time() - self._moments[0][0]


class Repairer:
    """Repairs the streams passed to `notice`, until it is cancelled.

    A gap that was given up is fetched after `has_room` has returned. It is reported as filled after
    `given_up` has confirmed that the durable sink has the fetched events. Otherwise a kill in
    between would leave a gap that is reported as filled but is not.
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
        self._under_repair: dict[Repairable, tuple[str, _Shown]] = {}
        self._under_closure: set[Contiguous] = set()
        # Bounded by the number of streams: each is in the queue at most once.
        self._noticed: asyncio.Queue[tuple[str, Repairable]] = asyncio.Queue()
        self._places = asyncio.Semaphore(PARALLEL)
        self._filled = asyncio.Event()

    def notice(self, symbol: str, sequencer: Repairable) -> None:
        """Repair a stream that has a hole, unless its repair is already running.

        Must be called again for each event that the stream holds back.
        """
        if sequencer not in self._under_repair:
            self._under_repair[sequencer] = symbol, _Shown()
            self._noticed.put_nowait((symbol, sequencer))
        _, shown = self._under_repair[sequencer]
        shown.note(sequencer.newest_id or 0)

    async def filled(self) -> None:
        """Wait until no hole holds events back."""
        while self.held_s():
            self._filled.clear()
            await self._filled.wait()

    def held_s(self) -> dict[str, float]:
        """Return the streams whose events are held back, and for how long, in seconds."""
        return {
            f"{sequencer.message_type} of {symbol}": shown.age_s(sequencer.hole[0])
            for sequencer, (symbol, shown) in self._under_repair.items()
            if sequencer.held and sequencer.hole
        }

    async def run(self) -> None:
        """Start a task for each noticed stream, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                symbol, sequencer = await self._noticed.get()
                group.create_task(self._repair(symbol, sequencer), name=f"repair {symbol}")

    async def _repair(self, symbol: str, sequencer: Repairable) -> None:
        _, shown = self._under_repair[sequencer]
        await self._fill(symbol, sequencer, shown)
        del self._under_repair[sequencer]
        self._filled.set()
        if isinstance(sequencer, Contiguous) and sequencer not in self._under_closure:
            self._under_closure.add(sequencer)
            await self._close_gaps(symbol, sequencer)
            self._under_closure.discard(sequencer)

    async def _fill(self, symbol: str, sequencer: Repairable, shown: _Shown) -> None:
        """Fill the holes that hold the stream back, and give up those that take too long."""
        errors: deque[Exception] = deque(maxlen=1)
        delay_s = MOMENT_S if isinstance(sequencer, Contiguous) else BACKFILL_DELAY_S
        while hole := sequencer.hole:
            left_s = self._options.timeout_s - shown.age_s(hole[0])
            if self._is_too_large(sequencer, hole):
                self._give_up(symbol, sequencer, "too_many_ids")
                continue
            if left_s <= 0:
                self._give_up(symbol, sequencer, "repair_timeout", _last(errors))
                continue
            await asyncio.sleep(delay_s)
            if sequencer.hole != hole:
                continue
            try:
                async with asyncio.timeout(left_s - delay_s):
                    if isinstance(sequencer, Contiguous):
                        await self._fetch_hole(symbol, sequencer, hole[1], errors)
                    else:
                        await self._backfill(symbol, sequencer, hole, errors)
            except TimeoutError:
                pass  # its time is over
            except _TooMany:
                self._give_up(symbol, sequencer, "too_many_ids")
            except _NotInHistory as error:
                self._give_up(symbol, sequencer, "not_in_history", str(error) or _last(errors))

    async def _fetch_hole(
        self, symbol: str, sequencer: Contiguous, end: int, errors: deque[Exception]
    ) -> None:
        """Fetch until the hole up to `end` is filled; the next hole has a timeout of its own.

        `errors` gets each error of a request.
        """
        backoff = Backoff(MAX_DELAY_S)
        passed_over = 0
        async for attempt in _attempts(backoff, errors):
            with attempt:
                while (hole := sequencer.hole) and hole[0] <= end:
                    if self._is_too_large(sequencer, hole):
                        return
                    async with self._places:
                        found = await self._history.fetch(
                            sequencer.message_type, symbol, hole[0], sequencer.newest_id
                        )
                    self._publish(sequencer.fill(found))
                    if sequencer.expected != hole[0]:
                        passed_over = 0
                        backoff.worked()
                        continue
                    if found:
                        passed_over += 1
                    if passed_over == MAX_PASSED_OVER:
                        raise _NotInHistory
                    raise FeedUnavailable(
                        f"REST does not have {sequencer.message_type} {hole[0]} of {symbol} yet"
                    )

    async def _backfill(
        self, symbol: str, sequencer: Backfilled, hole: Ids, errors: deque[Exception]
    ) -> None:
        """Fetch the candles or block trades of a hole, and pass them all on at once.

        `errors` gets each error of a request. Raises _TooMany or _NotInHistory.
        """
        found: list[Event] = []
        until = sequencer.until
        async for attempt in _attempts(Backoff(MAX_DELAY_S), errors):
            with attempt:
                # The answer that reaches the first event after the hole has all before it.
                while not found or sequencer.begin_of(found[-1]) < hole[1]:
                    if len(found) > self._options.max_ids:
                        raise _TooMany
                    place = sequencer.end_of(found[-1]) if found else hole[0] - 1
                    page = await self._page_after(place, until)
                    if not page:
                        raise FeedUnavailable(
                            f"REST does not have the latest {sequencer.message_type} of {symbol} "
                            "yet"
                        )
                    found += page
        if sequencer.hole == hole:
            self._publish(sequencer.fill(found))

    async def _page_after(self, place: int, until: Event) -> list[Event]:
        try:
            async with self._places:
                return await self._history.fetch_after(place, until)
        except FeedRefused as error:
            if error.status in _LACKING:
                raise _NotInHistory(str(error)) from error
            raise

    def _is_too_large(self, sequencer: Repairable, hole: Ids) -> bool:
        """Return whether a hole is not waited for. The first answer shows where a stream begins."""
        if not isinstance(sequencer, Contiguous):
            return False  # the places in the hole say nothing of the number of events
        return sequencer.has_begun and hole[1] - hole[0] >= self._options.max_ids

    async def _close_gaps(self, symbol: str, sequencer: Contiguous) -> None:
        """Fetch the gaps that were given up, oldest first, while the stream continues."""
        while gaps := sequencer.open_gaps:
            gap = gaps[0]
            found: dict[int, Event] = {}
            errors: deque[Exception] = deque(maxlen=1)
            await self._has_room()
            try:
                async with asyncio.timeout(LATE_TIMEOUT_S):
                    await self._fetch_gap(symbol, sequencer, gap, found, errors)
            except TimeoutError:
                log.warning(
                    "gap_lost",
                    symbol=symbol,
                    message_type=sequencer.message_type,
                    error=_last(errors),
                )
            await self._close_gap(symbol, sequencer, gap, found)

    async def _close_gap(
        self, symbol: str, sequencer: Contiguous, gap: Gap, found: dict[int, Event]
    ) -> None:
        """Publish the events that were found, and then report the parts of the gap.

        Events that the durable sink has dropped again are left out: the sink announces and fetches
        them itself.
        """
        if gap not in sequencer.open_gaps:
            return  # the ids have restarted meanwhile
        found |= sequencer.take_late(gap)
        brought = sorted(found)
        lost = [part for part in sequencer.close_gap(gap, brought) if part.state == "lost"]
        self._publish([found[identity] for identity in brought])
        given_up = await self._given_up(sequencer.message_type, symbol, brought)
        there = (identity for identity in brought if identity not in given_up)
        filled = [part for part in closings(gap, there) if part.state == "filled"]
        self._publish([*sorted([*lost, *filled], key=_first_id)])

    async def _fetch_gap(
        self,
        symbol: str,
        sequencer: Contiguous,
        gap: Gap,
        found: dict[int, Event],
        errors: deque[Exception],
    ) -> None:
        """Fetch the events of a gap into `found`, until none is missing. Some may have come by
        themselves.

        `errors` gets each error of a request.
        """
        last = gap.last_id or 0
        async for attempt in _attempts(Backoff(LATE_MAX_DELAY_S), errors):
            with attempt:
                found |= sequencer.take_late(gap)
                first = _first_missing(gap, found)
                while first <= last:
                    async with self._places:
                        events = await self._history.fetch(
                            sequencer.message_type, symbol, first, sequencer.newest_id
                        )
                    inside = {i: e for e in events if (i := sequencer.first_of(e)) <= last}
                    found |= inside
                    first = max(inside, default=last) + 1
                first = _first_missing(gap, found)
                if first <= last:
                    raise FeedUnavailable(
                        f"REST does not have {sequencer.message_type} {first} of {symbol} yet"
                    )

    def _give_up(self, symbol: str, sequencer: Repairable, cause: str, error: str = "") -> None:
        log.info(
            "repair_abandoned",
            symbol=symbol,
            message_type=sequencer.message_type,
            cause=cause,
            error=error,
        )
        self._publish(sequencer.give_up(cause))


def _first_id(gap: Gap) -> int:
    return gap.first_id or 0


def _first_missing(gap: Gap, found: dict[int, Event]) -> int:
    identity = gap.first_id or 0
    while identity in found:
        identity += 1
    return identity


def _last(errors: Sequence[Exception]) -> str:
    return str(errors[-1]) if errors else "no answer in time"


def _attempts(backoff: Backoff, errors: deque[Exception]) -> AsyncRetrying:
    """Return attempts to fetch from REST; `errors` gets the error of each failed attempt.

    A refusal is retried too: a firewall or a proxy may refuse requests for seconds only.
    """

    def on_retry(error: Exception, delay_s: float) -> None:
        errors.append(error)
        log.debug("repair_waiting", error=str(error), retry_in_s=round(delay_s, 2))

    return forever(backoff, FeedUnavailable, FeedRefused, on_retry=on_retry)
