"""The Redis sink, the fast path. It publishes every event and sets the latest values.

Each flush is one script call that does both. It takes 2-3.5 us a message; a pipeline takes 18 us a
command. Only one flush is in flight at a time, over one connection, which keeps the order. The next
flush grows in the meantime. So with little traffic a message is sent at once, and with much traffic
messages are sent in large batches.

If Redis is too slow or unavailable, only the newest event of each latest value is kept, and the
oldest messages are dropped and counted. Redis pub/sub gives no delivery guarantee: after a timeout
a flush is sent again, and its messages may arrive twice.
"""

import asyncio
import time
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from operator import attrgetter
from typing import NamedTuple

import structlog
from redis import exceptions
from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from bridge import settings
from bridge.brokers.redis_client import connect
from bridge.core.model.events import Event
from bridge.core.records.latest_values import (
    Group,
    LatestValue,
    heartbeat_key,
    prices_key,
)
from bridge.core.records.record import Record, Route
from bridge.core.sequencing.rules import MAX_AHEAD_US
from bridge.errors import SinkRefused, SinkUnavailable, describe
from bridge.retry import Backoff, RepeatedFailure, check_cancelled, forever
from bridge.sinks.batch_pacer import BatchPacer
from bridge.sinks.redis.access import (
    FAILURES,
    SCRIPT,
    failures_named,
    missing_right,
    rights_refusal,
    text_of,
)
from bridge.telemetry import TAKEN_OVER, SinkCounts, now_us

MAX_DELAY_S = 5.0
# Values that Redis did not take wait this long. All others are still set, and messages are sent.
VALUES_REST_S = 1.0
# The errors of a server that takes no value at all.
_TAKES_NOTHING = ("OOM", "MISCONF", "READONLY")
DENIED = "denied"
REFUSED = "refused"
# The heartbeat expires after this many intervals without a further beat.
HEARTBEAT_INTERVALS = 3
# A backlog has room while the queue is no fuller than this.
ROOM_SHARE = 0.5
# At 5,000 messages a second a flush holds about five, and the next one follows at once.
LEAST_REST_S, REST_PER_RECORD_S, MAX_REST_S = 0.0, 50e-6, 0.002

_message_type = attrgetter("route.message_type")

log = structlog.get_logger(__name__)


class Heartbeat(NamedTuple):
    """The name of this bridge, which a key of Redis holds for three intervals after each beat."""

    owner: str
    interval_s: float


class RedisSink:
    """Messages wait in a bounded queue; of each latest value only the newest waits."""

    name = "redis"
    drop_causes: tuple[str, ...] = ("queue_full", DENIED, TAKEN_OVER)
    failure_reasons: tuple[str, ...] = ("unavailable", REFUSED, "values", DENIED)
    records_on_disk = 0

    def __init__(
        self,
        options: settings.Redis,
        venue: str,
        heartbeat: Heartbeat | None = None,
        message_types: Sequence[str] = (),
        *,
        counts: SinkCounts | None = None,
    ) -> None:
        self.counts = SinkCounts() if counts is None else counts
        self.limits: Mapping[str, int] = {"queue_limit_events": options.publish_max_records}
        self._options = options
        self._venue, self._message_types = venue, message_types
        self._prices_key = prices_key(venue)
        self._heartbeat_key = heartbeat_key(venue)
        self._heartbeat = heartbeat
        self._next_beat = 0.0
        self._messages: deque[Record] = deque()
        self._sending: list[Record] = []
        self._latest: dict[LatestValue, Event] = {}
        # The newest status of each symbol. They are in no account: they are no events of a stream.
        self._statuses: dict[str, Record] = {}
        # Values that Redis did not take, until they are tried again.
        self._resting: dict[LatestValue, Event] = {}
        self._rest_until_s = 0.0
        self._takes_nothing = False
        self._failing_values, self._denied_channels = RepeatedFailure(), RepeatedFailure()
        self._pushed = asyncio.Event()
        self._flushed = asyncio.Event()
        self._ready = False
        self._was_ready = False
        self._backoff = Backoff(MAX_DELAY_S)
        self._pace = BatchPacer(LEAST_REST_S, REST_PER_RECORD_S, MAX_REST_S)

    @property
    def ready(self) -> bool:
        return self._ready

    def push(self, records: Sequence[Record], latest: Mapping[Route, Event]) -> None:
        """Queue the messages. If the queue is full, drop the oldest."""
        self._messages.extend(records)
        resting = self._resting
        for route, event in latest.items():
            for value in route.latest:
                values = resting if value in resting else self._latest
                # An event fetched over REST may be older than the value: it may fill a gap.
                is_late = event.source == "rest" and value in values
                values[value] = value.newest(event, values[value]) if is_late else event
        while len(self._messages) > self._options.publish_max_records:
            self._drop_oldest()
        self._pushed.set()

    def push_statuses(self, records: Sequence[Record], latest: Mapping[Route, Event]) -> None:
        """Take the statuses of symbols; each replaces one of the same symbol that still waits."""
        self._statuses |= {record.route.symbol: record for record in records}
        self.push((), latest)

    def pending(self) -> Counter[str]:
        """Count the messages that wait or are in flight. Latest values are not counted."""
        return Counter(record.route.message_type for record in (*self._sending, *self._messages))

    def pending_bytes(self) -> int:
        return sum(len(record.value) for record in (*self._sending, *self._messages))

    def spill_bytes(self) -> int:
        return 0

    def buffer_share(self) -> float:
        return (len(self._sending) + len(self._messages)) / self._options.publish_max_records

    def oldest_received(self) -> int | None:
        waiting = self._sending or self._messages
        return waiting[0].received if waiting else None

    async def room(self) -> None:
        """Return when half of the queue is free, or if Redis takes nothing."""
        while self.buffer_share() > ROOM_SHARE and (self._ready or not self.counts.failures):
            self._flushed.clear()
            await self._flushed.wait()

    async def drained(self) -> None:
        while self._messages or self._sending or self._latest or self._resting or self._statuses:
            self._flushed.clear()
            await self._flushed.wait()

    async def run(self) -> None:
        """Connect and flush until cancelled; reconnect after each failure.

        A refusal is no reason to end: Kafka, which has the complete record, goes on without Redis.
        """
        errors = (SinkUnavailable, SinkRefused)
        async for attempt in forever(self._backoff, *errors, on_retry=self._on_retry):
            with attempt:
                await self._session()

    async def _session(self) -> None:
        client = connect(self._options, self._count_sent)
        try:
            await self._check(client)
            script = client.register_script(SCRIPT)
            while True:
                check_cancelled()
                await self._wait_for_work()
                await self._beat(client)
                if self._has_work():
                    await self._pace.rest()
                    await self._flush(script)
        except FAILURES as error:
            raise SinkUnavailable(f"Redis: {describe(error)}") from error
        finally:
            self._ready = False
            await client.aclose()

    async def _check(self, client: Redis) -> None:
        """Check the connection, the credentials, the server and the rights. Raises SinkRefused if
        one is wrong. A right that was taken away later stops only what needs it.
        """
        with failures_named():
            denied = await missing_right(client, self._venue, self._message_types)
            self._next_beat = 0.0
            await self._beat(client)
        if denied and not self._was_ready:
            raise rights_refusal(denied)
        self._ready = self._was_ready = True
        log.info("redis_connected")

    def _has_work(self) -> bool:
        has_rested = self._resting and not self._rest_s()
        return bool(self._messages or self._latest or self._statuses or has_rested)

    async def _wait_for_work(self) -> None:
        self._pushed.clear()
        if self._has_work():
            return
        waits_s = [self._rest_s()] if self._resting else []
        if self._heartbeat:
            waits_s.append(max(0.0, self._next_beat - asyncio.get_running_loop().time()))
        with suppress(TimeoutError):
            async with asyncio.timeout(min(waits_s, default=None)):
                await self._pushed.wait()

    async def _beat(self, client: Redis) -> None:
        """Set the key that says that this bridge is alive, if its time has come."""
        now_s = asyncio.get_running_loop().time()
        if self._heartbeat is None or now_s < self._next_beat:
            return
        owner, interval_s = self._heartbeat
        self._next_beat = now_s + interval_s
        # Without memory the values fail too, and say so.
        with suppress(exceptions.OutOfMemoryError):
            expiry_ms = round(HEARTBEAT_INTERVALS * interval_s * 1000)
            await client.set(self._heartbeat_key, owner, px=expiry_ms)

    async def _flush(self, script: AsyncScript) -> None:
        """Send the first messages, the statuses and the latest values; on failure put them back."""
        latest = self._take()
        statuses, self._statuses = self._statuses, {}
        if not self._messages:
            self._pace.sent(len(self._sending))
        started = time.perf_counter()
        try:
            messages = [*self._sending, *statuses.values()]
            call = _script_call(self._prices_key, messages, latest)
            _, stale, failure, failed, denial, denied = await script(call.keys, call.arguments)
        except BaseException:
            self._put_back(latest)
            self._statuses = statuses | self._statuses
            raise
        self.counts.latency.observe(time.perf_counter() - started)
        if denial:
            self._drop_denied(text_of(denial), denied)
        self._count_published()
        self.counts.stale_values += stale
        self._flushed.set()
        if failure:
            values = [call.values[number - 1] for number in failed]
            self._rest(text_of(failure), {v: latest[v] for v in values})
        elif not self._resting:
            self._failing_values = RepeatedFailure()
        # One value that fails, for example because its key has another type, is no reason.
        self._ready = not (self._resting and self._takes_nothing)
        self._backoff.worked()

    def _take(self) -> dict[LatestValue, Event]:
        """Move the first messages to `_sending`, and return the values that may be sent."""
        count = min(len(self._messages), self._options.flush_max_records)
        self._sending = [self._messages.popleft() for _ in range(count)]
        if self._resting and not self._rest_s():
            resting, self._resting = self._resting, {}
            self._put_values_back(resting)
        if len(self._latest) <= self._options.flush_max_records:
            latest, self._latest = self._latest, {}
            return latest
        latest = dict(islice(self._latest.items(), self._options.flush_max_records))
        for value in latest:
            del self._latest[value]
        return latest

    def _put_back(self, latest: dict[LatestValue, Event]) -> None:
        self._messages.extendleft(reversed(self._sending))
        self._sending = []
        self._put_values_back(latest)
        while len(self._messages) > self._options.publish_max_records:
            self._drop_oldest()

    def _put_values_back(self, latest: dict[LatestValue, Event]) -> None:
        """Let values wait again, unless a newer value waits."""
        since = self._latest
        self._latest = latest | since
        for value in latest.keys() & since.keys():
            self._latest[value] = value.newest(since[value], latest[value])

    def _rest(self, failure: str, failed: dict[LatestValue, Event]) -> None:
        """Let the values rest that Redis did not take. The messages were published."""
        if not self._resting:
            self._rest_until_s = asyncio.get_running_loop().time() + VALUES_REST_S
        for value, event in failed.items():
            since = self._latest.pop(value, event)
            self._resting[value] = value.newest(since, event)
        self._takes_nothing = failure.startswith(_TAKES_NOTHING)
        self.counts.failures["values"] += 1
        error = SinkUnavailable(f"Redis: {failure}")
        if self._failing_values.should_log(error):
            log.warning("redis_keeps_no_values", error=failure, waiting=len(self._resting))
        if failure.startswith("READONLY"):
            raise SinkUnavailable("Redis: this server is now a replica")

    def _rest_s(self) -> float:
        """Return the time that resting values still have to wait, in seconds."""
        return max(0.0, self._rest_until_s - asyncio.get_running_loop().time())

    def _drop_denied(self, denial: str, denied: Sequence[int]) -> None:
        """Drop the messages whose channels the ACL denies; the last ones may be statuses."""
        sent, self._sending, gone = self._sending, [], set(denied)
        for number, record in enumerate(sent, 1):
            if number in gone:
                self.counts.dropped[record.route.message_type, DENIED] += 1
            else:
                self._sending.append(record)
        self.counts.failures[DENIED] += 1
        if self._denied_channels.should_log(SinkUnavailable(denial)):
            log.warning("redis_channel_denied", error=denial, messages=len(gone))

    def _count_sent(self, size_bytes: int) -> None:
        self.counts.sent_bytes += size_bytes

    def _count_published(self) -> None:
        self.counts.published.update(map(_message_type, self._sending))
        self._sending = []

    def _drop_oldest(self) -> None:
        dropped = self._messages.popleft()
        self.counts.dropped[dropped.route.message_type, "queue_full"] += 1

    def _on_retry(self, error: Exception, delay_s: float) -> None:
        is_refused = isinstance(error, SinkRefused)
        self.counts.failures[REFUSED if is_refused else "unavailable"] += 1
        self._flushed.set()
        if not self._backoff.should_log(error):
            return
        if is_refused:
            log.error("redis_refused", error=str(error), retry_in_s=round(delay_s, 2))
        else:
            log.warning("redis_unavailable", error=str(error), retry_in_s=round(delay_s, 2))


class _Call(NamedTuple):
    """A call of `latest.lua`: its keys and arguments, and its values in the order of the keys."""

    keys: list[str]
    arguments: list[str | int | bytes]
    values: list[LatestValue]


def _script_call(prices: str, messages: list[Record], latest: dict[LatestValue, Event]) -> _Call:
    """Return the keys and arguments that `latest.lua` expects.

    They are few, because each takes hiredis 0.1 to 0.2 us to pack, and takes Redis more to parse.
    """
    ahead = now_us() + MAX_AHEAD_US
    arguments: list[str | int | bytes] = [ahead, len(messages)]
    for record in messages:
        arguments += (record.route.channel, record.value)
    grouped: defaultdict[tuple[Group, bool], list[LatestValue]] = defaultdict(list)
    for value, event in latest.items():
        grouped[value.group, event.source == "rest"].append(value)
    ordered: list[LatestValue] = []
    for (group, is_fetched), values in grouped.items():
        ordered += values
        contents = [group.contents(latest[value]) for value in values]
        restart_us = "" if is_fetched and group.restart_us else group.restart_us
        arguments += (group.names, restart_us, len(values), "".join(contents))
    return _Call([prices, *(value.key for value in ordered)], arguments, ordered)
