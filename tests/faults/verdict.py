"""The verdict on a scenario: its events compared with what the exchange has really played."""

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

from bridge.tools.simulator import PlayedTrade
from tests.faults.bridges import Samples
from tests.faults.reading import GapRow, Read
from tests.faults.result import Tally
from tests.faults.scenario import Scenario
from tests.support.played import Ids

# The cause of events that a sink drops because memory and disk are full.
OUTBOX_FULL = "outbox_full"
# The cause of ids that REST does not have in time; they are fetched later.
REPAIR_PATIENCE = "repair_timeout"
# The cause of the gap event that announces a restart of the ids.
RESTARTED = "ids_restarted"
SECOND_US = 1_000_000
_SINKS = ("kafka", "redis")


def judge_trades(
    kind: str,
    events: Mapping[str, Sequence[Read]],
    played: Mapping[str, Sequence[PlayedTrade]],
    wanted: Ids,
    gaps: Iterable[GapRow] = (),
) -> Tally:
    """Check that every id from the first to the last wanted one is there once, in order, as played.

    Ids that gap events announce may come late, or not at all if their last state is `lost`.
    """
    tally = Tally()
    states = _states(kind, gaps)
    for symbol, trades in played.items():
        found, said = events.get(symbol, ()), states[symbol]
        _count(tally, [read for read in found if read.id not in said])
        late = [read.id for read in found if read.id in said]
        tally.events += len(late)
        tally.repeated += len(late) - len(set(late))
        ids = {read.id for read in found}
        first = found[0].id if found else wanted[kind, symbol][0]
        last = max(wanted[kind, symbol][1], max(ids, default=0))
        gone = {number for number in said.keys() - ids if said[number] == "lost"}
        missing = [n for n in range(first, last + 1) if n not in ids and n not in gone]
        if missing:
            tally.lost += len(missing)
            tally.remarks.append(f"{symbol}: {len(missing)} from {missing[0]} to {missing[-1]}")
        truth = {trade.id: trade for trade in trades}
        tally.wrong += sum(not _is_played(read, truth.get(read.id)) for read in found)
    return tally


def oldest_s(
    kind: str,
    events: Mapping[str, Sequence[Read]],
    gaps: Iterable[GapRow],
    market_ms: Callable[[float], float],
) -> float:
    """Return how old the oldest trade was, in seconds, when it was written.

    Trades that a gap event has announced are left out. `market_ms` is that of the environment.
    """
    states = _states(kind, gaps)
    return max(
        (market_ms(read.written_ms / 1000) - (read.row.timestamp or 0) / 1000) / 1000
        for symbol, found in events.items()
        for read in found
        if read.id not in states[symbol]
    )


def judge_quotes(
    events: Mapping[str, Sequence[Read]],
    played: Mapping[str, "array[int]"],
    gaps: Sequence[GapRow],
) -> Tally:
    """Check that quotes are there once and in order, and that gaps announce the missing ones."""
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


def judge_candles(events: Mapping[str, Sequence[Read]], gaps: Iterable[GapRow]) -> Tally:
    """Check that the candle of each second is there once, in order, unless a gap says `lost`."""
    tally = Tally()
    lost = [gap for gap in gaps if gap.kind == "candle" and gap.state == "lost"]
    for symbol, found in events.items():
        _count(tally, found)
        for before, after in pairwise(found):
            missing = range(before.id + SECOND_US, after.id, SECOND_US)
            said = [gap for gap in lost if gap.symbol == symbol and _lies_in(gap, before, after)]
            if missing and not said:
                tally.lost += len(missing)
                tally.remarks.append(f"{symbol}: {len(missing)} candles after {before.id}")
    return tally


def unbalanced(samples: Samples) -> list[str]:
    """Return the accounts in which received + restored is not published + dropped + pending."""
    sums: Counter[tuple[str, str]] = Counter()
    restored: Counter[tuple[str, str]] = Counter()
    received: Counter[str] = Counter()
    for (name, labels), value in samples.items():
        given = dict(labels)
        if name == "tickbridge_events_received_total":
            received[given["message_type"]] += round(value)
        elif name == "tickbridge_events_restored_total":
            restored[given["sink"], given["message_type"]] += round(value)
        elif name in {
            "tickbridge_events_published_total",
            "tickbridge_events_dropped_total",
            "tickbridge_events_pending",
        }:
            sums[given["sink"], given["message_type"]] += round(value)
    return [
        f"{sink} {kind}: received {received[kind]}, restored {restored[sink, kind]}, "
        f"accounted for {sums[sink, kind]}"
        for kind in sorted({*received, *(kind for _, kind in restored)})
        for sink in _SINKS
        if sums[sink, kind] != received[kind] + restored[sink, kind]
    ]


def dropped(samples: Samples) -> dict[tuple[str, str], int]:
    """Return the number of dropped events, by sink and cause."""
    found: Counter[tuple[str, str]] = Counter()
    for (name, labels), value in samples.items():
        if name == "tickbridge_events_dropped_total" and value:
            given = dict(labels)
            found[given["sink"], given["cause"]] += round(value)
    return found


def may_be_seen(scenario: Scenario, gap: GapRow) -> bool:
    """Return whether the scenario allows a gap event."""
    if gap.cause == RESTARTED:
        return True  # `restarted` says whether there was one
    if gap.cause == OUTBOX_FULL:
        return scenario.overflows
    if gap.kind == "candle":
        # Filled: an interruption after which nothing is missing. Candles are not fetched late.
        return gap.state == "filled" or scenario.repairs_late
    if gap.kind == "quote":
        return scenario.interrupts
    return scenario.repairs_late and gap.cause == REPAIR_PATIENCE and gap.state != "lost"


def restarted(gaps: Iterable[GapRow]) -> set[tuple[str, str]]:
    """Return the kind and the symbol of the streams whose ids have started again."""
    return {(gap.kind, gap.symbol) for gap in gaps if gap.cause == RESTARTED}


def _lies_in(gap: GapRow, before: Read, after: Read) -> bool:
    """Return whether a gap is about the time between two candles."""
    return before.id <= gap.from_time and gap.to_time <= after.id + 2 * SECOND_US


def left_open(gaps: Iterable[GapRow]) -> list[str]:
    """Return the streams whose last gap state is open for some ids, and how many."""
    streams: defaultdict[tuple[str, str], list[GapRow]] = defaultdict(list)
    for gap in gaps:
        streams[gap.kind, gap.symbol].append(gap)
    counts = {
        (kind, symbol): sum(state == "open" for state in _states(kind, of_stream)[symbol].values())
        for (kind, symbol), of_stream in streams.items()
    }
    return [f"{kind} {symbol}: {count} ids" for (kind, symbol), count in counts.items() if count]


def _states(kind: str, gaps: Iterable[GapRow]) -> defaultdict[str, dict[int, str]]:
    """Return the last state of each id that was announced as missing, by symbol."""
    states: defaultdict[str, dict[int, str]] = defaultdict(dict)
    for gap in gaps:
        if gap.kind == kind:
            states[gap.symbol].update(dict.fromkeys(gap.ids, gap.state))
    return states


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


def _is_announced(gaps: Sequence[GapRow], before: Read, after: Read) -> bool:
    """Return whether a gap event explains the quotes that are missing between two quotes.

    An interruption reaches from the quote before it to the quote after it. A gap of dropped quotes
    reaches from the first dropped quote to the last, in whole milliseconds; other quotes may be
    published in between.
    """
    begin, end = before.row.received, after.row.received
    given_up = (gap for gap in gaps if gap.cause == OUTBOX_FULL)
    return any(gap.from_time <= begin and end <= gap.to_time for gap in gaps) or any(
        begin // 1000 * 1000 <= gap.to_time and gap.from_time <= end for gap in given_up
    )
