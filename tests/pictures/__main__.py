"""Takes the pictures of the documents: `make pictures`. It needs Chromium.

They show a demo in a terminal, the dashboard of a demo after ten minutes, and a report of
`tickbridge verify`.
"""

import asyncio
import io
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser
from rich.console import Console
from rich.text import Text

from bridge.tools.simulator import Market, SimulatedExchange
from tests.support.browser import browser
from tests.support.demo import (
    DEMO,
    Terminal,
    demo_in_terminal,
    environment,
    exchange_file,
)

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
SYMBOLS = ["BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT", "ADAUSDT", "DOGEUSDT", "LINKUSDT"]
# The plots of the dashboard show this time.
LOOK_AFTER_S = 600.0
TERMINAL_S = 20
VERIFY_S = 20
COLUMNS = 72
# A new frame of the screen begins where the cursor has gone up over the last one.
_FRAME = re.compile(r"(?:\r|\x1b\[1A|\x1b\[2K)+\x1b\[2K")
_SPINNER = re.compile(r"[\u2800-\u28ff] Looking for .*?…")
_FONT_FROM_ELSEWHERE = re.compile(r"@font-face \{.*?\}", re.DOTALL)


async def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    async with simulated() as settings:
        async with demo_in_terminal("--symbols", ",".join(SYMBOLS), "-c", settings) as terminal:
            await terminal.wait_for(rf"00:{TERMINAL_S}.*Ctrl-C")
        (FOLDER / "demo.svg").write_text(picture(terminal))
    async with browser() as chromium:
        await take_dashboard(chromium)
        async with simulated() as settings:
            report = await verify(settings)
            await take(chromium, report.as_uri(), "report", 1024, 1200)
    print(f"written to {FOLDER}")


@asynccontextmanager
async def simulated() -> AsyncIterator[Path]:
    """Simulate an exchange; yield settings that use it, in a folder of their own."""
    market = Market(SYMBOLS, trades_per_second=8)
    with tempfile.TemporaryDirectory() as folder:
        async with SimulatedExchange(market) as exchange:
            yield exchange_file(Path(folder), exchange.websocket_url, exchange.rest_url)


def picture(terminal: Terminal) -> str:
    """Return what a terminal shows as SVG: the addresses, and the last frame."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    head = re.search(r"Tickbridge demo.*?(?=Try in)", terminal.text, re.DOTALL)
    assert head
    lines = (_SPINNER.sub("", line) for line in head[0].replace("\r", "").splitlines())
    for line in filter(None, lines):
        console.print(line, highlight=False, soft_wrap=True)
    *_, frame, _ = _FRAME.split(terminal.output)
    console.print(Text.from_ansi(frame.replace("\r", "").strip("\n")))
    return _FONT_FROM_ELSEWHERE.sub("", console.export_svg(title="make demo"))


async def take_dashboard(chromium: Browser) -> None:
    process = await asyncio.create_subprocess_exec(
        *(*DEMO, "--plain", "--symbols", ",".join(SYMBOLS)),
        env=environment(),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout
    try:
        begun = time.monotonic()
        url = ""
        while time.monotonic() < begun + LOOK_AFTER_S:
            line = (await process.stdout.readline()).decode()
            url = line.split()[-1] if "Browser" in line else url
        await take(chromium, f"{url}#/", "dashboard", 1024, 420)
        await take(chromium, f"{url}#/health", "dashboard-health", 1024, 720)
        await take(chromium, f"{url}#/BTCUSDT", "dashboard-symbol", 1024, 720, dark=True)
        await take(chromium, f"{url}#/", "dashboard-phone", 390, 460, dark=True)
    finally:
        process.terminate()
        await process.wait()


async def take(
    chromium: Browser, url: str, name: str, width: int, height: int, *, dark: bool = False
) -> None:
    context = await chromium.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
    )
    page = await context.new_page()
    await page.goto(url)
    await page.wait_for_timeout(3000)  # some frames with data
    await page.screenshot(path=FOLDER / f"{name}.png")
    await context.close()


async def verify(settings: Path) -> Path:
    """Write a report of `tickbridge verify`, and return its file."""
    report = settings.parent / "report.html"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bridge", "verify", "--config", settings),
        *("--seconds", str(VERIFY_S), "--html", report),
        env=environment(),
        stdout=asyncio.subprocess.DEVNULL,
    )
    await process.wait()
    return report


if __name__ == "__main__":
    asyncio.run(main())
