"""The dashboard over HTTP: what a browser gets, and how many viewers there may be."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from importlib.resources import files

import aiohttp
import pytest

from bridge.monitoring import server
from bridge.monitoring.dashboard import Dashboard, broadcast, routes
from bridge.monitoring.dashboard.routes import MAX_VIEWERS
from bridge.monitoring.server import serve
from bridge.settings.model import Http
from tests.support.running_server import Running

FILES = ("index.html", "dashboard.css", "dashboard.js", "dashboard.svg")


@pytest.fixture
def running() -> Running:
    return Running()


@pytest.fixture
async def session(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[aiohttp.ClientSession]:
    monkeypatch.setattr(broadcast, "FRAME_S", 0.01)
    dashboard = Dashboard(running.status)
    running.flow()
    task = asyncio.create_task(dashboard.run())
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        asyncio.timeout(60),
        serve(Http(port=0), running.status, dashboard) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=connector) as session,
    ):
        yield session
    task.cancel()


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/", "text/html"),
        ("/dashboard.css", "text/css"),
        ("/dashboard.js", "text/javascript"),
        ("/dashboard.svg", "image/svg+xml"),
        ("/dashboard/events", "text/event-stream"),
    ],
)
async def test_a_page_may_load_only_from_here_and_no_other_page_may_show_it(
    session: aiohttp.ClientSession, path: str, content_type: str
) -> None:
    async with session.get(path) as answer:
        assert (answer.status, answer.content_type) == (200, content_type)
        policy = answer.headers["Content-Security-Policy"].split("; ")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert {"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} <= set(policy)
    assert "unsafe" not in str(policy)


@pytest.mark.parametrize("name", FILES)
def test_the_page_names_no_other_host_and_writes_no_text_as_html(name: str) -> None:
    text = files(routes.__package__).joinpath("page", name).read_text()
    assert set(re.findall(r"https?://[\w.]+", text)) <= {"http://www.w3.org"}
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval\(|\sstyle=", text)


def test_a_browser_without_javascript_gets_the_remedy() -> None:
    text = files(routes.__package__).joinpath("page", "index.html").read_text()
    (notice,) = re.findall(r"<noscript>(.*?)</noscript>", text, re.DOTALL)
    assert "needs JavaScript" in notice
    assert "/status" in notice


@pytest.mark.parametrize("path", ["/", "/dashboard/events", "/dashboard/history"])
async def test_nothing_can_be_sent_to_the_dashboard(
    session: aiohttp.ClientSession, path: str
) -> None:
    async with session.post(path) as answer:
        assert answer.status == 405


async def test_without_the_dashboard_the_other_paths_are_listed(running: Running) -> None:
    async with (
        serve(Http(port=0), running.status, None) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
    ):
        async with session.get("/") as answer:
            text = await answer.text()
        async with session.get("/dashboard/events") as answer:
            assert answer.status == 404
    assert "/metrics" in text
    assert "http.dashboard" in text


async def test_one_viewer_too_many_is_refused_and_each_may_come_when_one_has_left(
    session: aiohttp.ClientSession,
) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(MAX_VIEWERS):
            viewer = await stack.enter_async_context(session.get("/dashboard/events"))
            assert viewer.status == 200
        async with session.get("/dashboard/events") as refused:
            assert refused.status == 503
            assert "tickbridge status" in await refused.text()
        viewer.close()
        while True:
            async with session.get("/dashboard/events") as again:
                if again.status == 200:
                    break


async def test_many_other_requests_do_not_end_the_viewers(
    session: aiohttp.ClientSession,
) -> None:
    async with session.get("/dashboard/events") as viewer, AsyncExitStack() as stack:
        url = session._base_url
        assert url is not None
        for _ in range(2 * server.MAX_CONNECTIONS):
            _, writer = await asyncio.open_connection(url.host, url.port)
            stack.callback(writer.close)
        async with session.get("/livez") as answer:
            assert answer.status == 200
        async for line in viewer.content:
            if line.startswith(b"event: prices"):
                break


async def test_a_viewer_that_reads_nothing_is_disconnected_and_others_go_on(
    session: aiohttp.ClientSession, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "SEND_TIMEOUT_S", 0.3)
    running.status.message_types = [f"{number:0>1000}" for number in range(500)]
    running.status.counts.received.update(dict.fromkeys(running.status.message_types, 1))
    url = session._base_url
    assert url is not None
    reader, writer = await asyncio.open_connection(url.host, url.port, limit=1)
    writer.write(b"GET /dashboard/events HTTP/1.1\r\nHost: x\r\n\r\n")
    async with session.get("/dashboard/events") as viewer:
        seen = 0
        async for line in viewer.content.iter_any():
            seen += line.count(b"event: health")
            if seen == 5:
                break
    # The connection ends although this reader has never read its part.
    with suppress(ConnectionError):
        await reader.read()
    writer.close()


async def test_a_bridge_that_stops_does_not_wait_for_viewers(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast, "FRAME_S", 0.01)
    monkeypatch.setattr(server, "SHUTDOWN_TIMEOUT_S", 60)
    dashboard = Dashboard(running.status)
    task = asyncio.create_task(dashboard.run())
    async with asyncio.timeout(30), aiohttp.ClientSession() as session:
        async with serve(Http(port=0), running.status, dashboard) as port:
            viewer = await session.get(f"http://127.0.0.1:{port}/dashboard/events")
            await viewer.content.readline()
        assert b"event: end" in await viewer.content.read()
    task.cancel()
