"""A Redis client from our settings: short timeouts, no retries of its own, verified TLS."""

from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from bridge import settings


def connect(options: settings.Redis) -> Redis:
    """A client of one connection, opened at the first command.

    redis-py's own defaults let one GET at a hung server take 59 s; here each step takes at most
    `timeout_s`, and who calls decides what is tried again.
    """
    client = Redis.from_url(
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
    pool = client.connection_pool
    # Not with the others: what the URL says would go before them.
    pool.connection_kwargs |= _given(
        username=options.username,
        password=options.password.get_secret_value() if options.password else None,
    )
    pool.connection_class = _packing(pool.connection_class)
    return client


def _packing(connection_class: type[AbstractConnection]) -> type[AbstractConnection]:
    """Connections of a kind that have their commands packed by hiredis.

    redis-py's asyncio connections use it to read only; their own packing takes 1 us a message of a
    flush, hiredis' 0.16.
    """

    class Packing(connection_class):  # type: ignore[misc, valid-type]
        def pack_command(self, *args: Any) -> list[bytes]:
            name, *arguments = args
            return [hiredis.pack_command((*name.split(), *arguments))]

    return Packing


def _given(**options: str | None) -> dict[str, Any]:
    """Only what is set: `from_url` would let a None here hide what the URL says."""
    return {name: value for name, value in options.items() if value is not None}


def _path(path: object) -> str | None:
    return None if path is None else str(path)
