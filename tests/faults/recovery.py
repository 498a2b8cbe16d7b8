"""Measures how long it took until trades were current again, as a reader from outside sees it.

A reader is current for a symbol when it has seen a trade made since the fault's end, and every
trade it has not seen yet is less than a second old. Kafka: by the broker's own time of writing.
Redis: as often as the prices are looked at. Ages are by the market's own clock. A symbol that has
not traded since then tells nothing, and is left out.

The end of a cut is the cut; of a stall that passes, its end; of a silence that lasts until the
connection is replaced, its beginning; of a server's absence, its first answer; of a bridge's death,
the death.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from bridge.tools.simulator import (
    AnnounceShutdown,
    CloseWith,
    Cut,
    Incident,
    StallConnection,
    StallStream,
)
from tests.faults.environment import FRESH_S, Environment
from tests.faults.reading import Read
from tests.faults.watch import Look

# A stall of so many seconds does not end by itself.
LASTING_S = 600.0


class Seen(NamedTuple):
    """The newest trade that a reader had seen at `at_ms`: when it was made, in milliseconds of the
    market.
    """

    at_ms: float
    made_ms: float


def fault_ends_s(stage: Environment) -> list[float]:
    """Return when each fault was over, by our clock: of the exchange, the actions and rotation."""
    happened = [_end_s(incident) for incident in stage.exchange.happened]
    by_exchange = [stage.wall_s(end_s) for end_s in happened if end_s is not None]
    return sorted((*by_exchange, *stage.ends_s, *_rotations_s(stage)))


def seen_in_kafka(
    stage: Environment, trades: Mapping[str, Sequence[Read]]
) -> dict[str, list[Seen]]:
    """Return what a reader of the topic sees of each symbol."""
    return {
        symbol: [
            Seen(stage.market_ms(read.written_ms / 1000), (read.row.timestamp or 0) / 1000)
            for read in found
        ]
        for symbol, found in trades.items()
    }


def seen_in_redis(stage: Environment, looks: Iterable[Look]) -> dict[str, list[Seen]]:
    """Return what a reader of the latest prices sees of each symbol."""
    seen: dict[str, list[Seen]] = {}
    for look in looks:
        for symbol, time_us in look.price_times_us.items():
            seen.setdefault(symbol, []).append(Seen(stage.market_ms(look.at_s), time_us / 1000))
    return seen


def recovery_s(
    made_ms: Mapping[str, Sequence[int]],
    seen: Mapping[str, Sequence[Seen]],
    end_ms: float,
    until_ms: float,
) -> float | None:
    """Return the seconds from a fault's end until a reader was current for every symbol.

    `made_ms` has the times at which the trades of each symbol were made, rising. Infinite if the
    reader was never current again until `until_ms`, None if no symbol tells.
    """
    moments = [
        _current_ms(times, seen.get(symbol, ()), end_ms)
        for symbol, times in made_ms.items()
        if _has_traded(times, end_ms, until_ms - FRESH_S * 1000)
    ]
    return max(0.0, max(moments) - end_ms) / 1000 if moments else None


def _has_traded(times: Sequence[int], begin_ms: float, end_ms: float) -> bool:
    return bisect_left(times, begin_ms) < bisect_right(times, end_ms)


def _current_ms(times: Sequence[int], seen: Iterable[Seen], end_ms: float) -> float:
    for at_ms, made_ms in seen:
        if made_ms >= end_ms:
            unseen = bisect_right(times, made_ms)
            if unseen == len(times) or at_ms - times[unseen] < FRESH_S * 1000:
                return at_ms
    return math.inf


def _end_s(incident: Incident) -> float | None:
    match incident.fault:
        case Cut() | CloseWith():
            return incident.at_s
        case AnnounceShutdown(lead_s=lead_s):
            return incident.at_s + lead_s
        case StallStream() if "rade" not in incident.subject:
            return None  # of quotes: trades do not show it
        case StallConnection(for_s=for_s) | StallStream(for_s=for_s):
            return incident.at_s + (0.0 if for_s >= LASTING_S else for_s)
        case _:
            return None


def _rotations_s(stage: Environment) -> list[float]:
    """When a connection was replaced by its age: nobody but the bridge knows."""
    return [
        datetime.fromisoformat(line["timestamp"]).timestamp()
        for life in stage.lives
        for line in life.log
        if line["event"] == "connection_replacing" and line["cause"] == "rotation"
    ]
