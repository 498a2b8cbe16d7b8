"""The HTTP server: `/livez`, `/readyz`, `/metrics`, `/status`. All of them are read-only."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from functools import partial

import msgspec
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CONTENT_TYPE_LATEST

from bridge import settings
from bridge.errors import Problem, SettingsError
from bridge.monitoring.metrics import exposition
from bridge.monitoring.reporter import report
from bridge.monitoring.status import Status

SHUTDOWN_TIMEOUT_S = 1.0
# Our requests have no body and few headers. A larger request is answered with 400 or 413.
MAX_BODY_BYTES = 1_024
MAX_HEADERS = 64
MAX_LINE_BYTES = 8_190
# A new connection beyond that closes the oldest one, so that the probes always get through.
MAX_CONNECTIONS = 64
# The time for a request, from the opening of its connection or from the request before it.
REQUEST_TIMEOUT_S = 10.0
_encode = msgspec.json.Encoder().encode

log = structlog.get_logger(__name__)


@asynccontextmanager
async def serve(options: settings.Http, status: Status) -> AsyncIterator[int]:
    """Serve while the context is open, and yield the port.

    Raises SettingsError if the server cannot listen on the address.
    """
    runner = web.AppRunner(
        application(status),
        access_log=None,
        shutdown_timeout=SHUTDOWN_TIMEOUT_S,
        keepalive_timeout=REQUEST_TIMEOUT_S,
        max_headers=MAX_HEADERS,
        max_line_size=MAX_LINE_BYTES,
        max_field_size=MAX_LINE_BYTES,
    )
    await runner.setup()
    assert runner.server is not None  # noqa: S101 - it is set up
    create = asyncio.get_running_loop().create_server
    try:
        try:
            server = await create(partial(_accept, runner.server), options.host, options.port)
        except OSError as error:
            raise SettingsError([_taken(options, error)]) from error
        port: int = server.sockets[0].getsockname()[1]
        log.info("http_listening", host=options.host, port=port)
        with closing(server):
            yield port
    finally:
        await runner.cleanup()


def application(status: Status) -> web.Application:
    """Return the web application with the routes for one bridge."""
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_log_failures])
    app.router.add_get("/livez", _live)
    app.router.add_get("/readyz", partial(_ready, status))
    metrics = _Shared(partial(exposition, status), CONTENT_TYPE_LATEST)
    whole_status = _Shared(partial(_status, status), "application/json")
    app.router.add_get("/metrics", metrics.answer)
    app.router.add_get("/status", whole_status.answer)
    return app


def _accept(server: web.Server) -> asyncio.BaseProtocol:
    """Return the protocol of a new connection."""
    open_ones = [one for one in server.connections if one.transport is not None]
    if len(open_ones) >= MAX_CONNECTIONS and (oldest := open_ones[0].transport):
        oldest.abort()
    return server()


class _Shared:
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


@web.middleware
async def _log_failures(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Log an error of a handler. aiohttp answers malformed requests with 400 and no log entry."""
    try:
        return await handler(request)
    except web.HTTPException:
        raise
    except Exception:
        log.exception("http_failed", path=request.path)
        raise


async def _live(_request: web.Request) -> web.Response:
    """Report that the event loop is running: any answer proves it."""
    return web.Response(text="live\n")


async def _ready(status: Status, _request: web.Request) -> web.Response:
    """Return 200 if the feed delivers and both sinks accept events, otherwise 503.

    The body names everything that is missing, refused or waiting.
    """
    unready = status.unready()
    subscription = status.subscription()
    body = {
        "ready": not unready,
        "unready": unready,
        "streams_without_data": status.streams_without_data(),
        "refused": subscription.refused,
        "waiting": subscription.waiting,
    }
    return web.json_response(body, status=503 if unready else 200)


async def _status(status: Status) -> bytes:
    return _encode(report(status))


def _taken(options: settings.Http, error: OSError) -> Problem:
    return Problem(
        "http.port",
        str(options.port),
        f"cannot listen on {options.host}: {error.strerror or error}",
        "stop the process that uses the port, or set another port; 0 takes any free port",
    )
