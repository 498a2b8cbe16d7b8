"""Publishes the status of each symbol: the state of its feed, and how far its trades are complete.

A status goes to Kafka, which keeps only the newest of each symbol, and to Redis. Market-wide
streams belong to no symbol and have no status.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain

import msgspec

from bridge.binance.connector import Connector, State
from bridge.binance.feed import last_received
from bridge.core.model.events import FeedState, SymbolStatus
from bridge.core.model.stream import SPOT, Stream
from bridge.core.records.record import Router
from bridge.core.sequencing.completeness import Completeness
from bridge.core.sequencing.contiguous import Contiguous
from bridge.core.sequencing.position import StreamKey
from bridge.core.sequencing.sequencers import Sequencers
from bridge.sinks.kafka.sink import KafkaSink
from bridge.sinks.redis.sink import RedisSink
from bridge.telemetry import now_us

# How often changes are looked for.
LOOK_S = 1.0
# Events of the streams wait while this many streams are looked at, or statuses are encoded.
SLICE = 100
# The state of a symbol is the worst state of its streams.
_BEST_FIRST: tuple[FeedState, ...] = ("live", "repairing", "stale", "down", "refused")


class _Found(msgspec.Struct):
    """What was found of a symbol: its state, and its streams of trades."""

    feed: FeedState = "live"
    sequencers: list[Contiguous] = []

    def add(self, feed: FeedState) -> None:
        self.feed = max(self.feed, feed, key=_BEST_FIRST.index)


class SymbolStatuses:
    """The latest status of each symbol, and the task that publishes them.

    `topic_template` is `kafka.topic`. `bundles` returns the connectors of each bundle. If
    `knows_positions` is false, nobody knows what was missed before this process, so no symbol is
    said to be complete.
    """

    def __init__(  # noqa: PLR0913 (what it connects)
        self,
        interval_s: float,
        topic_template: str,
        *,
        bundles: Callable[[], list[list[Connector]]],
        sequencers: Sequencers,
        kafka: KafkaSink,
        redis: RedisSink,
        knows_positions: bool,
    ) -> None:
        self.latest: dict[str, SymbolStatus] = {}
        self._interval_s = interval_s
        self._bundles = bundles
        self._sequencers = sequencers
        self._kafka = kafka
        self._redis = redis
        self._knows_positions = knows_positions
        self._router = Router((), topic_template)
        self._completeness: dict[StreamKey, Completeness] = {}
        # The last arrival of each stream that was silent for too long: it is stale until the next.
        self._stale: dict[str, int | None] = {}

    async def run(self, unlisted: Callable[[], Iterable[str]]) -> None:
        """Publish until cancelled. `unlisted` returns the symbols that the exchange does not
        list.
        """
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            is_due = loop.time() >= due_s
            if is_due:
                due_s = loop.time() + self._interval_s
            statuses = await self.update(unlisted(), only_changed=not is_due)
            for begin in range(0, len(statuses), SLICE):
                self._publish(statuses[begin : begin + SLICE])
                await asyncio.sleep(0)
            await asyncio.sleep(LOOK_S)

    def end(self) -> None:
        """Publish that no symbol is fed any more."""
        now = now_us()
        self._publish([_down(status, now) for status in self.latest.values()])

    async def update(
        self, unlisted: Iterable[str], *, only_changed: bool = False
    ) -> list[SymbolStatus]:
        """Bring `latest` up to date for all symbols, or only for those whose state has changed, and
        return these. The last status of a symbol that was removed is `down`.
        """
        found: defaultdict[str, _Found] = defaultdict(_Found)
        for symbol in unlisted:
            found[symbol].add("refused")
        bundles = self._bundles()
        heard = last_received(chain.from_iterable(bundles))
        looked = 0
        for connectors in bundles:
            connection, stalled = _connection_state(connectors), _stalled(connectors)
            for stream in connectors[0].streams:
                if stream.symbol is not None:
                    self._look(stream, found[stream.symbol], connection, stalled, heard)
                looked += 1
                if looked % SLICE == 0:
                    await asyncio.sleep(0)
        return self._changed(found, only_changed=only_changed)

    def _look(
        self,
        stream: Stream,
        found: _Found,
        connection: FeedState,
        stalled: set[str],
        heard: Mapping[str, int],
    ) -> None:
        """Add what is found of one stream. `connection` is the state of its connections."""
        if connection != "live":
            found.add(connection)
        if self._is_stale(stream.name, stalled, heard):
            found.add("stale")
        if sequencer := self._sequencers.contiguous(stream):
            found.sequencers.append(sequencer)
            if sequencer.hole:
                found.add("repairing")
        elif any(each.held for each in self._sequencers.of(stream)):
            found.add("repairing")

    def _changed(self, found: Mapping[str, _Found], *, only_changed: bool) -> list[SymbolStatus]:
        now, latest = now_us(), self.latest
        removed = [latest.pop(symbol) for symbol in [*latest] if symbol not in found]
        statuses = []
        for symbol, of_symbol in found.items():
            before = latest.get(symbol)
            is_same = before is not None and before.feed == of_symbol.feed
            if not (is_same and only_changed):
                since = before.since if before and is_same else now
                latest[symbol] = self._status(symbol, of_symbol, since, now)
                statuses.append(latest[symbol])
        return statuses + [_down(status, now) for status in removed]

    def _status(self, symbol: str, found: _Found, since: int, now: int) -> SymbolStatus:
        streams = {each.message_type: self._complete(symbol, each) for each in found.sequencers}
        return SymbolStatus(
            venue=SPOT,
            symbol=symbol,
            timestamp=None,
            received=now,
            source="bridge",
            feed=found.feed,
            since=since,
            trade_id=_last_id(streams.get("trade")),
            agg_trade_id=_last_id(streams.get("agg_trade")),
            complete_to=_least([each.complete_to for each in streams.values()]),
            checked=_least([each.checked for each in streams.values()]),
            owner=self._kafka.owner,
            standby=self._kafka.standby,
        )

    def _complete(self, symbol: str, sequencer: Contiguous) -> Completeness:
        """Return how far a stream is complete."""
        key = StreamKey(sequencer.message_type, symbol)
        before = self._completeness.get(key, Completeness())
        committed = self._kafka.committed(key) if self._knows_positions else None
        if committed is None:
            return before
        now = self._completeness[key] = before.advance(committed, sequencer.head)
        return now

    def _is_stale(self, name: str, stalled: set[str], heard: Mapping[str, int]) -> bool:
        """Return whether a stream is silent for too long. A new connection does not change that
        until it brings the stream.
        """
        if name in stalled:
            self._stale[name] = heard.get(name)
            return True
        if name not in self._stale:
            return False
        if self._stale[name] != heard.get(name):
            del self._stale[name]
        return name in self._stale

    def _publish(self, statuses: Sequence[SymbolStatus]) -> None:
        records = [self._router.record(status) for status in statuses]
        latest = {r.route: status for r, status in zip(records, statuses, strict=True)}
        self._kafka.push_statuses(records)
        self._redis.push_statuses(records, latest)


def _connection_state(connectors: Iterable[Connector]) -> FeedState:
    """Return the state of the streams of connectors, as far as the connections decide it."""
    states = {connector.state for connector in connectors}
    if State.OPEN in states:
        return "live"
    return "refused" if states == {State.REFUSED} else "down"


def _stalled(connectors: Iterable[Connector]) -> set[str]:
    """Return the streams that are stalled on all open connectors of a bundle."""
    stalled = [set(each.stalled()) for each in connectors if each.state is State.OPEN]
    return set.intersection(*stalled) if stalled else set()


def _down(status: SymbolStatus, now: int) -> SymbolStatus:
    since = status.since if status.feed == "down" else now
    return msgspec.structs.replace(status, feed="down", since=since, received=now)


def _last_id(completeness: Completeness | None) -> int | None:
    """Return the last id of a stream; None if it is not known, or there is no event yet."""
    last_id = completeness.last_id if completeness else None
    return None if last_id is None or last_id < 0 else last_id


def _least(times: Sequence[int | None]) -> int | None:
    """Return the earliest time; None if one of them is not known."""
    known = [time for time in times if time is not None]
    return min(known, default=None) if len(known) == len(times) else None
