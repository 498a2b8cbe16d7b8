"""The section `kafka`."""

from typing import Any, Literal

from pydantic import ByteSize, Field, ValidationInfo, field_validator

from bridge.settings import types, urls
from bridge.settings.section import Seconds, Section, check_key
from bridge.settings.types import WrongValue


class Kafka(Section):
    """Where the complete record goes."""

    bootstrap_servers: types.Listed[urls.Server] = Field(default=["localhost:9092"], min_length=1)
    """Brokers to start from, each host:port."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_SSL"] = "PLAINTEXT"
    """How to talk to the brokers: SSL encrypts, SASL_SSL also proves who we are."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    """How to prove it; with SASL_SSL only."""
    username: str | None = Field(default=None, min_length=1)
    """User; with SASL_SSL only."""
    password: types.Password | None = None
    """Password; with SASL_SSL only."""
    ca_file: types.ReadableFile | None = None
    """PEM file of the authorities to trust; the system's where none is named."""
    cert_file: types.ReadableFile | None = None
    """PEM file of our own certificate, for brokers that want one."""
    key_file: types.ReadableFile | None = None
    """PEM file of the private key of cert_file."""
    key_password: types.Password | None = None
    """Password of key_file."""
    topic: types.TopicTemplate = "{venue}.{message_type}"
    """Name of each topic, of {venue} (binance.spot) and {message_type} (trade)."""
    create_topics: bool = True
    """Whether to create topics that are missing, at the start."""
    partitions: int = Field(default=6, ge=1, le=1000)
    """Partitions of each topic created; a symbol stays in one."""
    replication_factor: types.NotZero = Field(default=-1, le=32767)
    """Replicas of each topic created; -1: the broker's default."""
    retention_ms: types.NotZero | None = None
    """Time a topic created keeps its records, in milliseconds; -1: for ever, null: the broker's."""
    compression: Literal["none", "gzip", "lz4", "zstd", "snappy"] = "zstd"
    """Compression of the record batches: zstd costs an eighth of lz4 here, and takes less room."""
    batch_max_bytes: types.Size = Field(default=ByteSize(900_000), ge=16 * 2**10, lt=2**20)
    """Most bytes in one batch (or 512KiB); must stay under the topics' max.message.bytes."""
    request_timeout_ms: int = Field(default=10_000, ge=100, le=600_000)
    """Longest time a broker may take to answer, in milliseconds."""
    outbox_max_bytes: types.Size = Field(default=ByteSize(256 * 2**20), ge=2**20, le=2**40)
    """Most bytes of records that wait in memory for Kafka (or 256MiB, 1GiB)."""
    delivery_timeout_s: Seconds = 30
    """Time without any acknowledgement after which the producer is replaced, in seconds."""

    @field_validator("sasl_mechanism", "username", "password")
    @classmethod
    def _all_with_sasl(cls, value: Any, info: ValidationInfo) -> Any:
        protocol = info.data.get("security_protocol")
        if protocol == "SASL_SSL" and value is None:
            raise WrongValue("is missing", "SASL_SSL needs sasl_mechanism, username and password")
        if protocol in {"PLAINTEXT", "SSL"} and value is not None:
            raise WrongValue(
                f"has no use with security_protocol {protocol}",
                "remove it, or set kafka.security_protocol: SASL_SSL",
            )
        return value

    @field_validator("ca_file", "cert_file", "key_file")
    @classmethod
    def _files_with_tls(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None and info.data.get("security_protocol") == "PLAINTEXT":
            raise WrongValue(
                "has no use with security_protocol PLAINTEXT",
                "remove it, or set kafka.security_protocol: SSL or SASL_SSL",
            )
        return value

    @field_validator("key_file", "key_password")
    @classmethod
    def _complete_key(cls, value: Any, info: ValidationInfo) -> Any:
        return check_key(value, info, "kafka")

    @field_validator("delivery_timeout_s")
    @classmethod
    def _outlasts_a_request(cls, seconds: float, info: ValidationInfo) -> float:
        if seconds * 1000 <= info.data.get("request_timeout_ms", 0):
            raise WrongValue(
                "gives up before one request may time out",
                "set it above kafka.request_timeout_ms, in seconds",
            )
        return seconds
