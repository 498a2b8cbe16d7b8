"""The Redis sink: the fast path. Publishes every event and keeps the latest values.

One script call a flush does both (2-3.5 us a message, where a pipeline takes 18 us a command). One
flush is under way at a time, over one connection: that keeps the order, and while it is under way
the next one grows, so that a quiet line is sent at once and a busy one in large pieces.

Behind, the latest values conflate (the last one wins) and the oldest messages go, counted. Pub/sub
itself promises nothing: after a time-out a flush is sent again, and its messages may arrive twice.
"""

import asyncio
import ssl
import time
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from importlib import resources
from itertools import islice
from operator import attrgetter

import structlog
from redis import exceptions
from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from bridge import settings
from bridge.brokers.redis_client import connect
from bridge.core.model.events import Event
from bridge.core.records.latest_values import Group, LatestValue, prices_key
from bridge.core.records.record import Record, Route
from bridge.errors import SinkRefused, SinkUnavailable
from bridge.retry import Backoff, check_cancelled, forever
from bridge.sinks.batch_pacer import BatchPacer
from bridge.telemetry import SinkCounts

SCRIPT = resources.files(__package__).joinpath("latest.lua").read_text()
MAX_DELAY_S = 5.0
# How long values rest after Redis had no room for them; messages go on meanwhile.
VALUES_REST_S = 1.0
# At 5,000 messages a second a flush has some five, and is followed at once.
LEAST_REST_S, REST_PER_RECORD_S, MAX_REST_S = 0.0, 50e-6, 0.002
_REFUSALS = (
    exceptions.AuthenticationError,
    exceptions.AuthorizationError,
    exceptions.NoPermissionError,
)
_FAILURES = (exceptions.RedisError, OSError, TimeoutError)

_message_type = attrgetter("route.message_type")

log = structlog.get_logger(__name__)


class RedisSink:
    """Messages wait in a bounded queue, latest values in one place a value."""

    name = "redis"
    drop_causes: tuple[str, ...] = ("queue_full",)
    failure_reasons: tuple[str, ...] = ("unavailable", "values")

    def __init__(self, options: settings.Redis, venue: str) -> None:
        self.counts = SinkCounts()
        self._options = options
        self._prices_key = prices_key(venue)
        self._messages: deque[Record] = deque()
        self._sending: list[Record] = []
        self._latest: dict[LatestValue, Event] = {}
        self._values_rest_until = 0.0
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
        """Queue the messages; when the queue is full its oldest go."""
        self._messages.extend(records)
        values = self._latest
        for route, event in latest.items():
            for value in route.latest:
                # What was fetched may have been brought late, into a gap.
                is_late = event.source == "rest" and value in values
                values[value] = value.newest(event, values[value]) if is_late else event
        while len(self._messages) > self._options.publish_max_records:
            self._drop_oldest()
        self._pushed.set()

    def pending(self) -> Counter[str]:
        """Messages queued or under way; latest values are no messages."""
        return Counter(record.route.message_type for record in (*self._sending, *self._messages))

    def pending_bytes(self) -> int:
        return sum(len(record.value) for record in (*self._sending, *self._messages))

    def oldest_received(self) -> int | None:
        waiting = self._sending or self._messages
        return waiting[0].received if waiting else None

    async def drained(self) -> None:
        while self._messages or self._sending or self._latest:
            self._flushed.clear()
            await self._flushed.wait()

    async def run(self) -> None:
        """Connect, flush, and connect again after a failure, for ever."""
        async for attempt in forever(self._backoff, SinkUnavailable, on_retry=self._on_retry):
            with attempt:
                await self._session()

    async def _session(self) -> None:
        client = connect(self._options)
        try:
            await self._check(client)
            script = client.register_script(SCRIPT)
            while True:
                check_cancelled()
                await self._wait_for_work()
                await self._pace.rest()
                await self._flush(script)
        except _FAILURES as error:
            raise SinkUnavailable(f"Redis: {str(error) or type(error).__name__}") from error
        finally:
            self._ready = False
            await client.aclose()

    async def _check(self, client: Redis) -> None:
        """An empty flush: proves the connection, the credentials and the right to run it."""
        try:
            await client.eval(SCRIPT, 1, self._prices_key, "0")
        except _FAILURES as error:
            refusal = _refusal(error)
            # A password changed under way: Kafka goes on, and we try again.
            if refusal is None or self._was_ready:
                raise
            raise refusal from error
        self._ready = self._was_ready = True
        log.info("redis_connected")

    async def _wait_for_work(self) -> None:
        self._pushed.clear()
        if self._messages:
            return
        rest_s = self._values_rest_s() if self._latest else None
        try:
            async with asyncio.timeout(rest_s):
                await self._pushed.wait()
        except TimeoutError:
            pass

    async def _flush(self, script: AsyncScript) -> None:
        """Send a piece of the queue and the latest values; what fails goes back to its place."""
        latest = self._take()
        if not self._messages:
            self._pace.sent(len(self._sending))
        started = time.perf_counter()
        try:
            keys, arguments = _script_call(self._prices_key, self._sending, latest)
            _, stale, failure = await script(keys=keys, args=arguments)
        except BaseException:
            self._put_back(latest)
            raise
        self.counts.latency.observe(time.perf_counter() - started)
        self._count_published()
        self.counts.stale_values += stale
        self._flushed.set()
        if failure:
            self._rest_values(latest, failure.decode(errors="replace"))
        else:
            self._ready = not self._values_rest_s()
            self._backoff.worked()

    def _take(self) -> dict[LatestValue, Event]:
        """Move a piece of the queue to what is being sent, and hand out the values that may go."""
        count = min(len(self._messages), self._options.flush_max_records)
        self._sending = [self._messages.popleft() for _ in range(count)]
        if self._values_rest_s():
            return {}
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
        """They wait again, unless something newer does."""
        since = self._latest
        self._latest = latest | since
        for value in latest.keys() & since.keys():
            self._latest[value] = value.newest(since[value], latest[value])

    def _rest_values(self, latest: dict[LatestValue, Event], failure: str) -> None:
        """The messages went out but the values did not (out of memory, say): try those later."""
        self._put_values_back(latest)
        self._values_rest_until = asyncio.get_running_loop().time() + VALUES_REST_S
        self._ready = False
        self.counts.failures["values"] += 1
        log.warning("redis_keeps_no_values", error=failure, waiting=len(self._latest))
        if failure.startswith("READONLY"):
            raise SinkUnavailable("Redis: this server is a replica now")

    def _values_rest_s(self) -> float:
        """How long values have yet to rest."""
        return max(0.0, self._values_rest_until - asyncio.get_running_loop().time())

    def _count_published(self) -> None:
        self.counts.published.update(map(_message_type, self._sending))
        self._sending = []

    def _drop_oldest(self) -> None:
        dropped = self._messages.popleft()
        self.counts.dropped[dropped.route.message_type, "queue_full"] += 1

    def _on_retry(self, error: Exception, delay_s: float) -> None:
        self.counts.failures["unavailable"] += 1
        log.warning("redis_unavailable", error=str(error), retry_in_s=round(delay_s, 2))


def _refusal(error: Exception) -> SinkRefused | None:
    """What a failure says about the settings, if it does."""
    if isinstance(error, _REFUSALS):
        remedy = "check redis.username, redis.password and the ACL"
        return SinkRefused(f"Redis refuses us: {error}", remedy)
    # redis-py names no cause: what it was handling stands in the context.
    if isinstance(error.__context__, ssl.SSLCertVerificationError):
        remedy = "check redis.url, redis.ca_file and this machine's clock"
        return SinkRefused(f"the certificate of Redis does not hold: {error}", remedy)
    return None


def _script_call(
    prices: str, messages: list[Record], latest: dict[LatestValue, Event]
) -> tuple[list[str], list[str | int | bytes]]:
    """Keys and arguments as `latest.lua` reads them: few, for each takes hiredis 0.1 to 0.2 us to
    pack, and Redis more to take apart.
    """
    keys = [prices]
    arguments: list[str | int | bytes] = [len(messages)]
    for record in messages:
        arguments += (record.route.channel, record.value)
    grouped: defaultdict[Group, list[LatestValue]] = defaultdict(list)
    for value in latest:
        grouped[value.group].append(value)
    for group, values in grouped.items():
        keys += [value.key for value in values]
        contents = [group.contents(latest[value]) for value in values]
        arguments += (group.names, len(values), "".join(contents))
    return keys, arguments
