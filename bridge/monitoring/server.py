"""The HTTP server: `/livez`, `/readyz`, `/metrics`, `/status`. All of them are read-only."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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
        max_headers=MAX_HEADERS,
        max_line_size=MAX_LINE_BYTES,
        max_field_size=MAX_LINE_BYTES,
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, options.host, options.port).start()
        except OSError as error:
            raise SettingsError([_taken(options, error)]) from error
        port: int = runner.addresses[0][1]
        log.info("http_listening", host=options.host, port=port)
        yield port
    finally:
        await runner.cleanup()


def application(status: Status) -> web.Application:
    """Return the web application with the routes for one bridge."""
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_log_failures])
    app.router.add_get("/livez", _live)
    app.router.add_get("/readyz", partial(_ready, status))
    app.router.add_get("/metrics", partial(_metrics, status))
    app.router.add_get("/status", partial(_status, status))
    return app


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

    The body names everything that is missing or refused.
    """
    unready = status.unready()
    body = {
        "ready": not unready,
        "unready": unready,
        "streams_without_data": status.streams_without_data(),
        "refused": list(status.refused),
    }
    return web.json_response(body, status=503 if unready else 200)


async def _metrics(status: Status, _request: web.Request) -> web.Response:
    body = await exposition(status)
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _status(status: Status, _request: web.Request) -> web.Response:
    return web.Response(body=_encode(report(status)), content_type="application/json")


def _taken(options: settings.Http, error: OSError) -> Problem:
    return Problem(
        "http.port",
        str(options.port),
        f"cannot listen on {options.host}: {error.strerror or error}",
        "stop the process that uses the port, or set another port; 0 takes any free port",
    )
