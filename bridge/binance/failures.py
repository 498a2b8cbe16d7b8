"""What a failure of the exchange means: wait and try again, or the settings are wrong.

One place for WebSocket handshakes and REST answers alike. 418 and 429 say how long everything from
this address has to be quiet; going on after a 429 earns a 418, a ban of minutes to days.
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

from bridge.errors import FeedRefused, FeedUnavailable

# Where the exchange asks for quiet but does not say how long: the weights are counted by the
# minute, and its shortest ban takes two.
_QUIET_S = {429: 60.0, 418: 120.0}
# Its longest ban.
_MAX_QUIET_S = 3 * 86400.0
_ELSEWHERE = (
    "set binance.websocket_url: wss://data-stream.binance.vision and binance.rest_url: "
    "https://data-api.binance.vision, which serve market data to more regions"
)
_REMEDIES = {
    400: "check binance.symbols and binance.streams",
    401: "check binance.websocket_url, binance.rest_url and binance.proxy",
    403: f"the exchange's firewall blocks this address; {_ELSEWHERE}",
    404: "check binance.websocket_url and binance.rest_url",
    407: "check the user and password in binance.proxy",
    451: f"the exchange does not serve this region from there; {_ELSEWHERE}",
}


def from_status(status: int, retry_after: str | None, where: str) -> FeedRefused | FeedUnavailable:
    """What an HTTP status other than success means; `retry_after` is the header, in seconds."""
    if status in _QUIET_S:
        asked = retry_after is not None and retry_after.isdecimal()
        wait_s = min(float(retry_after or 0), _MAX_QUIET_S) if asked else _QUIET_S[status]
        what = f"{where} asks for {wait_s:g} s of quiet (HTTP {status})"
        return FeedUnavailable(what, wait_s, cause="rate_limited")
    if status in _REMEDIES:
        return FeedRefused(f"{where} answers HTTP {status}", _REMEDIES[status], status=status)
    return FeedUnavailable(f"{where} answers HTTP {status}")


def from_exception(error: Exception, where: str) -> Exception:
    """Our error for one of a client library's; an error that is a bug stays what it is."""
    match error:
        case InvalidStatus():
            response = error.response
            return from_status(response.status_code, response.headers.get("Retry-After"), where)
        case ssl.SSLCertVerificationError() | aiohttp.ClientConnectorCertificateError():
            return FeedRefused(
                f"the certificate of {where} does not hold: {error}",
                "check binance.websocket_url and binance.rest_url, and this machine's clock and "
                "certificates",
            )
        case InvalidProxy() | InvalidProxyStatus() | aiohttp.ClientHttpProxyError():
            return _from_proxy_error(error)
        case InvalidURI() | aiohttp.InvalidURL():
            return FeedRefused(str(error), "check binance.websocket_url and binance.rest_url")
        case OSError() | EOFError() | aiohttp.ClientError() | WebSocketException():
            in_time = not isinstance(error, TimeoutError)
            what = str(error) or type(error).__name__ if in_time else "does not answer in time"
            return FeedUnavailable(f"{where}: {what}")
        case _:
            return error


def from_proxy(status: int | None) -> FeedRefused | FeedUnavailable:
    """What a proxy's answer means; nothing here names its URL, which may hold a password."""
    answer = "the proxy answers " + ("nonsense" if status is None else f"HTTP {status}")
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return FeedRefused(answer, _REMEDIES[status])
    return FeedUnavailable(answer)


def _from_proxy_error(
    error: InvalidProxy | InvalidProxyStatus | aiohttp.ClientHttpProxyError,
) -> FeedRefused | FeedUnavailable:
    if isinstance(error, InvalidProxy):
        return FeedRefused(f"the proxy's URL does not do: {error.msg}", "check binance.proxy")
    if isinstance(error, InvalidProxyStatus):
        return from_proxy(error.response.status_code)
    return from_proxy(error.status)
