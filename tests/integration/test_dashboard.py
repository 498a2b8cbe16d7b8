"""The dashboard of a running bridge shows the same prices as Redis."""

import asyncio
from decimal import Decimal

import pytest
from playwright.async_api import Page

from bridge.app.service import Service
from bridge.client import LatestPrices
from bridge.settings import load_settings
from bridge.tools.simulator import Market, SimulatedExchange
from tests.support.bridge_settings import bridge_settings
from tests.support.brokers import Kafka, RedisAddress
from tests.support.browser import browser, page_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

SYMBOLS = ("PAGEAUSDT", "PAGEBUSDT", "PAGECUSDT")


async def shown_prices(page: Page) -> dict[str, Decimal]:
    """Return the prices on the page by symbol."""
    read = "(rows) => rows.map((r) => [r.cells[0].innerText, r.cells[1].innerText])"
    cells = await page.locator("#rows tr").evaluate_all(read)
    return {symbol: Decimal(price) for symbol, price in cells if price[0].isdigit()}


async def test_the_prices_on_the_page_equal_those_in_redis(
    kafka: Kafka, redis: RedisAddress, unique: str
) -> None:
    market = Market(SYMBOLS, seed=7, begin_ms=1_790_000_000_000, trades_per_second=2)
    async with (
        asyncio.timeout(100),
        browser() as chromium,
        SimulatedExchange(market) as exchange,
        LatestPrices(redis.url) as latest,
    ):
        overrides = bridge_settings(
            exchange, kafka.bootstrap_servers, redis.url, unique, symbols=SYMBOLS, proxy="none"
        )
        service = Service(load_settings(environment={}, overrides=overrides))
        port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        running = asyncio.create_task(service.run(port.set_result))
        async with page_of(chromium, f"http://127.0.0.1:{await port}") as page:
            seen: set[Decimal] = set()
            equal = 0
            while equal < 5:
                before = await shown_prices(page)
                found = await latest.get_many(SYMBOLS)
                in_redis = {symbol: price.price for symbol, price in found.items()}
                if len(before) == len(SYMBOLS) and before == in_redis:
                    equal += 1
                    seen |= set(before.values())
                await asyncio.sleep(0.1)
        assert len(seen) >= len(SYMBOLS)
        service.stop()
        await running
