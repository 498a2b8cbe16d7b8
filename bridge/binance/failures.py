"""Maps failures of the exchange to our errors: try again later, or the settings are wrong.

This covers WebSocket handshakes and REST answers. 418 and 429 say how long this address must send
no request. Whoever continues after a 429 gets a 418: a ban of minutes to days. A 403 comes from the
exchange's firewall and mostly ends within minutes, without a word of how long it lasts.
"""

import ssl
from http import HTTPStatus

import aiohttp
from websockets.exceptions import (
    InvalidProxy,
    InvalidProxyStatus,
    InvalidStatus,
    InvalidURI,
    WebSocketException,
)

from bridge.errors import FeedRefused, FeedUnavailable, describe

# How long to wait if the exchange does not say. Request weights are counted per minute, and the
# shortest ban takes two minutes.
_QUIET_S = {429: 60.0, 418: 120.0}
# The longest ban.
_MAX_QUIET_S = 3 * 86400.0
# The longest wait between two attempts while the exchange refuses us without saying how long.
REFUSED_MAX_S = 300.0
_ELSEWHERE = (
    "set binance.websocket_url: wss://data-stream.binance.vision and binance.rest_url: "
    "https://data-api.binance.vision, which serve market data to more regions"
)
_REMEDIES = {
    400: "check binance.symbols and binance.streams",
    401: "check binance.websocket_url, binance.rest_url and binance.proxy",
    404: "check binance.websocket_url and binance.rest_url",
    407: "check the user and password in binance.proxy",
    451: f"the exchange does not serve this region from there; {_ELSEWHERE}",
}


def from_status(status: int, retry_after: str | None, where: str) -> FeedRefused | FeedUnavailable:
    """Return the error for an HTTP status other than success. `retry_after` is the header, in
    seconds.
    """
    if status in _QUIET_S:
        asked = retry_after is not None and retry_after.isdecimal()
        asked_s = float(retry_after or 0) if asked else _QUIET_S[status]
        wait_s = min(asked_s, _MAX_QUIET_S)
        longest = "" if asked_s == wait_s else f"; it asks for {asked_s:g} s, no ban is that long"
        what = f"{where} refuses requests for {wait_s:.0f} s (HTTP {status}{longest})"
        return FeedUnavailable(what, wait_s, cause="rate_limited")
    if status == HTTPStatus.FORBIDDEN:
        what = f"{where} answers HTTP 403: its firewall blocks this address, mostly for minutes"
        return FeedUnavailable(f"{what}; if it lasts, {_ELSEWHERE}", cause="refused")
    if status in _REMEDIES:
        return FeedRefused(f"{where} answers HTTP {status}", _REMEDIES[status], status=status)
    return FeedUnavailable(f"{where} answers HTTP {status}")


def refused_wait_s(refusals: int) -> float:
    """Return the wait after this many refusals in a row: 1 s, doubled each time."""
    return min(2.0 ** min(refusals - 1, 10), REFUSED_MAX_S)


def from_exception(error: Exception, where: str) -> Exception:
    """Return our error for an error of a client library. An error that is a bug is returned
    unchanged.
    """
    match error:
        case InvalidStatus():
            response = error.response
            return from_status(response.status_code, response.headers.get("Retry-After"), where)
        case ssl.SSLCertVerificationError() | aiohttp.ClientConnectorCertificateError():
            return FeedRefused(
                f"the certificate of {where} is not valid: {describe(error)}",
                "check binance.websocket_url and binance.rest_url, and this machine's clock and "
                "certificates",
            )
        case InvalidProxy() | InvalidProxyStatus() | aiohttp.ClientHttpProxyError():
            return _from_proxy_error(error)
        case InvalidURI() | aiohttp.InvalidURL():
            return FeedRefused(describe(error), "check binance.websocket_url and binance.rest_url")
        case OSError() | EOFError() | aiohttp.ClientError() | WebSocketException():
            in_time = not isinstance(error, TimeoutError)
            what = describe(error) if in_time else "does not answer in time"
            return FeedUnavailable(f"{where}: {what}")
        case _:
            return error


def from_proxy(status: int | None) -> FeedRefused | FeedUnavailable:
    """Return the error for the answer of a proxy. It does not name the URL, which may hold a
    password.
    """
    answer = "the proxy answers " + ("without HTTP" if status is None else f"with HTTP {status}")
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return FeedRefused(answer, _REMEDIES[status])
    return FeedUnavailable(answer)


def _from_proxy_error(
    error: InvalidProxy | InvalidProxyStatus | aiohttp.ClientHttpProxyError,
) -> FeedRefused | FeedUnavailable:
    if isinstance(error, InvalidProxy):
        return FeedRefused(f"the URL of the proxy is not valid: {error.msg}", "check binance.proxy")
    if isinstance(error, InvalidProxyStatus):
        return from_proxy(error.response.status_code)
    return from_proxy(error.status)
