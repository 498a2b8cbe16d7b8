"""Whether live Binance can be had from here: REST answers, and the stream host takes a connection.

Both matter: some networks let one through and not the other.
"""

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp

from bridge import settings
from bridge.binance.failures import from_exception, from_status
from bridge.binance.transport.base import open_websocket
from bridge.core.model.stream import stream_of, streams_path
from bridge.errors import FeedRefused, FeedUnavailable

PROBE_TIMEOUT_S = 3.0
# Any stream will do: nothing of it is read.
_PATH = streams_path([stream_of("BTCUSDT", "trade")], microseconds=False)
_MAIN = "wss://stream.binance.com:9443"
# Serves market data to more regions, and asks for no key.
_MARKET_DATA_ONLY = {
    "websocket_url": "wss://data-stream.binance.vision",
    "rest_url": "https://data-api.binance.vision",
}


class Finding(NamedTuple):
    """What came of the probe: the settings of the exchange that answered, or else the reasons, a
    sentence for each that did not.
    """

    live: settings.Binance | None
    reasons: Sequence[str]


def candidates(binance: settings.Binance) -> list[settings.Binance]:
    """The exchange of the settings, and for Binance's main hosts those for market data only."""
    if binance.websocket_url != _MAIN:
        return [binance]
    return [binance, binance.model_copy(update=_MARKET_DATA_ONLY)]


async def find_live(
    exchanges: Sequence[settings.Binance], timeout_s: float = PROBE_TIMEOUT_S
) -> Finding:
    """The first of the exchanges to answer, all of them asked at once."""
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
    """The exchange, and why it cannot be had; None if it can."""
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
    """REST and WebSocket at once. Raises what goes wrong first."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_ping(exchange))
            group.create_task(_connect(exchange))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def _ping(exchange: settings.Binance) -> None:
    proxy = exchange.proxy.get_secret_value()
    try:
        async with (
            aiohttp.ClientSession(
                trust_env=proxy == "environment",
                proxy=None if proxy in {"environment", "none"} else proxy,
            ) as session,
            session.get(f"{exchange.rest_url}/api/v3/ping") as response,
        ):
            if response.status != HTTPStatus.OK:
                retry_after = response.headers.get("Retry-After")
                raise from_status(response.status, retry_after, exchange.rest_url)
    except (aiohttp.ClientError, OSError) as error:
        raise from_exception(error, exchange.rest_url) from error


async def _connect(exchange: settings.Binance) -> None:
    connection = await open_websocket(exchange, _PATH, _Nobody())
    await connection.close()


class _Nobody:
    """A receiver for a connection that is only tried."""

    def frames(self, frames: list[bytes], received: int) -> None: ...

    def binary(self, payload: bytes, received: int) -> None: ...

    def lost(self) -> None: ...


def _without_remedy(error: FeedRefused | FeedUnavailable) -> str:
    """What happened, and what it means; the demo's own remedy is the simulator."""
    return "; ".join(str(error).split("; ")[:2])
