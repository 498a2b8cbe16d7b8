"""An answer that all requests share which wait for it at the same time."""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web


class Shared:
    """Renders once for all requests that wait at the same time."""

    def __init__(self, render: Callable[[], Awaitable[bytes]], content_type: str) -> None:
        self._render = render
        self._headers = {"Content-Type": content_type}
        self._rendering = asyncio.Lock()
        self._rendered_at_s = -1.0
        self._body = b""

    async def answer(self, _request: web.Request) -> web.Response:
        """Answer with what was rendered after the request had come."""
        clock = asyncio.get_running_loop().time
        asked_s = clock()
        async with self._rendering:
            if self._rendered_at_s < asked_s:
                began_s = clock()
                self._body = await self._render()
                self._rendered_at_s = began_s
        return web.Response(body=self._body, headers=self._headers)
