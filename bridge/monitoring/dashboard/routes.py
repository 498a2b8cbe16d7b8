"""Serves the dashboard: the page, its history, and a stream of events for each viewer."""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from functools import partial
from importlib.resources import files

from aiohttp import web

from bridge.monitoring.dashboard.broadcast import Dashboard
from bridge.monitoring.shared import Shared

# One more viewer than this is refused.
MAX_VIEWERS = 64
# A viewer that takes nothing for so long is disconnected.
SEND_TIMEOUT_S = 10.0
MAX_SYMBOL_LENGTH = 64
# A page from here loads nothing from elsewhere, and no other page shows it in a frame.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
_FILES: Mapping[str, tuple[str, str]] = {
    "/": ("index.html", "text/html"),
    "/dashboard.css": ("dashboard.css", "text/css"),
    "/dashboard.js": ("dashboard.js", "text/javascript"),
    "/dashboard.svg": ("dashboard.svg", "image/svg+xml"),
}


class Viewers:
    """The routes of the dashboard, and the connections of its viewers."""

    def __init__(self, dashboard: Dashboard) -> None:
        self.connections: set[asyncio.BaseProtocol] = set()
        self._dashboard = dashboard

    def add_routes(self, app: web.Application) -> None:
        """Add the routes. The viewers leave when the server stops."""
        for path, (name, content_type) in _FILES.items():
            body = files(__package__).joinpath("page", name).read_bytes()
            app.router.add_get(path, partial(_page, body, content_type))
        history = Shared(self._dashboard.history, "application/json")
        app.router.add_get("/dashboard/history", history.answer)
        app.router.add_get("/dashboard/events", self._events, allow_head=False)
        app.on_shutdown.append(self._end)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """Send frames until the viewer leaves, or the bridge stops."""
        if len(self.connections) >= MAX_VIEWERS:
            text = f"{MAX_VIEWERS} pages are open already. Close one, or use: tickbridge status\n"
            return web.Response(status=503, text=text, headers={"Retry-After": "10"})
        symbol = request.query.get("symbol", "")[:MAX_SYMBOL_LENGTH]
        response = web.StreamResponse(headers=_HEADERS | {"Content-Type": "text/event-stream"})
        self.connections.add(request.protocol)
        try:
            await response.prepare(request)
            async with aclosing(self._dashboard.frames(symbol or None)) as frames:
                async for frame in frames:
                    async with asyncio.timeout(SEND_TIMEOUT_S):
                        await response.write(frame)
        except (ConnectionError, TimeoutError):
            if request.transport:
                request.transport.abort()
        finally:
            self.connections.discard(request.protocol)
        return response

    async def _end(self, _app: web.Application) -> None:
        self._dashboard.end()


async def _page(body: bytes, content_type: str, _request: web.Request) -> web.Response:
    return web.Response(body=body, content_type=content_type, charset="utf-8", headers=_HEADERS)
