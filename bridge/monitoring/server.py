"""The HTTP server: the dashboard, `/livez`, `/readyz`, `/metrics`, `/status`; all are read-only."""

import asyncio
from collections.abc import AsyncIterator, Container
from contextlib import asynccontextmanager, closing
from functools import partial

import msgspec
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CONTENT_TYPE_LATEST

from bridge import settings
from bridge.errors import Problem, SettingsError
from bridge.monitoring.dashboard import Dashboard
from bridge.monitoring.dashboard.routes import Viewers
from bridge.monitoring.metrics import exposition
from bridge.monitoring.reporter import report
from bridge.monitoring.shared import Shared
from bridge.monitoring.status import Status

SHUTDOWN_TIMEOUT_S = 1.0
# Our requests have no body and few headers. A larger request is answered with 400 or 413.
MAX_BODY_BYTES = 1_024
MAX_HEADERS = 64
MAX_LINE_BYTES = 8_190
# A new connection beyond that closes the oldest one, so that the probes always get through. The
# viewers of the dashboard have a limit of their own.
MAX_CONNECTIONS = 64
# The time for a request, from the opening of its connection or from the request before it.
REQUEST_TIMEOUT_S = 10.0
_encode = msgspec.json.Encoder().encode

log = structlog.get_logger(__name__)


@asynccontextmanager
async def serve(
    options: settings.Http, status: Status, dashboard: Dashboard | None = None
) -> AsyncIterator[int]:
    """Serve while the context is open, and yield the port.

    Raises SettingsError if the server cannot listen on the address.
    """
    viewers = Viewers(dashboard) if dashboard else None
    runner = web.AppRunner(
        application(status, viewers),
        access_log=None,
        shutdown_timeout=SHUTDOWN_TIMEOUT_S,
        keepalive_timeout=REQUEST_TIMEOUT_S,
        max_headers=MAX_HEADERS,
        max_line_size=MAX_LINE_BYTES,
        max_field_size=MAX_LINE_BYTES,
    )
    await runner.setup()
    assert runner.server is not None  # noqa: S101 - it is set up
    accept = partial(_accept, runner.server, viewers.connections if viewers else ())
    create = asyncio.get_running_loop().create_server
    try:
        try:
            server = await create(accept, options.host, options.port)
        except OSError as error:
            raise SettingsError([_taken(options, error)]) from error
        port: int = server.sockets[0].getsockname()[1]
        log.info("http_listening", host=options.host, port=port)
        with closing(server):
            yield port
    finally:
        await runner.cleanup()


def application(status: Status, viewers: Viewers | None) -> web.Application:
    """Return the web application with the routes for one bridge."""
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_log_failures])
    app.router.add_get("/livez", _live)
    app.router.add_get("/readyz", partial(_ready, status))
    metrics = Shared(partial(exposition, status), CONTENT_TYPE_LATEST)
    whole_status = Shared(partial(_status, status), "application/json")
    app.router.add_get("/metrics", metrics.answer)
    app.router.add_get("/status", whole_status.answer)
    if viewers:
        viewers.add_routes(app)
    else:
        app.router.add_get("/", _no_dashboard)
    return app


def _accept(server: web.Server, viewers: Container[asyncio.BaseProtocol]) -> asyncio.BaseProtocol:
    """Return the protocol of a new connection."""
    others = [o for o in server.connections if o.transport is not None and o not in viewers]
    if len(others) >= MAX_CONNECTIONS and (oldest := others[0].transport):
        oldest.abort()
    return server()


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


async def _no_dashboard(_request: web.Request) -> web.Response:
    """List the paths."""
    text = (
        "Paths: /livez /readyz /metrics /status\nThe dashboard is off: http.dashboard is false.\n"
    )
    return web.Response(text=text)


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
