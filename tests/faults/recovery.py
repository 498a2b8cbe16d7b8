"""How long it took until the newest was flowing again, as who reads from outside sees it.

Kafka: from the end of a fault until of every symbol a trade made since then has been written to
its partition less than a second after it was made; by the broker's time of writing. Redis: until
the price of every symbol is less than a second old. Ages are by the market's own clock.

The end: of a cut, the cut; of a stall that passes, its end; of a silence that lasts until the
connection is replaced, its beginning; of a server's absence, its first answer; of a bridge's death,
the death.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from bridge.simulator import AnnounceShutdown, CloseWith, Cut, Incident, StallLeg, StallStream
from tests.faults.reading import Read
from tests.faults.stage import FRESH_S, Stage
from tests.faults.watch import Look

# A stall of so many seconds does not end by itself.
LASTING_S = 600.0


def fault_ends_s(stage: Stage) -> list[float]:
    """When each fault was over, by our clock: of the exchange, of the ordeal, of rotation."""
    happened = [_end_s(incident) for incident in stage.exchange.happened]
    by_exchange = [stage.wall_s(end_s) for end_s in happened if end_s is not None]
    return sorted((*by_exchange, *stage.ends_s, *_rotations_s(stage)))


def in_kafka_s(stage: Stage, trades: Mapping[str, Sequence[Read]], end_s: float) -> float | None:
    """Seconds from a fault's end until Kafka had the newest of every symbol; None: never."""
    end_us = stage.market_ms(end_s) * 1000
    moments = [_first_fresh_s(stage, found, end_us) for found in trades.values()]
    known = [moment for moment in moments if moment is not None]
    return max(known) - end_s if len(known) == len(moments) and known else None


def in_redis_s(looks: Iterable[Look], end_s: float) -> float | None:
    """The same for the prices of Redis, as often as they are looked at."""
    return next(
        (
            look.at_s - end_s
            for look in looks
            if look.at_s >= end_s and look.lag_s is not None and look.lag_s < FRESH_S
        ),
        None,
    )


def _first_fresh_s(stage: Stage, trades: Sequence[Read], end_us: float) -> float | None:
    """When the first trade made after `end_us` was written that was fresh then."""
    for read in trades:
        made_us = read.row.timestamp or 0
        if made_us >= end_us and stage.is_fresh(read.written_ms, made_us):
            return read.written_ms / 1000
    return None


def _end_s(incident: Incident) -> float | None:
    match incident.fault:
        case Cut() | CloseWith():
            return incident.at_s
        case AnnounceShutdown(lead_s=lead_s):
            return incident.at_s + lead_s
        case StallStream() if "rade" not in incident.subject:
            return None  # of quotes: trades do not show it
        case StallLeg(for_s=for_s) | StallStream(for_s=for_s):
            return incident.at_s + (0.0 if for_s >= LASTING_S else for_s)
        case _:
            return None


def _rotations_s(stage: Stage) -> list[float]:
    """When a connection was replaced by its age: nobody but the bridge knows."""
    return [
        datetime.fromisoformat(line["timestamp"]).timestamp()
        for life in stage.lives
        for line in life.log
        if line["event"] == "leg_replacing" and line["cause"] == "rotation"
    ]
