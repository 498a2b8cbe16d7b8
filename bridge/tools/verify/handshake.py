"""Opens one connection of its own, to see what a handshake agrees on and how long it takes."""

import asyncio
import ssl
import time

from websockets.exceptions import WebSocketException

from bridge import settings
from bridge.binance.failures import from_exception
from bridge.binance.transport.turns import Turns
from bridge.binance.transport.websockets_client import WebsocketsConnection, open_with_websockets
from bridge.tools.verify.report import Handshake, Tls

PINGS = 5
PING_PAUSE_S = 0.1


async def shake_hands(options: settings.Binance, path: str) -> Handshake:
    """Open a connection for the streams in `path`, send PINGS pings, and close it.

    The websockets library carries it, whatever `binance.transport` is. Raises FeedUnavailable, or
    FeedRefused if trying again cannot help.
    """
    began_s = time.perf_counter()
    connection = await open_with_websockets(options, path, _Deaf(), Turns())
    handshake_ms = (time.perf_counter() - began_s) * 1000
    try:
        return Handshake(
            address=_address(connection),
            tls=_tls(connection),
            extensions=_extensions(connection),
            handshake_ms=handshake_ms,
            pings_ms=[await _ping(connection, options) for _ in range(PINGS)],
        )
    finally:
        await connection.close()


class _Deaf:
    """Ignores all frames."""

    def on_frames(self, frames: list[bytes], received: int) -> None:
        pass

    def on_binary(self, payload: bytes, received: int) -> None:
        pass

    def on_lost(self) -> None:
        pass


async def _ping(connection: WebsocketsConnection, options: settings.Binance) -> float:
    """Return the round trip of a ping in milliseconds. Raises FeedUnavailable."""
    await asyncio.sleep(PING_PAUSE_S)
    try:
        async with asyncio.timeout(options.ping_timeout_s):
            sent_s = time.perf_counter()
            await (await connection.ping())
            return 1000 * (time.perf_counter() - sent_s)
    except (WebSocketException, OSError) as error:
        raise from_exception(error, f"a ping to {options.websocket_url}") from error


def _address(connection: WebsocketsConnection) -> str:
    host, port, *_ = connection.remote_address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _extensions(connection: WebsocketsConnection) -> str:
    response = connection.response
    return response.headers.get("Sec-WebSocket-Extensions", "") if response else ""


def _tls(connection: WebsocketsConnection) -> Tls | None:
    secured: ssl.SSLObject | None = connection.transport.get_extra_info("ssl_object")
    if secured is None:
        return None
    certificate, cipher = secured.getpeercert() or {}, secured.cipher()
    return Tls(
        version=secured.version() or "",
        cipher=cipher[0] if cipher else "",
        subject=_common_name(certificate.get("subject")),
        issuer=_common_name(certificate.get("issuer")),
        valid_until=str(certificate.get("notAfter", "")),
    )


def _common_name(name: object) -> str:
    """Return the common name, or the organization, of a name in a certificate of `ssl`."""
    parts = name if isinstance(name, tuple) else ()
    fields = {key: value for part in parts for key, value in part}
    return str(fields.get("commonName") or fields.get("organizationName") or "")
