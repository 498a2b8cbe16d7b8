"""The checks at the end: the topics and Redis against the market's own history."""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import msgspec
from aiokafka import TopicPartition

from bridge.core.model.stream import SPOT
from bridge.core.records.latest_values import latest_key
from bridge.core.sequencing.position import Position
from bridge.sinks.kafka.owner import is_about_owners
from tests.simulation.broker import Stored
from tests.simulation.loop import BEGIN_S, is_clock_slow
from tests.simulation.market import CONTIGUOUS, FIRST_ID
from tests.simulation.observer import Observer
from tests.simulation.settings_file import SYMBOLS
from tests.simulation.statuses import status_problems
from tests.simulation.world import World

Name = tuple[str, str]
_ID_FIELDS = {**CONTIGUOUS, "block_trade": "trade_id", "quote": "update_id"}
REST_FAULTS = {
    "fail_over_rest",
    "cut_often_without_rest",
    "restart_the_bridge_while_events_are_held",
    "keep_rest_behind",
    "lack_ids",
}


def find_problems(world: World) -> Iterator[str]:
    """Yield all problems in words; none if every promise was kept."""
    gaps: defaultdict[Name, list[dict[str, Any]]] = defaultdict(list)
    for gap in _events(world, "gap"):
        gaps[gap["kind"], gap["symbol"]].append(_numbered(world, gap))
    begins: dict[Name, int] = {}
    for kind in dict.fromkeys(kind for kind, _ in world.market.history):
        published: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for event in _events(world, kind):
            published[event["symbol"]].append(event)
        for symbol in SYMBOLS:
            name = (kind, symbol)
            if kind in CONTIGUOUS:
                begins[name] = _begin(world, name, _numbers(world, name, published[symbol]))
            for problem in _CHECKS.get(kind, _contiguous)(
                world, name, published[symbol], gaps[name]
            ):
                yield f"{kind} of {symbol}: {problem}"
    begins = {name: begin for name, begin in begins.items() if name[1] != world.market.restarts}
    yield from status_problems(world, begins)
    yield from _gaps(world)
    yield from _positions(world)
    yield from _redis(world)


def _events(world: World, kind: str) -> Iterator[dict[str, Any]]:
    """Yield a topic's events, in order of each partition; check that the key is the symbol."""
    for _, log in world.broker.records(f"{SPOT}.{kind}"):
        for stored in log:
            event: dict[str, Any] = msgspec.json.decode(stored.value)
            assert stored.key.decode() == event["symbol"]
            yield event


def _number(world: World, kind: str, event: dict[str, Any]) -> int:
    """Return the id of an event in the market's history, as a number that a restart does not
    change.
    """
    if kind == "candle":
        return int(event["open_time"] // 1_000_000)
    return world.market.number(kind, event["symbol"], int(event[_ID_FIELDS[kind]]))


def _numbers(world: World, name: Name, events: list[dict[str, Any]]) -> list[int]:
    return [_number(world, name[0], event) for event in events if event.get("closed", True)]


def _ticks(world: World, name: Name) -> list[tuple[int, int]]:
    """Return the number and the time in microseconds of each tick."""
    ticks = world.market.history[name]
    return [(world.market.number(*name, tick.identity), tick.time_ms * 1000) for tick in ticks]


def _numbered(world: World, gap: dict[str, Any]) -> dict[str, Any]:
    """Return a gap event with numbers for its ids."""
    if gap["first_id"] is None:
        return gap
    first, last = (
        world.market.number(gap["kind"], gap["symbol"], gap[field])
        for field in ("first_id", "last_id")
    )
    return gap | {"first_id": first, "last_id": last}


def _contiguous(
    world: World, name: Name, events: list[dict[str, Any]], gaps: list[dict[str, Any]]
) -> Iterator[str]:
    """Check that each id is there once and in order, up to the last, unless a gap announces it."""
    ids = _numbers(world, name, events)
    named = [gap for gap in gaps if gap["first_id"] is not None]
    if len(named) < len(gaps) and not _has_restarted(world, name[1]):
        yield f"ids have not restarted: {gaps}"
    said = [(range(gap["first_id"], gap["last_id"] + 1), gap["state"]) for gap in named]
    announced = {identity for missing, _ in said for identity in missing}
    announced |= _lost_in_time(world, name, gaps) - _there_since_restart(world, name)
    unknown, late = _unknown_starts(world, name), _late(world, name)
    seen: set[int] = set()
    expected = _begin(world, name, ids)
    for identity in ids:
        missing = set(range(expected, identity)) - announced - seen
        if identity in seen and identity not in late:
            yield f"{identity} is a duplicate"
        elif identity < expected and identity not in announced | late:
            yield f"{identity} comes after {expected - 1}"
        elif missing and identity not in unknown:
            yield f"{sorted(missing)} missing before {identity}, unannounced"
        seen.add(identity)
        expected = max(expected, identity + 1)
    last = max((number for number, _ in _ticks(world, name)), default=FIRST_ID - 1)
    if expected != last + 1 and -1 not in unknown:
        yield f"ends before {expected} instead of {last + 1}"
    if not _has_restarted(world, name[1]):  # the ids of a gap may have two meanings then
        is_mended = "refuse_some_trades" in _faults(world) and len(world.lives) > 1
        yield from _wrong_states(said, seen, may_be_there=is_mended)


def _begin(world: World, name: Name, ids: list[int]) -> int:
    """Return the first id that must be there: the first that was published, or the one after the
    exchange's last id at the first check.
    """
    begins = ids[:1]
    for _, stored, position in _written_positions(world):
        is_first = position.offset < 0 and not _is_late(world, stored)
        if is_first and (position.message_type, position.symbol) == name:
            begins.append(world.market.number(*name, position.last_id + 1))
            return min(begins)
    return min(begins, default=FIRST_ID)


def _written_positions(world: World) -> Iterator[tuple[TopicPartition, Stored, Position]]:
    for place, log in world.broker.records(f"{SPOT}.position"):
        for stored in log:
            if not is_about_owners(stored.key):
                yield place, stored, msgspec.json.decode(stored.value, type=Position)


def _late(world: World, name: Name) -> set[int]:
    """Return the ids of which a copy was written too late to be read by the next process, or which
    it did not know: it could not read the topics, and REST was behind what they have.
    """
    kind, symbol = name
    if world.unknown_starts and "keep_rest_behind" in _faults(world):
        return {number for number, _ in _ticks(world, name)}
    return {
        _number(world, kind, msgspec.json.decode(stored.value))
        for _, log in world.broker.records(f"{SPOT}.{kind}")
        for stored in log
        if stored.key.decode() == symbol and _is_late(world, stored)
    }


def _is_late(world: World, stored: Stored) -> bool:
    """Return whether a broker wrote a record of a process after another one had begun, which could
    not know: it has no fence, or it could not read the topics.
    """
    unknown = {stored.life - 1, stored.life + 1} & world.unknown_starts
    if world.settings.kafka.transactional_id == "" and stored.life + 1 < len(world.lives):
        unknown.add(stored.life + 1)
    return any(world.lives[other].began_s < stored.written_s for other in unknown)


def _unknown_starts(world: World, name: Name) -> set[int]:
    """Return the first id of each process that could not read the last positions from Kafka; -1 if
    it and its successors have published nothing.

    Such a process can only log that. Its own positions hide the missed events from the next one.
    """
    firsts = {
        next((each.first[name] for each in observers if name in each.first), -1)
        for number in world.unknown_starts
        for observers in (_observers(world, number),)
    }
    return {-1 if first < 0 else world.market.number(*name, first) for first in firsts}


def _observers(world: World, first: int = 0) -> list[Observer]:
    """Return the observers of the processes from this one on."""
    return [observer for life in world.lives[first:] for observer in life.observers]


def _unsure_starts(world: World, name: Name) -> set[int]:
    """Return the first ids of processes that may have begun with an event from before a restart of
    the ids: those of `_unknown_starts`, and standbys that have received it.
    """
    unsure = _unknown_starts(world, name)
    if any(life.has_group for life in world.lives) and _has_restarted(world, name[1]):
        firsts = [each.first.get(name, -1) for each in _observers(world)]
        unsure |= {world.market.number(*name, first) for first in firsts if first >= 0}
    return unsure


def _wrong_states(
    said: list[tuple[range, str]], seen: set[int], *, may_be_there: bool
) -> Iterator[str]:
    """Check what gap events say. Trades that the brokers have refused for a while may be fetched by
    the next process.
    """
    for span, state in said:
        if state == "filled" and not seen.issuperset(span):
            yield f"{span} announced as filled, but not there"
        if state == "lost" and not may_be_there and not seen.isdisjoint(span):
            yield f"{span} announced as lost, but there"


def _has_restarted(world: World, symbol: str) -> bool:
    return world.market.has_restarted and symbol == world.market.restarts


def _lost_in_time(world: World, name: Name, gaps: list[dict[str, Any]]) -> set[int]:
    """Return the numbers of the ticks in the time of a gap event without ids. Some may be there."""
    spans = [(gap["from_time"], gap["to_time"]) for gap in gaps if gap["first_id"] is None]
    is_dated = "misdate_some_events" not in _faults(world)
    return {
        number
        for number, at in _ticks(world, name)
        if any(not is_dated or begin <= at <= end for begin, end in spans)
    }


def _there_since_restart(world: World, name: Name) -> set[int]:
    """Return the numbers of the ticks since a restart of the ids, if REST always had them."""
    if not _has_restarted(world, name[1]) or _faults(world) & {*REST_FAULTS, "misdate_some_events"}:
        return set()
    return {world.market.number(*name, tick.identity) for tick in world.market.present(*name)}


def _faults(world: World) -> set[str]:
    return {entry["fault"] for entry in world.journal.named("fault_begins")}


def _quotes(
    world: World, name: Name, events: list[dict[str, Any]], gaps: list[dict[str, Any]]
) -> Iterator[str]:
    """Check that quotes rise up to the last, and that a gap gives the time of each missing one."""
    history = [number for number, _ in _ticks(world, name)]
    announced = {gap["to_time"]: gap for gap in gaps}
    unknown, unnoticed = _unsure_starts(world, name), _unnoticed(world, name)
    for before, event in pairwise(events):
        first, last = _numbers(world, name, [before, event])
        if last <= first and last not in unknown:
            yield f"{last} comes after {first}"
        missed = history[bisect_right(history, first) : bisect_left(history, last)]
        if not missed or last in unknown:
            continue
        gap = announced.get(event["received"])
        if gap is None:
            missed = [i for i in missed if i not in unnoticed]
            at_s = event["received"] / 1e6 - BEGIN_S
            if missed:
                yield f"{len(missed)} missing before {last} ({at_s:.3f} s), unannounced"
        elif gap["from_time"] is None or gap["from_time"] > before["received"]:
            yield f"{missed} missing before {last}, announced from {gap['from_time']} only"
    if not events or _numbers(world, name, events[-1:]) != history[-1:]:
        yield f"ends before {history[-1]}"


def _backfilled(
    world: World, name: Name, events: list[dict[str, Any]], gaps: list[dict[str, Any]]
) -> Iterator[str]:
    """Check that closed candles or block trades are there once and in order, up to the last, unless
    a gap announces the time of a missing one as lost.
    """
    ids = _numbers(world, name, events)
    lost = [gap for gap in gaps if gap["state"] == "lost"]
    announced, unnoticed = _lost_in_time(world, name, lost), _unnoticed(world, name)
    unknown, late = _unsure_starts(world, name), _late(world, name)
    is_ordered = name[0] != "candle" or not is_clock_slow()
    for place, (before, identity) in enumerate(pairwise(ids), start=1):
        is_wrong = identity <= before if is_ordered else identity in ids[:place]
        if is_wrong and identity not in late | unknown:
            yield f"{identity} comes after {before}"
    history = _ticks(world, name)
    if not history:
        return
    if not ids or (max(ids) != history[-1][0] and -1 not in unknown):
        yield f"ends before {history[-1][0]}"
        return
    for number, at in history:
        following = next((i for i in ids if i > number), -1)
        is_there = number < ids[0] or number in ids or following in unknown
        if not is_there and number not in announced | unnoticed:
            yield f"{number} missing ({at / 1e6 - BEGIN_S:.3f} s), unannounced"
    is_excused = _has_restarted(world, name[1]) or world.unknown_starts
    if lost and REST_FAULTS.isdisjoint(_faults(world)) and not is_excused:
        yield f"{lost} lost though REST has never failed"


def _unnoticed(world: World, name: Name) -> set[int]:
    """Return the numbers of the ticks that an open connection did not bring."""
    return {
        world.market.number(*name, identity)
        for kind, symbol, identity in world.exchange.unnoticed
        if (kind, symbol) == name and identity >= 0
    }


def _gaps(world: World) -> Iterator[str]:
    """Check that ids that REST has are not given up, and that late ids are fetched later."""
    if REST_FAULTS.isdisjoint(_faults(world)):
        for gap in world.journal.named("gap"):
            may_be = _has_restarted(world, gap["symbol"])
            if gap["message_type"] in CONTIGUOUS and not may_be:
                yield f"{gap} though REST has never failed"
    missing_of = [pair for each in world.present() for pair in each.missing.items()]
    for name, missing in missing_of:
        if missing and not _has_restarted(world, name[1]):
            yield f"{name} {sorted(missing)} not fetched, though REST has them"
    yield from _left_open(world)


def _left_open(world: World) -> Iterator[str]:
    """Yield ids left open, by killed processes too, unless the last one could not read the gaps."""
    last = world.life.number
    began_s = max((entry["at_s"] for entry in world.journal.named("taking_over")), default=0.0)
    unknown = world.journal.named("open_gaps_unavailable")
    unread = {entry["life"] for entry in unknown if entry["at_s"] >= began_s}
    if last in world.unknown_starts | unread:
        return
    states: defaultdict[Name, dict[int, str]] = defaultdict(dict)
    for gap in _events(world, "gap"):
        if gap["first_id"] is not None and not _has_restarted(world, gap["symbol"]):
            ids = range(gap["first_id"], gap["last_id"] + 1)
            states[gap["kind"], gap["symbol"]].update(dict.fromkeys(ids, gap["state"]))
    for name, of_stream in states.items():
        if missing := [identity for identity, state in of_stream.items() if state == "open"]:
            yield f"{name} {missing} left open"


def _positions(world: World) -> Iterator[str]:
    """Check that each position names an existing record."""
    for place, _, position in _written_positions(world):
        if position.offset < 0:
            continue  # of a stream without records
        topic = f"{SPOT}.{position.message_type}"
        there = world.broker.logs[place._replace(topic=topic, partition=position.partition)]
        event = msgspec.json.decode(there[position.offset].value)
        last_id = _last_id(position.message_type, event)
        if (event["symbol"], last_id) != (position.symbol, position.last_id):
            yield f"position {position} names {event}"


def _last_id(kind: str, event: dict[str, Any]) -> int:
    """Return what the position of an event says."""
    if kind == "candle":
        return int(event["open_time"]) + (999_999 if event["closed"] else -1)
    return int(event[_ID_FIELDS[kind]]) if kind in _ID_FIELDS and kind != "quote" else -1


def _redis(world: World) -> Iterator[str]:
    """Check that all messages are in order, and that each value is the newest.

    Duplicates after a timeout are allowed.
    """
    published = list(dict.fromkeys(value for _, value in world.redis.published))
    of_this_life = {record.value for each in world.present() for record in each.records}
    if not of_this_life.issubset(published):
        yield f"Redis: {len(of_this_life.difference(published))} messages not published"
    for number, observer in enumerate(_observers(world)):
        order = {record.value: place for place, record in enumerate(observer.records)}
        places = [order[value] for value in published if value in order]
        if places != sorted(places):
            yield f"Redis: messages of pipeline {number} out of order"
    for symbol in SYMBOLS:
        values = world.redis.hashes[latest_key(SPOT, symbol)]
        for kind, field in (("trade", "trade_id"), ("quote", "quote_id")):
            if kind == "trade" and symbol in {world.market.rare, *world.file.left_out}:
                continue  # its last trade may be older than this process, or than this Redis
            if not world.market.history[kind, symbol]:
                continue  # of a stream that is not subscribed
            last = world.market.last_id(kind, symbol)
            if values.get(field) != str(last):
                yield f"Redis: {field} of {symbol} is {values.get(field)} instead of {last}"


_CHECKS = {"quote": _quotes, "candle": _backfilled, "block_trade": _backfilled}
