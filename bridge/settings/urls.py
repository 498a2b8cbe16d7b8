"""Checks for URLs and addresses, and the masking of passwords in them."""

import re
from collections.abc import Callable
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, Secret

from bridge.settings.types import MASK, WrongValue

_USER = re.compile(r"(?s)^(?:((?:https?|rediss?|unix|wss?)://).*@|.*:.*@)")
_HOST = re.compile(r"[\w.:-]+")  # the parser removes the brackets of an IPv6 address
_SERVER = re.compile(r"(?:[\w.-]+|\[[0-9a-fA-F:.]+\]):\d{1,5}")

# Each exchange has different trades under the same ids. The first pattern that matches counts.
# Source: "General API information" in the documentation of Binance and of Binance.US.
_EXCHANGES = (
    (re.compile(r"(.+\.)?testnet\.binance\.(vision|com)"), "the test network"),
    (re.compile(r"demo-.+\.binance\.com"), "the demo market"),
    (re.compile(r".+\.binance\.us"), "Binance.US"),
    (re.compile(r".+\.binance\.(com|vision)"), "Binance"),
)


def hide_user(text: str) -> str:
    """Mask everything before the last `@` of a URL or address, which may contain a password."""
    return _USER.sub(rf"\1{MASK}@", text)


class SecretUrl(Secret[str]):
    """A URL that may contain a user and a password. They are never shown."""

    def _display(self) -> str:
        return hide_user(self.get_secret_value())

    def without_user(self) -> str:
        """Return the URL without its user and password."""
        return _USER.sub(r"\1", self.get_secret_value())


def _server(text: str) -> str:
    url = _split(f"//{text}")
    if not _SERVER.fullmatch(text) or url is None or not url.port:
        raise WrongValue("is not host:port", "write localhost:9092, or several separated by commas")
    return text


def _split(text: str) -> SplitResult | None:
    """Split a URL into its parts, or return None if it is not a URL.

    The error text of the parser is not used, because it quotes the URL.
    """
    try:
        url = urlsplit(text)
        url.port  # noqa: B018  # parsed and checked on access
    except ValueError:
        return None
    return url


def exchange_of(url: str) -> str | None:
    """Return the name of the exchange that owns the host of `url`.

    Return None for an unknown host, for example that of a simulator or a gateway.
    """
    host = urlsplit(url).hostname or ""
    return next((name for pattern, name in _EXCHANGES if pattern.fullmatch(host)), None)


def _base_url(*schemes: str) -> Callable[[str], str]:
    example = f"write {schemes[-1]}://host or {schemes[-1]}://host:port"

    def check(text: str) -> str:
        url = _split(text)
        if url is None or url.scheme not in schemes or not _HOST.fullmatch(url.hostname or ""):
            raise WrongValue(f"is not a {' or '.join(schemes)} URL", example)
        if url.path.strip("/") or url.query or url.fragment or url.username is not None:
            raise WrongValue("contains more than a host and a port", example)
        return text.rstrip("/")

    return check


def _token_url(text: str) -> str:
    url = _split(text)
    if url is None or url.scheme not in {"http", "https"} or not url.hostname:
        raise WrongValue("is not an https URL", "write https://host/path")
    if url.username is not None or url.fragment:
        raise WrongValue(
            "contains a user or a fragment", "remove it; kafka.username is the client id"
        )
    return text


def _redis_url(secret: SecretUrl) -> SecretUrl:
    url = _split(secret.get_secret_value())
    remedy = (
        "write redis://host:6379/0, rediss://host:6379/0 (TLS) or unix:///path/to/socket?db=0; "
        "a password with special characters belongs in redis.password"
    )
    if url is None or not re.match("(rediss?|unix)://", secret.get_secret_value()):
        raise WrongValue("is not a Redis URL", remedy)
    if url.scheme == "unix":
        return _checked_socket(secret, url, remedy)
    if not url.hostname or not re.fullmatch(r"(/\d*)?", url.path):
        raise WrongValue("has no host, or its database is not a number", remedy)
    if url.query or url.fragment:
        raise WrongValue(
            "has a query", "remove it, and set redis.username, redis.timeout_s… instead"
        )
    return secret


def _checked_socket(secret: SecretUrl, url: SplitResult, remedy: str) -> SecretUrl:
    if not url.path.strip("/") or not re.fullmatch(r"(db=\d+)?", url.query):
        raise WrongValue("has no path of a socket, or has a query other than db=N", remedy)
    return secret


def is_http_proxy(text: str) -> bool:
    """Return whether this is the URL of an HTTP proxy."""
    url = _split(text)
    if url is None or url.scheme not in {"http", "https"} or not url.hostname:
        return False
    has_more = url.path.strip("/") or url.query or url.fragment
    return not has_more and (url.username is None) == (url.password is None)


def _proxy(secret: SecretUrl) -> SecretUrl:
    text = secret.get_secret_value()
    if text not in {"environment", "none"} and not is_http_proxy(text):
        raise WrongValue("is not an HTTP proxy", "write http://host:port, none or environment")
    return secret


Server = Annotated[str, AfterValidator(_server)]
WebSocketUrl = Annotated[str, AfterValidator(_base_url("ws", "wss"))]
RestUrl = Annotated[str, AfterValidator(_base_url("http", "https"))]
RedisUrl = Annotated[SecretUrl, AfterValidator(_redis_url)]
TokenUrl = Annotated[str, AfterValidator(_token_url)]
Proxy = Annotated[SecretUrl, AfterValidator(_proxy)]
