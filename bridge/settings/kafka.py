"""The section `kafka`."""

from typing import Any, Literal

from pydantic import ByteSize, Field, ValidationInfo, field_validator

from bridge.settings import types, urls
from bridge.settings.room import PROCESS_BYTES, human, memory_bytes
from bridge.settings.section import Seconds, Section, check_key
from bridge.settings.types import WrongValue


class Kafka(Section):
    """The Kafka cluster that receives every event."""

    bootstrap_servers: types.Listed[urls.Server] = Field(default=["localhost:9092"], min_length=1)
    """Brokers to contact first, each host:port."""
    client_id: str = Field(default="tickbridge", pattern=r"^[a-zA-Z0-9._-]{1,255}$")
    """Name of the bridge in the logs, metrics and quotas of the brokers."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """Protocol of the brokers: SSL encrypts, SASL_PLAINTEXT authenticates, SASL_SSL does both. With
    SASL_PLAINTEXT a password or token can be read on the network."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = None
    """Authentication mechanism; only with SASL."""
    username: str | None = Field(default=None, min_length=1)
    """User name, or with OAUTHBEARER the client id; only with SASL."""
    password: types.Password | None = None
    """Password, or with OAUTHBEARER the client secret; only with SASL."""
    oauth_token_url: urls.TokenUrl | None = None
    """URL of the OAuth 2.0 server that gives tokens for client id and secret; only with
    OAUTHBEARER."""
    oauth_scope: str | None = Field(default=None, min_length=1)
    """Scope of the tokens, if the server needs one; only with OAUTHBEARER."""
    ca_file: types.ReadableFile | None = None
    """PEM file with the certificate authorities to trust; by default those of the system."""
    cert_file: types.ReadableFile | None = None
    """PEM file with the client certificate, for brokers that require one."""
    key_file: types.ReadableFile | None = None
    """PEM file with the private key of cert_file."""
    key_password: types.Password | None = None
    """Password of key_file."""
    topic: types.TopicTemplate = "{venue}.{message_type}"
    """Template of topic names; {venue} is binance.spot, {message_type} is for example trade."""
    create_topics: bool = True
    """If true, missing topics are created at start."""
    partitions: int = Field(default=6, ge=1, le=1000)
    """Number of partitions of a new topic. All events of a symbol go to one partition."""
    replication_factor: types.NotZero = Field(default=-1, le=32767)
    """Number of replicas of a new topic; -1: the broker's default."""
    retention_ms: types.NotZero | None = None
    """Retention time of a new topic, in milliseconds; -1: unlimited, null: the broker's default."""
    compression: Literal["none", "gzip", "lz4", "zstd", "snappy"] = "zstd"
    """Compression of record batches. Here, zstd takes an eighth of the CPU time of lz4, and less
    space."""
    batch_max_bytes: types.Size = Field(default=ByteSize(900_000), ge=16 * 2**10, lt=2**20)
    """Maximum size of one batch, in bytes or with a unit (512KiB). It must stay below
    max.message.bytes of the topics."""
    request_timeout_ms: int = Field(default=10_000, ge=100, le=600_000)
    """Maximum time to wait for the response of a broker, in milliseconds."""
    outbox_max_bytes: types.Size = Field(default=ByteSize(256 * 2**20), ge=2**20, le=2**40)
    """Maximum size of the records that wait for Kafka in memory, in bytes or with a unit (256MiB,
    1GiB)."""
    transactional_id: str | None = None
    """Transactional id with which the bridge makes itself the only writer of its topics. By default
    tickbridge. and the name of the position topic; an empty text: no such protection."""
    delivery_timeout_s: Seconds = 30
    """Time without any acknowledgement after which the producer is replaced, in seconds."""

    @field_validator("sasl_mechanism", "username", "password")
    @classmethod
    def _all_with_sasl(cls, value: Any, info: ValidationInfo) -> Any:
        protocol = info.data.get("security_protocol")
        if protocol in {"SASL_PLAINTEXT", "SASL_SSL"} and value is None:
            raise WrongValue(
                "is missing", f"{protocol} needs sasl_mechanism, username and password"
            )
        if protocol in {"PLAINTEXT", "SSL"} and value is not None:
            raise WrongValue(
                f"has no effect with security_protocol {protocol}",
                "remove it, or set kafka.security_protocol: SASL_SSL or SASL_PLAINTEXT",
            )
        return value

    @field_validator("oauth_token_url", "oauth_scope")
    @classmethod
    def _tokens_with_oauth(cls, value: Any, info: ValidationInfo) -> Any:
        is_oauth = info.data.get("sasl_mechanism") == "OAUTHBEARER"
        if is_oauth and value is None and info.field_name == "oauth_token_url":
            raise WrongValue("is missing", "OAUTHBEARER needs the URL that gives tokens")
        if value is not None and not is_oauth and "sasl_mechanism" in info.data:
            raise WrongValue(
                "has no effect without OAUTHBEARER",
                "remove it, or set kafka.sasl_mechanism: OAUTHBEARER",
            )
        return value

    @field_validator("ca_file", "cert_file", "key_file")
    @classmethod
    def _files_with_tls(cls, value: Any, info: ValidationInfo) -> Any:
        protocol = info.data.get("security_protocol")
        if value is not None and protocol in {"PLAINTEXT", "SASL_PLAINTEXT"}:
            raise WrongValue(
                f"has no effect with security_protocol {protocol}",
                "remove it, or set kafka.security_protocol: SSL or SASL_SSL",
            )
        return value

    @field_validator("key_file", "key_password")
    @classmethod
    def _complete_key(cls, value: Any, info: ValidationInfo) -> Any:
        return check_key(value, info, "kafka")

    @field_validator("outbox_max_bytes")
    @classmethod
    def _fits_in_memory(cls, size: ByteSize) -> ByteSize:
        memory = memory_bytes()
        if size + PROCESS_BYTES > memory:
            raise WrongValue(
                f"does not fit: with the {human(PROCESS_BYTES)} of the bridge itself it is more "
                f"than the {human(memory)} of memory here",
                "set it lower, or give the bridge more memory",
            )
        return size

    @field_validator("delivery_timeout_s")
    @classmethod
    def _outlasts_a_request(cls, seconds: float, info: ValidationInfo) -> float:
        if seconds * 1000 <= info.data.get("request_timeout_ms", 0):
            raise WrongValue(
                "must be longer than the timeout of one request",
                "increase it, or decrease kafka.request_timeout_ms",
            )
        return seconds
