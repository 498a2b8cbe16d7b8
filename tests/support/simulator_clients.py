"""Scripted clients of a simulated exchange."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import aiohttp
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from bridge.tools.simulator import Message, Replay, SimulatedExchange, Source
from tests.support.simulator import capture_of


@asynccontextmanager
async def opened(
    source: Source | Sequence[Message], *, speed: float | None = None, **settings: Any
) -> AsyncIterator[SimulatedExchange]:
    if isinstance(source, Sequence):
        source = Replay([capture_of(source)])
    async with SimulatedExchange(source, speed=speed, **settings) as exchange:
        yield exchange


@asynccontextmanager
async def listening(exchange: SimulatedExchange, target: str) -> AsyncIterator[ClientConnection]:
    url = exchange.websocket_url + target
    async with connect(url, compression=None, max_queue=None) as client:
        yield client


async def received(client: ClientConnection, count: int) -> list[str]:
    return [cast("str", await client.recv()) for _ in range(count)]


async def asked(client: ClientConnection, method: str, *params: str) -> Any:
    await client.send(json.dumps({"method": method, "params": params, "id": 1}))
    return json.loads(await client.recv())


async def closed(client: ClientConnection) -> tuple[int, str]:
    """Return code and reason of the exchange's close; skip all that it sent before."""
    with suppress(ConnectionClosed):
        while True:
            await client.recv()
    assert client.close_code is not None
    return client.close_code, client.close_reason or ""


async def get(exchange: SimulatedExchange, path: str) -> tuple[int, Any]:
    async with aiohttp.request("GET", exchange.rest_url + path) as answer:
        return answer.status, await answer.json()
