"""The page in a real browser: it shows what is there, and says when nothing comes any more."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, expect

from bridge.core.model.events import Quote
from bridge.core.model.stream import SPOT
from bridge.monitoring import status
from bridge.telemetry import now_us
from tests.support.browser import browser, page_of
from tests.support.dashboard import Shown

pytestmark = [pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="module")]
expect.set_options(timeout=30_000)

TEXTS = ("text", "dim", "accent", "good", "bad", "warn")
GROUNDS = ("page", "card")
PHONE, LAPTOP, DESKTOP = (390, 844), (1024, 768), (1920, 1080)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Browser]:
    async with browser() as running:
        yield running


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing drains the sinks of this bridge, and that must not make it unready.
    monkeypatch.setattr(status, "PENDING_MAX_S", 3600)


@pytest_asyncio.fixture(loop_scope="module")
async def shown() -> AsyncIterator[Shown]:
    shown = Shown()
    async with shown.served():
        yield shown


def visible(page: Page) -> Locator:
    """Return the rows of the table, in their order, except those that the search hides."""
    return page.locator("#rows tr:not([hidden]) a")


async def test_prices_follow_the_bridge_without_a_reload(chromium: Browser, shown: Shown) -> None:
    async with page_of(chromium, shown.url) as page:
        cell = page.locator("#rows tr .price")
        await expect(cell).to_have_text("61837.63")
        shown.trade(2, price="61838.10000000")
        await expect(cell).to_have_text("61838.10")
        shown.trade(3, price="61838.12500000")
        await expect(cell).to_have_text("61838.125")
        await expect(page.locator("#state")).to_have_text("Live")


async def test_the_change_is_that_of_the_day_or_without_a_ticker_of_the_last_minutes(
    chromium: Browser, shown: Shown
) -> None:
    async with page_of(chromium, shown.url) as page:
        await expect(page.locator("#change-name")).to_have_text("10 min")
        shown.day("ETHUSDT", price="110.00", opened="100.00")
        await expect(page.locator("#change-name")).to_have_text("24 h")
        await expect(page.locator("#rows tr").last).to_contain_text("▲ 10.00 %")


async def test_a_symbol_in_trouble_and_one_without_a_price_are_shown(
    chromium: Browser, shown: Shown
) -> None:
    shown.set_feed(BTCUSDT="stale", ETHUSDT="down")
    async with page_of(chromium, shown.url) as page:
        await expect(page.locator("#rows tr")).to_have_count(2)
        await expect(page.locator("#rows tr").first).to_contain_text("stale")
        await expect(page.locator("#rows tr").last).to_contain_text("down")
        shown.set_feed(BTCUSDT="live", ETHUSDT="down")
        await expect(page.locator("#rows tr").first).not_to_contain_text("stale")


async def test_reasons_why_the_bridge_is_not_ready_are_on_the_page(
    chromium: Browser, shown: Shown
) -> None:
    async with page_of(chromium, shown.url) as page:
        await expect(page.locator("#state")).to_have_text("Live")
        await expect(page.locator("#reasons")).to_be_hidden()
        shown.connect(kafka=False)
        await expect(page.locator("#state")).to_have_text("Not ready")
        await expect(page.locator("#reasons")).to_have_text("kafka: not connected")


async def test_it_says_when_nothing_comes_any_more(chromium: Browser) -> None:
    shown = Shown()
    async with shown.served() as task, page_of(chromium, shown.url) as page:
        await expect(page.locator("#state")).to_have_text("Live")
        task.cancel()
        await expect(page.locator("#state")).to_have_text("No data from the bridge.")
        await expect(page.locator("#age")).to_contain_text("The values are")
        await expect(page.locator("body")).to_have_class("stale")


async def test_it_says_when_the_bridge_has_stopped_and_finds_the_next_one_by_itself(
    chromium: Browser,
) -> None:
    first = Shown()
    async with AsyncExitStack() as stack:
        async with first.served():
            visit = page_of(chromium, first.url, may_fail=True)
            page = await stack.enter_async_context(visit)
            await expect(page.locator("#state")).to_have_text("Live")
        await expect(page.locator("#state")).to_have_text("The bridge has stopped.")
        await expect(page.locator("#age")).to_contain_text("The values are 3")
        second = Shown()
        second.port = first.port
        await stack.enter_async_context(second.served())
        await expect(page.locator("#state")).to_have_text("Live")
        second.trade(2, price="5.00")
        await expect(page.locator("#rows tr .price")).to_have_text("5.00")


async def test_the_page_of_a_symbol_shows_price_book_trades_and_streams(
    chromium: Browser, shown: Shown
) -> None:
    async with page_of(chromium, shown.url) as page:
        await page.get_by_role("link", name="BTCUSDT").click()
        await expect(page.locator("#symbol-price")).to_have_text("61837.63")
        shown.trade(2, 3, price="61840.00000000")
        shown.pipeline.publish(
            [
                Quote(
                    SPOT,
                    "BTCUSDT",
                    None,
                    now_us(),
                    "websocket",
                    1,
                    "61839.5",
                    "2",
                    "61840.5",
                    "3.10",
                )
            ]
        )
        trades = page.locator("#trades tbody tr")
        await expect(trades).to_have_count(3)
        await expect(trades.first.locator("td").last).to_have_text("3")
        await expect(page.locator("#book tbody td")).to_have_text(
            ["2", "61839.50", "61840.50", "3.1"]
        )
        await expect(page.locator("#symbol-streams")).to_contain_text("btcusdt@trade")
        assert await page.title() == "BTCUSDT – Tickbridge"
        await page.keyboard.press("Escape")
        await expect(page.locator("#prices")).to_be_visible()


async def test_a_symbol_that_is_not_there_is_named_with_the_remedy(
    chromium: Browser, shown: Shown
) -> None:
    async with page_of(chromium, f"{shown.url}/#/btcusdt") as page:
        text = "The bridge has no symbol btcusdt. Names are in upper case: BTCUSDT."
        await expect(page.locator("#symbol-unknown")).to_have_text(text)
        assert await page.locator("#rows tr").count() == 1


async def test_gaps_are_listed(chromium: Browser, shown: Shown) -> None:
    async with page_of(chromium, f"{shown.url}/#/health") as page:
        await expect(page.locator("#no-gaps")).to_be_visible()
        shown.receive(5)
        (sequencer,) = shown.sequencers.held_back()
        shown.pipeline.publish(sequencer.give_up("stopped"))
        await expect(page.locator("#gaps tbody tr")).to_contain_text(["2 to 4"])
        await expect(page.locator("#no-gaps")).to_be_hidden()


async def test_a_thousand_symbols_can_be_searched_and_ordered(
    chromium: Browser, shown: Shown
) -> None:
    for number in range(1000):
        shown.day(f"S{number:03}USDT", price=f"{number + 1}.5", opened="500")
    async with page_of(chromium, shown.url) as page:
        await expect(visible(page)).to_have_count(1001)
        await page.keyboard.press("/")
        await page.keyboard.type("s12")
        await expect(visible(page)).to_have_text([f"S12{digit}USDT" for digit in range(10)])
        await page.get_by_label("Order").select_option("rise")
        await expect(visible(page).first).to_have_text("S129USDT")
        await page.get_by_label("Find").fill("nothing")
        await expect(page.locator("#no-rows")).to_have_text("No symbol contains “nothing”.")


async def test_names_from_outside_are_text(chromium: Browser, shown: Shown) -> None:
    name = "<IMG SRC=X ONERROR=ALERT(1)>"
    shown.day(name, "1", "1")
    async with page_of(chromium, shown.url) as page:
        await page.get_by_role("link", name=name).click()
        await expect(page.locator("#symbol-title")).to_have_text(name)
        assert await page.locator("main img").count() == 0


@pytest.mark.parametrize("view", ["", "health", "BTCUSDT"])
@pytest.mark.parametrize("size", [PHONE, LAPTOP, DESKTOP], ids=["phone", "laptop", "desktop"])
async def test_no_view_is_wider_than_the_screen_and_no_price_is_cut(
    chromium: Browser, shown: Shown, size: tuple[int, int], view: str
) -> None:
    shown.day("1000SATSUSDT", price="0.00012345", opened="0.00012344")
    viewport = {"width": size[0], "height": size[1]}
    async with page_of(chromium, f"{shown.url}/#/{view}", viewport=viewport) as page:
        await expect(page.locator("#state")).to_have_text("Live")
        await expect(page.locator("#rows tr")).to_have_count(2)
        assert await page.evaluate("document.documentElement.scrollWidth") <= size[0]
        cut = (
            "(cells) => cells.filter((c) => c.scrollWidth > c.clientWidth).map((c) => c.innerText)"
        )
        assert await page.locator("#rows td, #rows th, .tiles dd").evaluate_all(cut) == []


async def test_without_javascript_the_remedy_is_shown(chromium: Browser, shown: Shown) -> None:
    async with page_of(chromium, shown.url, java_script_enabled=False) as page:
        assert "This page needs JavaScript" in await page.inner_text("body")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_all_colours_of_texts_are_easy_to_read(
    chromium: Browser, shown: Shown, scheme: str
) -> None:
    read = "(name) => getComputedStyle(document.documentElement).getPropertyValue(name)"
    async with page_of(chromium, shown.url, color_scheme=scheme) as page:
        colour = {name: await page.evaluate(read, f"--{name}") for name in (*TEXTS, *GROUNDS)}
    for text in TEXTS:
        for ground in GROUNDS:
            assert contrast(colour[text], colour[ground]) >= 4.5, (text, ground)


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours as WCAG 2 defines it."""
    darker, lighter = sorted(map(_luminance, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    parts = (int(colour.strip()[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
