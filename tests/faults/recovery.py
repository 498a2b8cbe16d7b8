"""Measures the time until trades were current again, as a reader outside of the bridge sees it.

A reader is current for a symbol when it has seen a trade made since the end of the fault, and every
trade that it has not seen yet is less than a second old. For Kafka, the broker's time of writing
counts; for Redis, the time of each look at the prices. Ages are by the market's own clock. A symbol
that has not traded since the fault tells nothing, and is left out.

The end of a fault:
- a cut: the cut itself, or the return of REST if no request can be answered meanwhile
- a stall that passes: the end of the stall
- a stall that lasts until the connection is replaced: the start of the stall
- a server that is away: its first answer
- a bridge that is killed or stopped: its exit
"""

import math
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from bridge.tools.simulator import (
    AnnounceShutdown,
    CloseWith,
    Cut,
    Incident,
    RefuseRequest,
    StallConnection,
    StallStream,
)
from tests.faults.bridges import PATIENCE_S
from tests.faults.environment import FRESH_S, Environment
from tests.faults.reading import Read
from tests.faults.watch import Look

# A stall of this many seconds does not end by itself.
LASTING_S = 600.0
# How often `recovered_in_redis` looks.
LOOK_S = 0.5


class Seen(NamedTuple):
    """The time `made_ms` of the newest trade that a reader had seen at `at_ms`.

    Both are in milliseconds of the market.
    """

    at_ms: float
    made_ms: float


def fault_ends_s(environment: Environment) -> list[float]:
    """Return the ends of all faults, by our clock: of the exchange, the actions and rotation."""
    happened = environment.exchange.happened
    rest_back_s = _rest_back_s(happened)
    ends_s = [_end_s(incident, rest_back_s) for incident in happened]
    by_exchange = [environment.wall_s(end_s) for end_s in ends_s if end_s is not None]
    return sorted((*by_exchange, *environment.ends_s, *_rotations_s(environment)))


def recoveries_s(
    environment: Environment, seen: Mapping[str, Sequence[Seen]], until_ms: float
) -> list[float]:
    """Return the recovery times of all faults, as `recovery_s` does for one."""
    made_ms = environment.made_ms()
    all_s = [
        recovery_s(made_ms, seen, environment.market_ms(end_s), until_ms)
        for end_s in fault_ends_s(environment)
    ]
    return [seconds for seconds in all_s if seconds is not None]


async def recovered_in_redis(environment: Environment) -> None:
    """Wait until a reader of the prices has been current after each fault, at most PATIENCE_S.

    Kafka does not show this: the bridge may still be reconnecting to Redis.
    """
    until_s = time.time() + PATIENCE_S
    while (now_s := time.time()) < until_s:
        seen = seen_in_redis(environment, environment.watch.looks)
        if math.inf not in recoveries_s(environment, seen, environment.market_ms(now_s)):
            return
        await environment.rest(LOOK_S)


def seen_in_kafka(
    environment: Environment, trades: Mapping[str, Sequence[Read]]
) -> dict[str, list[Seen]]:
    """Return the newest trades that a reader of the topic has seen over time, by symbol."""
    return {
        symbol: [
            Seen(environment.market_ms(read.written_ms / 1000), (read.row.timestamp or 0) / 1000)
            for read in found
            if not environment.is_ahead((read.row.timestamp or 0) / 1000)
        ]
        for symbol, found in trades.items()
    }


def seen_in_redis(environment: Environment, looks: Iterable[Look]) -> dict[str, list[Seen]]:
    """Return the newest trades that a reader of the prices has seen over time, by symbol."""
    seen: dict[str, list[Seen]] = {}
    for look in looks:
        for symbol, time_us in look.price_times_us.items():
            seen.setdefault(symbol, []).append(
                Seen(environment.market_ms(look.at_s), time_us / 1000)
            )
    return seen


def recovery_s(
    made_ms: Mapping[str, Sequence[int]],
    seen: Mapping[str, Sequence[Seen]],
    end_ms: float,
    until_ms: float,
) -> float | None:
    """Return the seconds from a fault's end until a reader was current for every symbol.

    `made_ms` has the times at which the trades of each symbol were made, rising. The result is
    infinite if the reader was not current again by `until_ms`, and None if no symbol has traded
    since the fault.
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


def _rest_back_s(happened: Iterable[Incident]) -> float:
    """Return when REST answered again after it had refused all requests; 0 if it never did."""
    refusals = (i.fault for i in happened if isinstance(i.fault, RefuseRequest))
    return max((fault.until_s for fault in refusals if fault.share == 1.0), default=0.0)


def _end_s(incident: Incident, rest_back_s: float) -> float | None:
    match incident.fault:
        case Cut():
            return max(incident.at_s, rest_back_s)
        case CloseWith():
            return incident.at_s
        case AnnounceShutdown(lead_s=lead_s):
            return incident.at_s + lead_s
        case StallStream() if "rade" not in incident.subject:
            return None  # trades do not show a stall of quotes
        case StallConnection(for_s=for_s) | StallStream(for_s=for_s):
            return incident.at_s + (0.0 if for_s >= LASTING_S else for_s)
        case _:
            return None


def _rotations_s(environment: Environment) -> list[float]:
    """Return the times of replacements by age, which are in the bridge's log only."""
    return [
        datetime.fromisoformat(line["timestamp"]).timestamp()
        for life in environment.bridges.lives
        for line in life.log
        if line["event"] == "connection_replacing" and line["cause"] == "rotation"
    ]
