"""The options that all Kafka clients share, and the translation of aiokafka's errors to ours."""

import asyncio
import ssl
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from aiokafka import errors as kafka_errors
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import create_conn
from aiokafka.errors import TopicAuthorizationFailedError
from aiokafka.helpers import create_ssl_context
from aiokafka.partitioner import DefaultPartitioner

from bridge import settings
from bridge.brokers.oauth import TokenProvider
from bridge.core.model.shard import ShardId
from bridge.errors import SinkRefused, SinkUnavailable, TopicsDenied, describe

STOP_TIMEOUT_S = 3.0


class InvalidRecordError(kafka_errors.BrokerResponseError):  # type: ignore[misc]
    """A rule of the broker rejects a record. aiokafka does not know this code."""

    errno = 87
    message = "INVALID_RECORD"
    description = "This record has failed the validation on the broker."


kafka_errors.kafka_errors[InvalidRecordError.errno] = InvalidRecordError

# The errors of a Kafka client if the cluster fails or cannot be reached.
FAILURES = (kafka_errors.KafkaError, OSError, TimeoutError)
_REFUSALS = (
    kafka_errors.AuthenticationFailedError,
    kafka_errors.SaslAuthenticationFailed,
    kafka_errors.UnsupportedSaslMechanismError,
    ssl.SSLCertVerificationError,
)


def partition_of_key(key: bytes, partitions: list[int]) -> int:
    """Return the partition that the Java client chooses, so that clients in every language find a
    symbol in the same partition.
    """
    partition: int = DefaultPartitioner()(key, partitions, partitions)
    return partition


@lru_cache(maxsize=65_536)
def has_symbol(shard: ShardId, symbol: str) -> bool:
    """Return whether a symbol belongs to a shard: its partition does, in each topic."""
    partitions = list(range(shard.count))
    return shard.count == 1 or partition_of_key(symbol.encode(), partitions) == shard.number


def client_options(options: settings.Kafka) -> dict[str, Any]:
    """Return the keyword arguments that every aiokafka client takes."""
    return {
        "bootstrap_servers": options.bootstrap_servers,
        "client_id": options.client_id,
        "request_timeout_ms": options.request_timeout_ms,
        **_security(options),
    }


def failure(error: Exception, servers: Sequence[str] = ()) -> SinkRefused | SinkUnavailable:
    """Return our error for one of aiokafka's. `servers` are named if the connection failed."""
    if isinstance(error, TopicAuthorizationFailedError):
        return topics_denied(error)
    if isinstance(error, kafka_errors.ClusterAuthorizationFailedError):
        return SinkRefused(
            f"Kafka refuses us: {describe(error)}",
            "grant IdempotentWrite on the cluster to the user of the bridge",
        )
    if isinstance(error, _REFUSALS):
        return SinkRefused(
            f"Kafka refuses us: {describe(error)}",
            "check kafka.security_protocol, kafka.sasl_mechanism, kafka.username, kafka.password, "
            "kafka.oauth_token_url and kafka.ca_file",
        )
    if isinstance(error, kafka_errors.InvalidTimestampError):
        return SinkUnavailable(
            "Kafka refuses the time of a record; check message.timestamp.before.max.ms and "
            "message.timestamp.after.max.ms of the topic, and the clock of this machine"
        )
    if isinstance(error, InvalidRecordError):
        return SinkUnavailable(
            "Kafka refuses a record (INVALID_RECORD); check the rules for records of this topic, "
            "like the schema validation of the broker"
        )
    where = f"Kafka at {', '.join(servers)}" if servers else "Kafka"
    return SinkUnavailable(f"{where}: {describe(error)}")


def topics_denied(error: TopicAuthorizationFailedError) -> TopicsDenied:
    """Return our error for one of aiokafka's, which names topics as a text, in a set, or none."""
    named = error.args[0] if error.args else ()
    return TopicsDenied([named] if isinstance(named, str) else sorted(named))


async def reason_of(options: settings.Kafka, error: Exception) -> Exception:
    """Return the reason why a client could not start, found by further connections.

    aiokafka only logs the reason. Its exception says no more than that the bootstrap failed, or
    nothing if a broker cannot be reached at the address that it advertises.
    """
    try:
        return await unreachable_broker(options) or error
    except FAILURES as reason:
        return reason


async def unreachable_broker(options: settings.Kafka) -> SinkUnavailable | None:
    """Return an error that names the first broker that cannot be reached at its advertised address;
    None if there is no such broker.

    Raises the reason if the first bootstrap server cannot be reached, and what aiokafka raises.
    """
    host, _, port = options.bootstrap_servers[0].rpartition(":")
    await _try_address(options, host.strip("[]"), int(port))
    client = AIOKafkaClient(**client_options(options))
    try:
        async with asyncio.timeout(options.request_timeout_ms / 1000):
            await client.bootstrap()
    finally:
        await client.close()
    for broker in client.cluster.brokers():
        try:
            await _try_address(options, broker.host, broker.port)
        except FAILURES as error:
            late = f"no answer within {options.request_timeout_ms} ms"
            reason = late if isinstance(error, TimeoutError) else describe(error)
            return SinkUnavailable(
                f"broker {broker.nodeId} advertises {broker.host}:{broker.port}, which cannot be "
                f"reached from here ({reason}); check advertised.listeners of the broker"
            )
    return None


async def _try_address(options: settings.Kafka, host: str, port: int) -> None:
    async with asyncio.timeout(options.request_timeout_ms / 1000):
        connection = await create_conn(
            host, port, request_timeout_ms=options.request_timeout_ms, **_security(options)
        )
    connection.close()


def _security(options: settings.Kafka) -> dict[str, Any]:
    security: dict[str, Any] = {"security_protocol": options.security_protocol}
    if options.security_protocol in {"SSL", "SASL_SSL"}:
        security["ssl_context"] = _ssl_context(options)
    if options.sasl_mechanism is not None:
        security["sasl_mechanism"] = options.sasl_mechanism
    if options.sasl_mechanism == "OAUTHBEARER":
        security["sasl_oauth_token_provider"] = TokenProvider(options)
    elif options.password is not None:
        security |= {
            "sasl_plain_username": options.username,
            "sasl_plain_password": options.password.get_secret_value(),
        }
    return security


def _ssl_context(options: settings.Kafka) -> ssl.SSLContext:
    try:
        context: ssl.SSLContext = create_ssl_context(
            cafile=options.ca_file,
            certfile=options.cert_file,
            keyfile=options.key_file,
            password=options.key_password.get_secret_value() if options.key_password else "",
        )
    except ssl.SSLError as error:
        raise SinkRefused(
            f"the certificates for Kafka cannot be used: {error}",
            "check kafka.ca_file, kafka.cert_file, kafka.key_file (PEM files), kafka.key_password",
        ) from error
    return context
