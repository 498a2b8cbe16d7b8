"""Events from Redis pub/sub: the fast path, which stores nothing.

An event is lost for a subscriber that is not connected, or is behind by more than the server allows
(`client-output-buffer-limit`). To get every event, read Kafka.
"""

import logging
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

from redis import exceptions

from bridge import settings
from bridge.brokers.redis_client import REFUSALS, connect
from bridge.client.events import AnyEvent, ForeignMessage, decode_event
from bridge.client.message_types import Names, check_message_types, upper_symbols
from bridge.client.reconnect import until_open
from bridge.core.model.stream import SPOT
from bridge.errors import SinkRefused, SinkUnavailable
from bridge.retry import check_cancelled
from bridge.settings.urls import SecretUrl

# A quiet market and a hanging server look the same: check after this time without messages.
QUIET_S = 5.0

log = logging.getLogger(__name__)


async def redis_events(
    redis: str | settings.Redis,
    message_types: Names,
    *,
    symbols: Names = (),
    venue: str = SPOT,
) -> AsyncGenerator[AnyEvent, None]:
    """Yield events as they are published, without end. Arguments and errors are those of
    RedisReader.

    Raises UnreadableEvent for an event of another version. Messages that no bridge can have
    published are passed over.
    """
    async with RedisReader(redis, message_types, symbols=symbols, venue=venue) as reader:
        async for value in reader.values():
            with suppress(ForeignMessage):
                yield decode_event(value)


class RedisReader:
    """Reads messages, byte for byte. An async context manager: after entry it is subscribed. If
    Redis goes away, it logs that, reconnects and subscribes again; what was published meanwhile is
    missed.

    `redis` is a URL or the section `redis` of the settings. `message_types` are for example trade
    and quote; one may be given as a string, and so may one symbol. Without `symbols`, all symbols
    are read.

    Raises ValueError for an unknown message type, and SinkRefused if the server rejects the
    credentials. Entry raises SinkUnavailable if the server is absent.
    """

    def __init__(
        self,
        redis: str | settings.Redis,
        message_types: Names,
        *,
        symbols: Names = (),
        venue: str = SPOT,
    ) -> None:
        names = upper_symbols(symbols)
        self._options = redis_options(redis)
        self._by_pattern = not names
        self._channels = [
            f"{venue}.{kind}:{name}"
            for kind in check_message_types(message_types)
            for name in names or ("*",)
        ]

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._close()

    async def values(self) -> AsyncGenerator[bytes, None]:
        """Yield each message of the requested channels, without end."""
        while True:
            try:
                message = await self._next()
            except SinkUnavailable as error:
                log.warning("Listening is interrupted: %s", error)
                await self._close()
                await until_open("Redis", self._open)
                log.warning("Listening continues; what was published meanwhile is missed")
                continue
            check_cancelled()
            if message["type"] in {"message", "pmessage"}:
                yield message["data"]

    async def _next(self) -> dict[str, Any]:
        """Return the next message; on a quiet channel it is the answer to a ping."""
        with redis_errors(self._options):
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
        subscribe = self._pubsub.psubscribe if self._by_pattern else self._pubsub.subscribe
        await subscribe(*self._channels)
        for _ in self._channels:
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
            f"Redis at {options.url} refuses access: {error}",
            "check redis.username, redis.password and the ACL",
        ) from error
    except (exceptions.RedisError, OSError) as error:
        what = str(error).rstrip(".") or type(error).__name__
        raise SinkUnavailable(
            f"Redis at {options.url}: {what}; check that it is running, and check redis.url"
        ) from error
