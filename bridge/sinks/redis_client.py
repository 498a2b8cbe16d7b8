"""A Redis client from our settings: short timeouts, no retries of its own, verified TLS."""

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from bridge import settings


def connect(options: settings.Redis) -> Redis:
    """A client of one connection, opened at the first command.

    redis-py's own defaults let one GET at a hung server take 59 s; here each step takes at most
    `timeout_s`, and who calls decides what is tried again.
    """
    redis = Redis.from_url(
        options.url.get_secret_value(),
        **_given(
            ssl_ca_certs=_path(options.ca_file),
            ssl_certfile=_path(options.cert_file),
            ssl_keyfile=_path(options.key_file),
        ),
        socket_timeout=options.timeout_s,
        socket_connect_timeout=options.timeout_s,
        retry=Retry(NoBackoff(), 0),
        single_connection_client=True,
    )
    # Not with the others: what the URL says would go before them.
    redis.connection_pool.connection_kwargs |= _given(
        username=options.username,
        password=options.password.get_secret_value() if options.password else None,
    )
    return redis


def _given(**options: str | None) -> dict[str, Any]:
    """Only what is set: `from_url` would let a None here hide what the URL says."""
    return {name: value for name, value in options.items() if value is not None}


def _path(path: object) -> str | None:
    return None if path is None else str(path)
