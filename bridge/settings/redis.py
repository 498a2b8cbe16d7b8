"""The section `redis`."""

from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from bridge.settings import types, urls
from bridge.settings.section import Section, check_key
from bridge.settings.types import WrongValue


class Redis(Section):
    """The Redis server that receives the latest prices and the pub/sub messages."""

    url: urls.RedisUrl = urls.SecretUrl("redis://localhost:6379/0")
    """Server and database: redis://host:port/db, rediss:// for TLS, or unix:///path."""
    username: str | None = Field(default=None, min_length=1)
    """User name; overrides the one in the URL."""
    password: types.Password | None = None
    """Password; overrides the one in the URL."""
    ca_file: types.ReadableFile | None = None
    """PEM file with the certificate authorities to trust; by default those of the system."""
    cert_file: types.ReadableFile | None = None
    """PEM file with the client certificate, for servers that require one."""
    key_file: types.ReadableFile | None = None
    """PEM file with the private key of cert_file."""
    timeout_s: float = Field(default=1.0, gt=0, le=60)
    """Maximum time to connect, and to wait for a response, in seconds."""
    publish_max_records: int = Field(default=50_000, ge=1, le=10_000_000)
    """Maximum number of messages that wait to be published. If there are more, the oldest are
    dropped and counted."""
    flush_max_records: int = Field(default=2000, ge=1, le=10_000)
    """Maximum number of messages in one call to the server."""

    @field_validator("ca_file", "cert_file", "key_file")
    @classmethod
    def _files_with_tls(cls, value: Any, info: ValidationInfo) -> Any:
        url = info.data.get("url")
        if value is not None and url and not url.get_secret_value().startswith("rediss://"):
            raise WrongValue(
                "has no effect without TLS", "remove it, or use rediss:// in redis.url"
            )
        return value

    @field_validator("key_file")
    @classmethod
    def _complete_key(cls, value: Any, info: ValidationInfo) -> Any:
        return check_key(value, info, "redis")
