"""Compare each stream with contiguous ids with the exchange's own last id, which REST reports.

A missing trade shows in its stream only with the next trade, which may come after hours. So the
exchange is asked at the start, after a connection has opened, and at an interval. Ids up to its
last one that have not come are a hole. A stream that has never had an event gets a position, so
that the next start knows where it was.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Protocol

import structlog

from bridge.core.model.stream import Stream
from bridge.core.sequencing.contiguous import Contiguous
from bridge.core.sequencing.position import Position, StreamKey, unpublished
from bridge.core.sequencing.rules import Head, time_of
from bridge.core.sequencing.sequencers import Sequencers
from bridge.errors import FeedRefused, FeedUnavailable
from bridge.retry import Backoff, forever
from bridge.telemetry import FeedCounts, now_us

# A stream may be this much behind REST without a loss.
SETTLE_S = 2.0
# The least time between two checks. Without it, connections that break off every few seconds would
# use up the request weight.
LEAST_INTERVAL_S = 5.0
MAX_DELAY_S = 30.0
_LACKING = (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND)

log = structlog.get_logger(__name__)


class Heads(Protocol):
    """The source of the last ids. Its methods raise FeedUnavailable or FeedRefused."""

    async def last_trades(self, symbols: Sequence[str]) -> Mapping[str, Head]:
        """Return the heads of the trades of these symbols, as far as the exchange lists them. The
        last id is -1 if a symbol has not traded for a day.
        """
        ...

    async def last_of(self, message_type: str, symbol: str) -> Head:
        """Return the head of one stream."""
        ...


class HeadCheck:
    """Checks the streams until it is cancelled.

    `notice` gets each stream that has a hole. `resume` gets the positions of streams without one.
    """

    def __init__(  # noqa: PLR0913 (what it connects)
        self,
        interval_s: float,
        heads: Heads,
        sequencers: Sequencers,
        *,
        notice: Callable[[str, Contiguous], None],
        resume: Callable[[Iterable[Position]], None],
        counts: FeedCounts,
    ) -> None:
        self._interval_s = interval_s
        self._heads = heads
        self._sequencers = sequencers
        self._notice = notice
        self._resume = resume
        self._counts = counts
        self._requested = asyncio.Event()
        # The symbol's last trade at the time when a stream was last found to be complete. Only for
        # streams that `last_trades` does not answer for.
        self._complete_at: dict[StreamKey, int] = {}

    def request(self) -> None:
        """Check soon, because a connection has opened."""
        self._requested.set()

    async def run(self, streams: Callable[[], Iterable[Stream]]) -> None:
        """Check the present `streams` until cancelled, or until the exchange has no last ids."""
        try:
            while True:
                self._requested.clear()
                await self._check(streams)
                await asyncio.sleep(LEAST_INTERVAL_S)
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, self._interval_s - LEAST_INTERVAL_S)):
                        await self._requested.wait()
        except FeedRefused as error:
            log.warning(
                "head_check_stopped",
                error=str(error),
                consequence="a missing trade shows only when the next trade of its symbol arrives",
            )

    async def _check(self, streams: Callable[[], Iterable[Stream]]) -> None:
        """Check once, with retries. Raises FeedRefused if the exchange has no last ids."""
        backoff = Backoff(MAX_DELAY_S)

        def on_retry(error: Exception, delay_s: float) -> None:
            self._counts.head_checks["failed"] += 1
            if backoff.should_log(error):
                log.info("head_check_failed", error=str(error), retry_in_s=round(delay_s, 2))

        async for attempt in forever(backoff, FeedUnavailable, on_retry=on_retry):
            with attempt:
                try:
                    await self._check_all(streams())
                    self._counts.head_checks["done"] += 1
                except FeedRefused as error:
                    if error.status in _LACKING:
                        raise
                    raise FeedUnavailable(str(error)) from error

    async def _check_all(self, streams: Iterable[Stream]) -> None:
        found: dict[StreamKey, Contiguous] = {}
        for stream in streams:
            if sequencer := self._sequencers.contiguous(stream):
                found[StreamKey(stream.message_type, stream.symbol or "")] = sequencer
        if not found:
            return
        asked = now_us()
        trades = await self._heads.last_trades(sorted({key.symbol for key in found}))
        await asyncio.sleep(SETTLE_S)
        alone: dict[StreamKey, Head] = {}
        for key, sequencer in found.items():
            head = trades.get(key.symbol)
            if head is None:
                continue  # the exchange does not list the symbol
            if key.message_type == "trade" and head.last_id >= 0:
                self._compare(key, sequencer, head)
            else:
                alone[key] = head
        for key, trades_head in alone.items():
            await self._check_alone(key, found[key], asked, trades_head)

    async def _check_alone(
        self, key: StreamKey, sequencer: Contiguous, asked: int, trades: Head
    ) -> None:
        """Check a stream whose last id `trades`, the head of its symbol's trades, does not tell.

        Nothing needs to be asked if the symbol has not traded since the last check, or if an event
        has come since `asked`: it shows what was missing before it. What REST reports of one stream
        may be older than what it reports of all.
        """
        last_trade, head = trades.last_id, sequencer.head
        if self._complete_at.get(key) == last_trade:
            if head and sequencer.newest_id in {None, head.last_id}:
                sequencer.reach(_as_of(trades, head))
            return
        if sequencer.last_received is not None and sequencer.last_received >= asked:
            # The event proves nothing of the time after it.
            sequencer.reach(trades._replace(timestamp=None, last_id=sequencer.newest_id or 0))
            return
        try:
            head = await self._heads.last_of(key.message_type, key.symbol)
        except FeedRefused as error:
            log.info("head_unknown", symbol=key.symbol, error=str(error))
            return
        if head.last_trade_id < last_trade or sequencer.is_outdated(head):
            return
        if sequencer.expected is None and _is_later(head, trades):
            # A stream that continues after this id at the earlier time of `trades` would take older
            # events that are still under way for a restart of the ids. The next check has both.
            return
        self._compare(key, sequencer, _as_of(trades, head))
        self._complete_at[key] = last_trade

    def _compare(self, key: StreamKey, sequencer: Contiguous, head: Head) -> None:
        is_new = sequencer.expected is None
        sequencer.reach(head)
        if is_new:
            self._resume([unpublished(key, head.last_id, time_of(head))])
        elif sequencer.hole:
            if not sequencer.held:
                log.info(
                    "head_ahead",
                    symbol=key.symbol,
                    message_type=key.message_type,
                    last_id=head.last_id,
                    passed_id=sequencer.last_id,
                )
            self._notice(key.symbol, sequencer)


def _is_later(head: Head, trades: Head) -> bool:
    """Return whether the last event of a stream came after the report `trades`. A symbol without a
    last trade there has not traded for a day, or has traded since.
    """
    has_traded = trades.last_id >= 0 or time_of(head) > time_of(trades)
    return head.last_trade_id > trades.last_id and has_traded


def _as_of(trades: Head, head: Head) -> Head:
    """Return the head of a stream with the time of the report `trades`, which it covers. The time
    of a single event may be wrong.
    """
    timestamp = head.timestamp if trades.timestamp is None else trades.timestamp
    return head._replace(timestamp=timestamp, received=max(trades.received, head.received))
