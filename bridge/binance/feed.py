"""The whole feed: the streams the settings ask for, spread over legs."""

import asyncio
from collections.abc import Sequence

import structlog

from bridge import settings
from bridge.binance.gate import Gate
from bridge.binance.leg import Leg, Pump, State
from bridge.binance.rest import Rest
from bridge.core.streams import Stream
from bridge.core.subscription import Subscription, connections, is_pattern, subscribe
from bridge.errors import FeedUnavailable, Problem, SettingsError
from bridge.retry import Backoff, forever

log = structlog.get_logger(__name__)


async def find_streams(options: settings.Binance, rest: Rest) -> Subscription:
    """Work out the streams, asking the exchange which symbols it lists.

    Where it cannot be asked, named symbols are taken as they are; patterns need the answer, and
    wait for it. Raises SettingsError if nothing is left to subscribe to, FeedRefused if the
    exchange refuses us.
    """
    listed = await _listed(options, rest)
    found = subscribe(options.symbols, options.streams, options.extra_streams, listed)
    for sentence in found.refused:
        log.error("not_subscribed", error=sentence)
    if not found.streams:
        raise SettingsError(
            Problem("binance.symbols", None, sentence, "name symbols the exchange lists")
            for sentence in found.refused
        )
    return found


class Feed:
    """All legs."""

    def __init__(
        self, options: settings.Binance, streams: Sequence[Stream], pump: Pump, gate: Gate
    ) -> None:
        self.legs = [
            Leg(f"leg-{number}", part, options, pump, gate)
            for number, part in enumerate(connections(streams, options.streams_per_connection), 1)
        ]

    @property
    def ready(self) -> bool:
        """Every leg is open, and something has come over each."""
        return all(
            leg.state is State.OPEN and len(leg.silent()) < len(leg.streams) for leg in self.legs
        )

    def silent(self) -> list[str]:
        """The streams that have never sent anything."""
        return [name for leg in self.legs for name in leg.silent()]

    async def run(self) -> None:
        """Keep every leg connected, for ever."""
        async with asyncio.TaskGroup() as group:
            for leg in self.legs:
                group.create_task(leg.run(), name=leg.name)


async def _listed(options: settings.Binance, rest: Rest) -> dict[str, str] | None:
    """The exchange's symbols; None where it cannot be asked and no pattern needs it."""
    wait_for_it = any(map(is_pattern, options.symbols))
    backoff = Backoff(options.reconnect_max_delay_s)
    async for attempt in forever(backoff, FeedUnavailable, on_retry=_on_retry):
        with attempt:
            try:
                return await rest.symbols()
            except FeedUnavailable as error:
                # Asked for quiet, the legs would have to wait as well.
                if wait_for_it or error.cause == "quiet":
                    raise
                log.warning("symbols_unchecked", error=str(error))
                return None
    raise AssertionError("forever has no end")


def _on_retry(error: Exception, delay_s: float) -> None:
    log.warning("symbols_unknown", error=str(error), retry_in_s=round(delay_s, 2))
