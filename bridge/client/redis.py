"""Events from Redis pub/sub: the fast path, which stores nothing.

An event is lost for a subscriber that is not connected, or is behind by more than the server allows
(`client-output-buffer-limit`). To get every event, read Kafka.
"""

import logging
import re
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

from redis import exceptions

from bridge import settings
from bridge.brokers.redis_client import REFUSALS, connect
from bridge.client.events import AnyEvent, ForeignMessage, decode_event
from bridge.client.feed import Feed
from bridge.client.message_types import Names, check_message_types, upper_symbols
from bridge.client.reconnect import until_open
from bridge.core.model.stream import SPOT
from bridge.errors import SinkRefused, SinkUnavailable, describe
from bridge.retry import check_cancelled
from bridge.settings.urls import SecretUrl

# A quiet market and a hanging server look the same: check after this time without messages.
QUIET_S = 5.0
# Messages that are taken at a time.
BATCH_MAX_MESSAGES = 1000

_PATTERN = re.compile(r"[*?\[]")

log = logging.getLogger(__name__)


class RedisFeed(Feed):
    """Reads events as they are published. An async context manager: after entry it is subscribed.
    If Redis goes away, it logs that, reconnects and subscribes again; what was published meanwhile
    is missed.

        async with RedisFeed("redis://localhost:6379/0", "trade", symbols="*USDT") as feed:
            async for event in feed:
                ...

    `redis` is a URL or the section `redis` of the settings. `message_types` are for example trade
    and quote; one may be given as a string, and so may one symbol. A symbol may be a pattern of
    Redis (`*USDT`). Without `symbols`, all symbols are read.

    Raises ValueError for an unknown message type, SinkRefused if the server rejects the
    credentials, and UnreadableEvent for an event of another version; reading can go on after it.
    Entry raises SinkUnavailable if the server is absent. Messages that no bridge can have published
    are passed over.
    """

    def __init__(
        self,
        redis: str | settings.Redis,
        message_types: Names,
        *,
        symbols: Names = (),
        venue: str = SPOT,
    ) -> None:
        self._options = redis_options(redis)
        channels = [
            f"{venue}.{kind}:{name}"
            for kind in check_message_types(message_types)
            for name in upper_symbols(symbols) or ("*",)
        ]
        self._patterns = [name for name in channels if _PATTERN.search(name)]
        self._channels = [name for name in channels if name not in self._patterns]
        self._arrived: deque[bytes] = deque()

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._close()

    def ready(self) -> AnyEvent | None:
        """Return the next event if it has arrived; None if `read_more` must come first.

        Raises UnreadableEvent.
        """
        while self._arrived:
            with suppress(ForeignMessage):
                return decode_event(self._arrived.popleft())
        return None

    async def read_more(self) -> None:
        """Wait for a message, at most QUIET_S while Redis answers. Take all that have come."""
        try:
            with redis_errors(self._options):
                self._keep(await self._next())
                while len(self._arrived) < BATCH_MAX_MESSAGES:
                    if not (message := await self._pubsub.get_message(timeout=0)):
                        break
                    self._keep(message)
        except SinkUnavailable as error:
            log.warning("Listening is interrupted: %s", error)
            await self._close()
            await until_open("Redis", self._open)
            log.warning("Listening continues; what was published meanwhile is missed")

    async def values(self) -> AsyncGenerator[bytes, None]:
        """Yield each message of the requested channels, without end."""
        while True:
            while self._arrived:
                yield self._arrived.popleft()
            await self.read_more()

    def _keep(self, message: dict[str, Any]) -> None:
        if message["type"] in {"message", "pmessage"}:
            self._arrived.append(message["data"])
        check_cancelled()

    async def _next(self) -> dict[str, Any]:
        """Return the next message; on a quiet channel it is the answer to a ping."""
        message: dict[str, Any] | None = await self._pubsub.get_message(timeout=QUIET_S)
        if message is None:
            await self._pubsub.ping()
            message = await self._answer()
        return message

    async def _open(self) -> None:
        self._client = connect(self._options)
        self._pubsub = self._client.pubsub()
        try:
            with redis_errors(self._options):
                await self._subscribe()
        except BaseException:
            await self._close()
            raise

    async def _subscribe(self) -> None:
        """Subscribe, and wait until the server has confirmed every channel."""
        if self._channels:
            await self._pubsub.subscribe(*self._channels)
        if self._patterns:
            await self._pubsub.psubscribe(*self._patterns)
        for _ in (*self._channels, *self._patterns):
            await self._answer()

    async def _answer(self) -> dict[str, Any]:
        message: dict[str, Any] | None = await self._pubsub.get_message(
            timeout=self._options.timeout_s
        )
        if message is None:
            raise TimeoutError(f"no answer within {self._options.timeout_s:g} s")
        return message

    async def _close(self) -> None:
        with suppress(exceptions.RedisError, OSError):
            await self._pubsub.aclose()  # type: ignore[no-untyped-call]
        with suppress(exceptions.RedisError, OSError):
            await self._client.aclose()


def redis_options(redis: str | settings.Redis) -> settings.Redis:
    """Return the section `redis` for a URL. Raises ValueError if it is not a Redis URL."""
    return redis if isinstance(redis, settings.Redis) else settings.Redis(url=SecretUrl(redis))


@contextmanager
def redis_errors(options: settings.Redis) -> Iterator[None]:
    """Turn the errors of the library into ours."""
    try:
        yield
    except REFUSALS as error:
        raise SinkRefused(
            f"Redis at {options.url} refuses access: {describe(error)}",
            "check redis.username, redis.password and the ACL",
        ) from error
    except (exceptions.RedisError, OSError) as error:
        what = describe(error).rstrip(".")
        raise SinkUnavailable(
            f"Redis at {options.url}: {what}; check that it is running, and check redis.url"
        ) from error
