"""The HTTP server is read-only, and refuses requests that are larger than it needs."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from bridge.monitoring.server import MAX_HEADERS, MAX_LINE_BYTES, serve
from bridge.settings.model import Http
from tests.support.journal import journal_kept
from tests.support.running_server import Running

PATHS = ("/livez", "/readyz", "/metrics", "/status")


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with serve(Http(port=0), Running().status) as port:
        yield port


async def answer(port: int, request: str) -> str:
    """Send `request`, and return the status line of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request.encode())
        return (await reader.readline()).decode()
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_no_path_takes_anything_but_a_question(port: int, path: str, method: str) -> None:
    request = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    assert " 405 " in await answer(port, request)


async def test_too_many_headers_are_refused(port: int) -> None:
    headers = "".join(f"X-{number}: y\r\n" for number in range(MAX_HEADERS))
    assert " 400 " in await answer(port, f"GET /livez HTTP/1.1\r\nHost: x\r\n{headers}\r\n")


@pytest.mark.parametrize(
    "request_text",
    [
        f"GET /{'x' * MAX_LINE_BYTES} HTTP/1.1\r\nHost: x\r\n\r\n",
        f"GET /livez HTTP/1.1\r\nHost: x\r\nX: {'y' * (MAX_LINE_BYTES + 1)}\r\n\r\n",
    ],
    ids=["path", "header"],
)
async def test_a_line_too_long_is_refused(port: int, request_text: str) -> None:
    assert " 400 " in await answer(port, request_text)


async def test_what_is_no_http_is_refused_and_the_next_is_answered(port: int) -> None:
    assert " 400 " in await answer(port, "\x16\x03\x01 hello\r\n\r\n")
    assert " 200 " in await answer(port, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")


async def test_a_mistake_of_ours_is_answered_with_500_and_told_in_the_log() -> None:
    status = Running().status
    del status.message_types
    with journal_kept() as journal:
        async with serve(Http(port=0), status) as port:
            assert " 500 " in await answer(port, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    (entry,) = journal.named("http_failed")
    assert entry["path"] == "/metrics"
