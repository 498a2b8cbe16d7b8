"""Probes live Binance: whether REST answers, and whether the stream host accepts a WebSocket.

Both are tried, because some networks block only one of them.
"""

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp

from bridge import settings
from bridge.binance.failures import from_exception, from_status
from bridge.binance.proxy import proxy_of
from bridge.binance.transport.connect import open_websocket
from bridge.binance.transport.turns import Turns
from bridge.core.binance.stream_names import stream_of, streams_path
from bridge.errors import FeedRefused, FeedUnavailable

PROBE_TIMEOUT_S = 3.0
# Any stream works: no frame of it is read.
_PATH = streams_path([stream_of("BTCUSDT", "trade")], microseconds=False)
_MAIN = "wss://stream.binance.com:9443"
# Serves market data to more regions, and requires no API key.
_MARKET_DATA_ONLY = {
    "websocket_url": "wss://data-stream.binance.vision",
    "rest_url": "https://data-api.binance.vision",
}


class Finding(NamedTuple):
    """The result of the probe: the settings of the exchange that answered, or None.

    If none answered, `reasons` has a sentence for each exchange.
    """

    live: settings.Binance | None
    reasons: Sequence[str]


def candidates(binance: settings.Binance) -> list[settings.Binance]:
    """Return the exchange of the settings, and Binance's market data hosts after its main hosts."""
    if binance.websocket_url != _MAIN:
        return [binance]
    return [binance, binance.model_copy(update=_MARKET_DATA_ONLY)]


async def find_live(
    exchanges: Sequence[settings.Binance], timeout_s: float = PROBE_TIMEOUT_S
) -> Finding:
    """Probe all exchanges at once, and return the first that answers."""
    reasons: list[str] = []
    async with asyncio.TaskGroup() as group:
        probes = [group.create_task(_probe(exchange, timeout_s)) for exchange in exchanges]
        for finished in asyncio.as_completed(probes):
            exchange, reason = await finished
            if reason is None:
                for probe in probes:
                    probe.cancel()
                return Finding(exchange, ())
            reasons.append(reason)
    return Finding(None, reasons)


async def _probe(
    exchange: settings.Binance, timeout_s: float
) -> tuple[settings.Binance, str | None]:
    """Return the exchange, and the reason why it cannot be reached, or None if it can."""
    try:
        async with asyncio.timeout(timeout_s):
            await _reach(exchange)
    except TimeoutError:
        host = urlsplit(exchange.websocket_url).hostname
        return exchange, f"{host} does not answer within {timeout_s:g} s"
    except (FeedRefused, FeedUnavailable) as error:
        return exchange, _without_remedy(error)
    return exchange, None


async def _reach(exchange: settings.Binance) -> None:
    """Try REST and WebSocket at the same time, and raise the first error."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_ping(exchange))
            group.create_task(_connect(exchange))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def _ping(exchange: settings.Binance) -> None:
    try:
        async with (
            aiohttp.ClientSession(proxy=proxy_of(exchange, exchange.rest_url)) as session,
            session.get(f"{exchange.rest_url}/api/v3/ping") as response,
        ):
            if response.status != HTTPStatus.OK:
                retry_after = response.headers.get("Retry-After")
                raise from_status(response.status, retry_after, exchange.rest_url)
    except (aiohttp.ClientError, OSError) as error:
        raise from_exception(error, exchange.rest_url) from error


async def _connect(exchange: settings.Binance) -> None:
    connection = await open_websocket(exchange, _PATH, _Nobody(), Turns())
    await connection.close()


class _Nobody:
    """A listener that ignores the frames of a probed connection."""

    def on_frames(self, frames: list[bytes], received: int) -> None: ...

    def on_binary(self, payload: bytes, received: int) -> None: ...

    def on_lost(self) -> None: ...


def _without_remedy(error: FeedRefused | FeedUnavailable) -> str:
    """Return the error and its meaning. The remedy is left out: the demo uses the simulator."""
    return "; ".join(str(error).split("; ")[:2])
