"""Tokens for Kafka from an OAuth 2.0 server, by client credentials (RFC 6749, section 4.4).

The HTTP client is Python's own, in a thread: a program that only reads has no other one.
"""

import asyncio
import base64
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Annotated, Any

import msgspec
from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import AuthenticationFailedError, KafkaConnectionError

from bridge import settings
from bridge.core.model.unreadable import UNREADABLE
from bridge.errors import describe, shorten

ANSWER_MAX_BYTES = 64 * 2**10
# A token is replaced so long before it expires.
LEEWAY_S = 30.0
# The lifetime of a token if the server does not tell it.
DEFAULT_LIFETIME_S = 300.0


class _Answer(msgspec.Struct):
    """A successful answer (RFC 6749, section 5.1). Some servers send the number as a text."""

    access_token: Annotated[str, msgspec.Meta(pattern="^[ -~]+$")]
    expires_in: float | None = None


class TokenProvider(AbstractTokenProvider):  # type: ignore[misc]
    """Fetches a token when a connection opens, and uses it until shortly before it expires."""

    def __init__(self, options: settings.Kafka) -> None:
        self._options = options
        self._token = ""
        self._expires_s = 0.0
        self._fetching = asyncio.Lock()

    async def token(self) -> str:
        """Return a token that is valid now.

        Raises AuthenticationFailedError if the server refuses our credentials, and
        KafkaConnectionError if it cannot be reached. Both are what aiokafka expects.
        """
        async with self._fetching:
            if time.monotonic() > self._expires_s - LEEWAY_S:
                async with asyncio.timeout(self._options.request_timeout_ms / 1000):
                    answer = await asyncio.to_thread(_fetch, self._options)
                self._token, lifetime_s = _parse(answer)
                self._expires_s = time.monotonic() + lifetime_s
        return self._token


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the other host would get our secret."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _fetch(options: settings.Kafka) -> bytes:
    assert options.oauth_token_url is not None  # noqa: S101 - OAUTHBEARER requires it
    assert options.password is not None  # noqa: S101 - and a password
    form = {"grant_type": "client_credentials"}
    if options.oauth_scope:
        form["scope"] = options.oauth_scope
    names = (options.username or "", options.password.get_secret_value())
    # RFC 6749, section 2.3.1: both are encoded like a form before they are joined.
    pair = ":".join(map(urllib.parse.quote_plus, names))
    request = urllib.request.Request(  # noqa: S310 - the settings allow http and https only
        options.oauth_token_url,
        data=urllib.parse.urlencode(form).encode(),
        headers={
            "Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}",
            "Accept": "application/json",
        },
    )
    opener = urllib.request.build_opener(
        _NoRedirect, urllib.request.HTTPSHandler(context=_context(options))
    )
    timeout_s = options.request_timeout_ms / 1000
    where = f"the token server {options.oauth_token_url}"
    try:
        with opener.open(request, timeout=timeout_s) as answer:
            body: bytes = answer.read(ANSWER_MAX_BYTES)
    except urllib.error.HTTPError as error:
        with error:
            text = shorten(error.read(ANSWER_MAX_BYTES).decode(errors="replace"))
        if error.code in {400, 401, 403}:
            raise AuthenticationFailedError(f"{where} answers {error.code}: {text}") from None
        raise KafkaConnectionError(f"{where} answers {error.code}: {text}") from None
    except (OSError, ValueError) as error:
        raise KafkaConnectionError(f"{where}: {describe(error)}") from None
    return body


def _context(options: settings.Kafka) -> ssl.SSLContext:
    """Return a context that trusts the authorities of the system and those of `kafka.ca_file`."""
    context = ssl.create_default_context()
    if options.ca_file is not None:
        context.load_verify_locations(options.ca_file)
    return context


def _parse(answer: bytes) -> tuple[str, float]:
    """Return the token of an answer, and its lifetime in seconds.

    Raises AuthenticationFailedError if there is none.
    """
    try:
        found = msgspec.json.decode(answer, type=_Answer, strict=False)
    except UNREADABLE:
        raise AuthenticationFailedError("the token server sends no access_token") from None
    lifetime_s = found.expires_in
    return found.access_token, DEFAULT_LIFETIME_S if lifetime_s is None else lifetime_s
