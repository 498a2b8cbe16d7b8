import asyncio
from collections.abc import AsyncIterator

import pytest

from bridge import settings
from bridge.settings.urls import SecretUrl
from bridge.tools.demo.probe import candidates, find_live
from bridge.tools.simulator import Market, SimulatedExchange
from tests.support.demo import server

# Long enough for any loopback, and short enough for a test.
TIMEOUT_S = 0.5


def at(port: int, *, rest_port: int | None = None) -> settings.Binance:
    return settings.Binance(
        symbols=["BTCUSDT"],
        websocket_url=f"ws://127.0.0.1:{port}",
        rest_url=f"http://127.0.0.1:{rest_port or port}",
        proxy=SecretUrl("none"),
    )


@pytest.fixture
async def answering() -> AsyncIterator[int]:
    """Yield the port of an exchange that answers."""
    async with SimulatedExchange(Market(["BTCUSDT"], begin_ms=0)) as exchange:
        yield exchange.port


def status(code: int, phrase: str) -> bytes:
    return f"HTTP/1.1 {code} {phrase}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


async def test_an_exchange_whose_rest_and_streams_answer_is_live(answering: int) -> None:
    live, reasons = await find_live([at(answering)], TIMEOUT_S)
    assert live == at(answering)
    assert not reasons


async def test_one_that_refuses_the_region_is_named_with_the_reason() -> None:
    async with server(status(451, "Unavailable For Legal Reasons")) as port:
        live, (reason,) = await find_live([at(port)], TIMEOUT_S)
    assert live is None
    assert "answers HTTP 451; the exchange does not serve this region from there" in reason
    assert "binance.websocket_url" not in reason


async def test_one_that_is_too_slow_is_given_up_in_time() -> None:
    async with server(None) as port, asyncio.timeout(5 * TIMEOUT_S):
        live, (reason,) = await find_live([at(port)], TIMEOUT_S)
    assert live is None
    assert reason == "127.0.0.1 does not answer within 0.5 s"


async def test_one_that_is_not_there_is_named() -> None:
    live, (reason,) = await find_live([at(1)], TIMEOUT_S)
    assert live is None
    assert "127.0.0.1:1" in reason


async def test_rest_alone_is_not_enough(answering: int) -> None:
    async with server(status(403, "Forbidden")) as closed:
        live, (reason,) = await find_live([at(closed, rest_port=answering)], TIMEOUT_S)
    assert live is None
    assert f"ws://127.0.0.1:{closed} answers HTTP 403" in reason


async def test_streams_alone_are_not_enough(answering: int) -> None:
    async with server(status(503, "Service Unavailable")) as closed:
        live, (reason,) = await find_live([at(answering, rest_port=closed)], TIMEOUT_S)
    assert live is None
    assert f"http://127.0.0.1:{closed} answers HTTP 503" in reason


async def test_the_second_is_taken_where_the_first_does_not_answer(answering: int) -> None:
    async with server(None) as silent, asyncio.timeout(TIMEOUT_S):
        live, _ = await find_live([at(silent), at(answering)], 60.0)
    assert live == at(answering)


def test_the_hosts_for_market_data_only_stand_in_for_the_main_ones_and_for_no_other() -> None:
    main = settings.Binance(symbols=["BTCUSDT"])
    assert [exchange.websocket_url for exchange in candidates(main)] == [
        "wss://stream.binance.com:9443",
        "wss://data-stream.binance.vision",
    ]
    assert candidates(main)[1].rest_url == "https://data-api.binance.vision"
    assert candidates(at(9)) == [at(9)]
