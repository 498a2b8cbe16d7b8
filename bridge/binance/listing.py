"""The symbols that the exchange lists, asked for again and again, and the streams that follow."""

import asyncio
from collections.abc import Mapping

import structlog

from bridge import settings
from bridge.binance.rest import Rest
from bridge.core.binance.subscription import NAMED_MAX, Subscription, subscribe, updated
from bridge.errors import FeedRefused, FeedUnavailable, Problem, SettingsError
from bridge.retry import Backoff, forever

# How often the exchange is asked again: a new symbol is subscribed to within this time.
INTERVAL_S = 60.0
# The same, as long as the exchange has never answered. Then come growing intervals.
FIRST_INTERVAL_S = 1.0

log = structlog.get_logger(__name__)


class Listing:
    """The symbols that the exchange lists. Before its first answer they are unknown."""

    def __init__(self, rest: Rest, max_delay_s: float) -> None:
        self._rest = rest
        self._backoff = Backoff(max_delay_s)
        self._listed: Mapping[str, bool] | None = None
        self._statuses: Mapping[str, str] = {}
        # What was logged, and still holds.
        self._said: set[str] = set()

    @property
    def has_answer(self) -> bool:
        """Return whether the exchange has answered since the start."""
        return self._listed is not None

    async def find(self, options: settings.Binance) -> Subscription:
        """Ask the exchange once, and return the streams of these settings.

        If it does not answer, the last answer counts. Before the first answer, named symbols are
        not checked, and patterns wait. Raises SettingsError if the exchange lists no symbol of the
        settings, FeedRefused if it refuses us.
        """
        try:
            async with asyncio.timeout(options.connect_timeout_s):
                await self._ask()
        except TimeoutError:
            self._not_checked(f"no answer within {options.connect_timeout_s:g} s")
        except FeedUnavailable as error:
            self._not_checked(str(error))
        found = self.streams_of(options)
        if not found.streams and not found.waiting:
            raise SettingsError(
                Problem("binance.symbols", None, sentence, "name symbols the exchange lists")
                for sentence in found.refused
            )
        return found

    async def next(self) -> None:
        """Wait until the exchange lists something else than before. It is asked every INTERVAL_S,
        and at growing intervals as long as it does not answer.
        """
        before = self._listed
        while self._listed == before:
            await asyncio.sleep(FIRST_INTERVAL_S if self._listed is None else INTERVAL_S)
            async for attempt in forever(
                self._backoff, FeedUnavailable, FeedRefused, on_retry=self._on_retry
            ):
                with attempt:
                    await self._ask()
            self._backoff.worked()

    def streams_of(self, options: settings.Binance) -> Subscription:
        """Return the streams of these settings, by the last answer. Log what is missing."""
        found = subscribe(options.symbols, options.streams, options.extra_streams, self._listed)
        for sentence in found.refused:
            if sentence not in self._said:
                log.error("not_subscribed", error=sentence)
        for sentence in found.waiting:
            if sentence not in self._said:
                log.warning("symbols_waiting", reason=sentence)
        self._said = {*found.refused, *found.waiting}
        return found

    async def _ask(self) -> None:
        statuses = await self._rest.symbols()
        if self._listed is not None:
            _log_changes(self._statuses, statuses)
        self._listed = updated(self._listed, statuses)
        self._statuses = statuses

    def _not_checked(self, error: str) -> None:
        log.warning("symbols_not_checked", error=error)

    def _on_retry(self, error: Exception, delay_s: float) -> None:
        if self._backoff.should_log(error):
            log.warning("symbols_unavailable", error=str(error), retry_in_s=round(delay_s, 2))


async def find_streams(options: settings.Binance, rest: Rest) -> Subscription:
    """Return the streams of the settings, and wait until there is one.

    Raises what `Listing.find` raises.
    """
    listing = Listing(rest, options.reconnect_max_delay_s)
    found = await listing.find(options)
    while not found.streams:
        await listing.next()
        found = listing.streams_of(options)
    return found


def _log_changes(before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Log the symbols whose status has changed: it explains streams that are silent."""
    changes = [
        f"{symbol} {before.get(symbol, 'not listed')} -> {after.get(symbol, 'not listed')}"
        for symbol in before.keys() | after.keys()
        if before.get(symbol) != after.get(symbol)
    ]
    if changes:
        log.info("symbols_changed", count=len(changes), changes=sorted(changes)[:NAMED_MAX])
