"""Checks whether a Redis server accepts the bridge: its user, its certificate and its rights."""

import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources

from redis import exceptions
from redis.asyncio import Redis

from bridge import settings
from bridge.brokers.redis_client import REFUSALS, connect
from bridge.core.model.events import STATUS
from bridge.core.records.latest_values import heartbeat_key, latest_key, prices_key
from bridge.core.records.record import channel_name
from bridge.errors import SinkRefused, SinkUnavailable, describe, shorten

_LUA = resources.files(__package__)
SCRIPT = _LUA.joinpath("latest.lua").read_text()
RIGHTS = _LUA.joinpath("rights.lua").read_text()
FAILURES = (exceptions.RedisError, OSError, TimeoutError)
# The symbol of the keys and channels whose rights are checked.
_ANY_SYMBOL = "BTCUSDT"

# What a server says that can never work with these settings, and the remedy.
_OF_CLUSTERS = (
    exceptions.ClusterCrossSlotError,
    exceptions.ClusterDownError,
    exceptions.MovedError,
)
_NO_CLUSTER = "give a Redis without cluster mode in redis.url"
_WRONG_SERVER = (
    ("DB index", "give a database that this server has at the end of redis.url"),
    ("SELECT is not allowed", _NO_CLUSTER),
    ("unknown command", "give a Redis that allows EVALSHA, SCRIPT LOAD, SET and PUBLISH"),
)


async def check_access(options: settings.Redis, venue: str, message_types: Sequence[str]) -> None:
    """Connect and check all that a start of the sink checks. Writes nothing.

    Raises SinkRefused, or SinkUnavailable if the server cannot be reached.
    """
    client = connect(options)
    try:
        with failures_named():
            denied = await missing_right(client, venue, message_types)
    finally:
        await client.aclose()
    if denied:
        raise rights_refusal(denied)


async def missing_right(client: Redis, venue: str, message_types: Sequence[str]) -> str:
    """Return the first right that the sink needs and the ACL denies, or an empty text.

    Raises what redis-py raises if the user, the password, the certificate or the server is wrong.
    """
    prices, heartbeat = prices_key(venue), heartbeat_key(venue)
    # Two keys: a cluster refuses keys of different slots. No message and no value: nothing changes.
    await client.register_script(SCRIPT)(keys=[prices, heartbeat], args=["0", "0"])
    keys = [prices, latest_key(venue, _ANY_SYMBOL), heartbeat]
    channels = [channel_name(venue, each, _ANY_SYMBOL) for each in (*message_types, STATUS)]
    denied: bytes = await client.register_script(RIGHTS)(keys=keys, args=channels)
    return text_of(denied)


def rights_refusal(denied: str) -> SinkRefused:
    """Return the error for a right that is missing."""
    return SinkRefused(
        f"Redis refuses us: the ACL denies {denied}",
        "grant the rights that docs/guides/kafka-and-redis.md lists",
    )


@contextmanager
def failures_named() -> Iterator[None]:
    """Raise SinkRefused for an error of redis-py that shows that a setting is wrong, and
    SinkUnavailable for every other one.
    """
    try:
        yield
    except FAILURES as error:
        raise _refusal(error) or SinkUnavailable(f"Redis: {describe(error)}") from error


def _refusal(error: Exception) -> SinkRefused | None:
    if isinstance(error, REFUSALS):
        remedy = "check redis.username, redis.password and the ACL"
        return SinkRefused(f"Redis refuses us: {describe(error)}", remedy)
    # redis-py sets no `__cause__`; the error that it handled is the context.
    if isinstance(error.__context__, ssl.SSLCertVerificationError):
        remedy = "check redis.url, redis.ca_file and this machine's clock"
        return SinkRefused(
            f"the certificate of Redis cannot be verified: {describe(error)}", remedy
        )
    if isinstance(error, _OF_CLUSTERS):
        return SinkRefused(f"Redis cannot be used: {describe(error)}", _NO_CLUSTER)
    for words, remedy in _WRONG_SERVER:
        if words in str(error):
            return SinkRefused(f"Redis cannot be used: {describe(error)}", remedy)
    return None


def text_of(answer: bytes) -> str:
    """Return a text that a script has returned."""
    return shorten(answer.decode(errors="replace"))
