"""The section `redis`."""

from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from bridge.settings import types, urls
from bridge.settings.section import Section, check_key
from bridge.settings.types import WrongValue


class Redis(Section):
    """Where the latest prices and the fast path go."""

    url: urls.RedisUrl = urls.SecretUrl("redis://localhost:6379/0")
    """Server and database: redis://host:port/db, rediss:// with TLS, or unix:///path."""
    username: str | None = Field(default=None, min_length=1)
    """User; goes before the one in the URL."""
    password: types.Password | None = None
    """Password; goes before the one in the URL."""
    ca_file: types.ReadableFile | None = None
    """PEM file of the authorities to trust; the system's where none is named."""
    cert_file: types.ReadableFile | None = None
    """PEM file of our own certificate, for servers that want one."""
    key_file: types.ReadableFile | None = None
    """PEM file of the private key of cert_file."""
    timeout_s: float = Field(default=1.0, gt=0, le=60)
    """Longest time to connect, and to wait for an answer, in seconds."""
    publish_max_records: int = Field(default=50_000, ge=1, le=10_000_000)
    """Most messages that wait to be published; beyond, the oldest go, and are counted."""
    flush_max_records: int = Field(default=2000, ge=1, le=10_000)
    """Most messages in one call of the server."""

    @field_validator("ca_file", "cert_file", "key_file")
    @classmethod
    def _files_with_tls(cls, value: Any, info: ValidationInfo) -> Any:
        url = info.data.get("url")
        if value is not None and url and not url.get_secret_value().startswith("rediss://"):
            raise WrongValue("has no use without TLS", "remove it, or set a rediss:// redis.url")
        return value

    @field_validator("key_file")
    @classmethod
    def _complete_key(cls, value: Any, info: ValidationInfo) -> Any:
        return check_key(value, info, "redis")
