"""What came of a scenario, held against what the exchange has really played."""

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from bridge.simulator import PlayedTrade
from tests.faults.reading import GapRow, Ids, Read
from tests.faults.result import Tally
from tests.faults.stage import Samples

_SINKS = ("kafka", "redis")


def judge_trades(
    kind: str,
    events: Mapping[str, Sequence[Read]],
    played: Mapping[str, Sequence[PlayedTrade]],
    wanted: Ids,
) -> Tally:
    """Every id from the first one on to the last one wanted, once, in order, as it was played."""
    tally = Tally()
    for symbol, trades in played.items():
        found = events.get(symbol, ())
        _count(tally, found)
        ids = {read.id for read in found}
        first = found[0].id if found else wanted[kind, symbol][0]
        last = max(wanted[kind, symbol][1], max(ids, default=0))
        tally.lost += last - first + 1 - len(ids)
        truth = {trade.id: trade for trade in trades}
        tally.wrong += sum(not _is_played(read, truth.get(read.id)) for read in found)
    return tally


def judge_quotes(
    events: Mapping[str, Sequence[Read]],
    played: Mapping[str, "array[int]"],
    gaps: Sequence[GapRow],
) -> Tally:
    """Quotes once and in order; those that are not there lie inside an announced interruption."""
    tally = Tally()
    announced: defaultdict[str, list[GapRow]] = defaultdict(list)
    for gap in gaps:
        if gap.kind == "quote":
            announced[gap.symbol].append(gap)
    for symbol, ids in played.items():
        found = events.get(symbol, ())
        _count(tally, found)
        for before, after in pairwise(found):
            missing = bisect_left(ids, after.id) - bisect_right(ids, before.id)
            if missing > 0 and not _is_announced(announced[symbol], before, after):
                tally.lost += missing
                tally.remarks.append(
                    f"{symbol}: {missing} quotes between {before.id} and {after.id}, "
                    f"{before.row.received} and {after.row.received}, unannounced"
                )
    return tally


def unbalanced(samples: Samples) -> list[str]:
    """Where received is not published + dropped + pending."""
    sums: Counter[tuple[str, str]] = Counter()
    received: Counter[str] = Counter()
    for (name, labels), value in samples.items():
        given = dict(labels)
        if name == "tickbridge_received_total":
            received[given["message_type"]] += round(value)
        elif name in {
            "tickbridge_published_total",
            "tickbridge_dropped_total",
            "tickbridge_pending",
        }:
            sums[given["sink"], given["message_type"]] += round(value)
    return [
        f"{sink} {kind}: received {count}, accounted for {sums[sink, kind]}"
        for kind, count in received.items()
        for sink in _SINKS
        if sums[sink, kind] != count
    ]


def dropped(samples: Samples) -> dict[tuple[str, str], int]:
    """What was dropped, by sink and cause."""
    found: Counter[tuple[str, str]] = Counter()
    for (name, labels), value in samples.items():
        if name == "tickbridge_dropped_total" and value:
            given = dict(labels)
            found[given["sink"], given["cause"]] += round(value)
    return found


def _count(tally: Tally, found: Sequence[Read]) -> None:
    tally.events += len(found)
    tally.repeated += len(found) - len({read.id for read in found})
    tally.disordered += sum(after.id < before.id for before, after in pairwise(found))


def _is_played(read: Read, trade: PlayedTrade | None) -> bool:
    row = read.row
    return trade is not None and (row.price, row.volume, row.timestamp, row.side) == (
        trade.price,
        trade.quantity,
        trade.time_ms * 1000,
        "sell" if trade.buyer_is_maker else "buy",
    )


def _is_announced(gaps: Iterable[GapRow], before: Read, after: Read) -> bool:
    return any(
        gap.from_time <= before.row.received and after.row.received <= gap.to_time for gap in gaps
    )
