"""A real browser for the tests of pages: Chromium, driven by Playwright."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """Yield a browser; skip the test if none is installed."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} on PATH")
    async with async_playwright() as playwright:
        # Chromium as root, and in a container, has no sandbox.
        running = await playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        try:
            yield running
        finally:
            await running.close()


@asynccontextmanager
async def page_of(
    browser: Browser, url: str, *, may_fail: bool = False, **options: Any
) -> AsyncIterator[Page]:
    """Yield a page at `url`. At the end it must have asked no other host, and written no error
    except, if it `may_fail`, that the server did not answer.
    """
    context = await browser.new_context(**options)
    page = await context.new_page()
    errors: list[str] = []
    hosts = set()

    def on_console(message: ConsoleMessage) -> None:
        is_network = "net::" in message.text or "Failed to load resource" in message.text
        if message.type in {"error", "warning"} and not (may_fail and is_network):
            errors.append(message.text)

    def on_request(request: Request) -> None:
        hosts.add("/".join(request.url.split("/")[:3]))

    page.on("console", on_console)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", on_request)
    await page.goto(url)
    yield page
    await context.close()
    assert errors == []
    assert hosts == {"/".join(url.split("/")[:3])}
