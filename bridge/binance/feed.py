"""The whole feed: the streams the settings ask for, spread over legs."""

import asyncio
from collections.abc import Iterable, Sequence
from functools import reduce

import structlog

from bridge import settings
from bridge.binance.connection import Pump
from bridge.binance.connector import Leg, State, later
from bridge.binance.coverage import LABELS, Cover, Place
from bridge.binance.rate_limit import Gate
from bridge.binance.rest import Rest
from bridge.core.binance.subscription import (
    Subscription,
    connections,
    connections_again,
    is_pattern,
    subscribe,
)
from bridge.core.model.stream import Stream
from bridge.core.sequencing.arrivals import Arrivals
from bridge.errors import FeedUnavailable, Problem, SettingsError
from bridge.retry import Backoff, forever

# What befalls young connections at the exchange does not befall both legs at once.
SECOND_LEG_AFTER_S = 5.0

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
    """All legs: each part of the streams has one, or two with the labels `a` and `b`."""

    def __init__(
        self, options: settings.Binance, streams: Sequence[Stream], pump: Pump, gate: Gate
    ) -> None:
        self._options = options
        self._pump = pump
        self._gate = gate
        self._labels = LABELS[: options.legs]
        # What legs have brought that have ended.
        self._past = {label: Arrivals() for label in LABELS}
        self._tasks: dict[Leg, asyncio.Task[None]] = {}
        covers = [
            Cover(part, pump, self._labels)
            for part in connections(streams, options.streams_per_connection)
        ]
        self.parts = [
            [Leg(Place(part, len(covers), label), cover, options, gate) for label in self._labels]
            for part, cover in enumerate(covers)
        ]

    @property
    def legs(self) -> list[Leg]:
        """The legs of all parts."""
        return [leg for legs in self.parts for leg in legs]

    @property
    def ready(self) -> bool:
        """Of each part one leg at least is open, and something has come over it."""
        return not self.unready()

    def unready(self) -> list[Leg]:
        """The legs of the parts that none of them brings."""
        return [leg for legs in self.parts if not any(map(_is_flowing, legs)) for leg in legs]

    def arrivals(self, label: str) -> Arrivals:
        """What all legs with a label have brought, together, those among them that have ended."""
        legs = {*self.legs, *self._tasks}
        total = Arrivals()
        for arrivals in (
            self._past[label],
            *(leg.arrivals for leg in legs if leg.label == label),
        ):
            total.add(arrivals)
        return total

    def last_received(self) -> dict[str, int]:
        """Of each stream that has ever been heard, when last, in microseconds since the epoch."""
        return reduce(later, (leg.last_received() for leg in self.legs), {})

    def silent(self) -> list[str]:
        """The streams that have never sent anything."""
        heard = self.last_received()
        return [s.name for legs in self.parts for s in legs[0].streams if s.name not in heard]

    async def run(self) -> None:
        """Keep every leg connected, for ever."""
        async with asyncio.TaskGroup() as self._group:
            for leg in self.legs:
                self._start(leg)

    async def change(self, streams: Sequence[Stream]) -> None:
        """Have these streams from now on, while it runs: each stays on the legs it is on, and legs
        whose streams have changed replace their connections. Returns when those without any are
        closed.
        """
        held = [legs[0].cover.held() for legs in self.parts]
        spread = connections_again(held, streams, self._options.streams_per_connection)
        for legs, part in zip(self.parts, spread, strict=False):
            legs[0].cover.change(part)
        for part in spread[len(held) :]:
            self._add(part)
        ended = [leg for leg in self.legs if not leg.streams]
        self.parts = [legs for legs in self.parts if legs[0].streams]
        if ended:
            await self._end(ended)

    def _start(self, leg: Leg) -> None:
        self._tasks[leg] = self._group.create_task(_run(leg), name=leg.name)

    def _add(self, part: list[Stream]) -> None:
        """Legs for a further part, in the first place that is free."""
        taken = {legs[0].place.part for legs in self.parts}
        number = min(set(range(len(self.parts) + 1)) - taken)
        cover = Cover(part, self._pump, self._labels)
        legs = [
            Leg(
                Place(number, len(self.parts) + 1, label),
                cover,
                self._options,
                self._gate,
                has_accepted=True,
            )
            for label in self._labels
        ]
        self.parts.append(legs)
        for leg in legs:
            self._start(leg)

    async def _end(self, legs: Iterable[Leg]) -> None:
        """Until then what they bring still counts."""
        tasks = {leg: self._tasks[leg] for leg in legs}
        for task in tasks.values():
            task.cancel()
        await asyncio.wait(tasks.values())
        for leg in tasks:
            del self._tasks[leg]
            self._past[leg.label].add(leg.arrivals)


async def _run(leg: Leg) -> None:
    """Two legs with the same streams open at different times."""
    await asyncio.sleep(SECOND_LEG_AFTER_S * LABELS.index(leg.label))
    await leg.run()


def _is_flowing(leg: Leg) -> bool:
    return leg.state is State.OPEN and len(leg.silent()) < len(leg.streams)


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
