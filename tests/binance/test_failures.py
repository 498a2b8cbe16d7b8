"""Errors of the client libraries become our errors, without secrets."""

import socket
import ssl
from typing import Any, cast

import aiohttp
import pytest
from websockets.datastructures import Headers
from websockets.exceptions import InvalidProxy, InvalidProxyStatus, InvalidStatus, InvalidURI
from websockets.http11 import Response
from yarl import URL

from bridge.binance.failures import from_exception, from_status
from bridge.errors import FOREIGN_MAX_CHARACTERS, FeedRefused, FeedUnavailable

WHERE = "wss://stream.example:9443"
INFO = aiohttp.RequestInfo(URL("http://x"), "GET", cast("Any", {}), URL("http://x"))


def answer(status: int, **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, "Words", Headers(named))


@pytest.mark.parametrize("status", [400, 401, 404, 407, 451])
def test_a_status_of_wrong_settings_has_a_remedy(status: int) -> None:
    error = from_status(status, None, WHERE)
    assert isinstance(error, FeedRefused)
    assert WHERE in str(error)
    assert "binance." in error.remedy


@pytest.mark.parametrize("status", [500, 502, 503, 504, 302, 408])
def test_any_other_status_is_tried_again(status: int) -> None:
    error = from_status(status, None, WHERE)
    assert isinstance(error, FeedUnavailable)
    assert (error.cause, error.retry_after_s) == ("connect", None)


@pytest.mark.parametrize(
    ("retry_after", "quiet_s"),
    [("5", 5.0), ("0", 0.0), (None, 60.0), ("soon", 60.0), ("-3", 60.0), ("²", 60.0), ("", 60.0)],
)
def test_the_quiet_asked_for_is_a_number_of_seconds_or_a_minute(
    retry_after: str | None, quiet_s: float
) -> None:
    error = from_status(429, retry_after, WHERE)
    assert isinstance(error, FeedUnavailable)
    assert (error.cause, error.retry_after_s) == ("rate_limited", quiet_s)


def test_a_wait_that_no_ban_is_long_enough_for_is_cut_and_named() -> None:
    error = from_status(429, "1000000000", WHERE)
    assert isinstance(error, FeedUnavailable)
    assert error.retry_after_s == 3 * 86400
    assert "259200 s" in str(error)
    assert "asks for 1e+09 s" in str(error)


def test_a_firewall_is_waited_for_and_its_error_has_a_remedy() -> None:
    error = from_status(403, None, WHERE)
    assert isinstance(error, FeedUnavailable)
    assert (error.cause, error.retry_after_s) == ("refused", None)
    assert "binance.websocket_url" in str(error)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidStatus(answer(503)), FeedUnavailable),
        (InvalidStatus(answer(404)), FeedRefused),
        (InvalidProxyStatus(answer(502)), FeedUnavailable),
        (InvalidProxyStatus(answer(407)), FeedRefused),
        (aiohttp.ClientHttpProxyError(INFO, (), status=407), FeedRefused),
        (aiohttp.ClientHttpProxyError(INFO, (), status=503), FeedUnavailable),
        (InvalidURI("ws://", "no host"), FeedRefused),
        (aiohttp.InvalidURL("http://"), FeedRefused),
        (ssl.SSLCertVerificationError(1, "expired"), FeedRefused),
        (ssl.SSLError(1, "wrong version number"), FeedUnavailable),
        (ConnectionRefusedError(111, "refused"), FeedUnavailable),
        (socket.gaierror(-2, "Name or service not known"), FeedUnavailable),
        (TimeoutError(), FeedUnavailable),
        (EOFError(), FeedUnavailable),
        (aiohttp.ServerDisconnectedError(), FeedUnavailable),
    ],
    ids=lambda value: f"{type(value).__name__} {value}" if isinstance(value, Exception) else "",
)
def test_a_librarys_error_becomes_ours(error: Exception, kind: type[Exception]) -> None:
    assert type(from_exception(error, WHERE)) is kind


def test_a_long_text_of_a_server_is_cut() -> None:
    error = from_exception(aiohttp.ClientError("400, message:\r\n" + 1_000 * "<b>odd</b> "), WHERE)
    assert str(error).startswith(f"{WHERE}: 400, message: <b>odd</b>")
    assert len(str(error)) <= len(f"{WHERE}: ") + FOREIGN_MAX_CHARACTERS


def test_a_bug_stays_a_bug() -> None:
    error = KeyError("x")
    assert from_exception(error, WHERE) is error


def test_a_proxys_password_is_in_no_error() -> None:
    error = InvalidProxy("http://user:hush@proxy:1/path", "path is meaningless")
    text = str(from_exception(error, WHERE))
    assert "hush" not in text
    assert "path is meaningless" in text
    assert "binance.proxy" in text
