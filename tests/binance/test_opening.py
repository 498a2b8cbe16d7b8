"""A connection that is given up while it opens."""

import asyncio

import pytest

from bridge.binance.transport.connect import open_websocket
from bridge.binance.transport.turns import Turns
from tests.support.exchange import FakeExchange, LateAnswer, options_for, send, trade

pytestmark = pytest.mark.timeout(20)


class Listener:
    """Notes what a connection reports."""

    def __init__(self) -> None:
        self.reports: list[str] = []

    def on_frames(self, frames: list[bytes], received: int) -> None:  # noqa: ARG002
        self.reports += map(bytes.decode, frames)

    def on_binary(self, payload: bytes, received: int) -> None:  # noqa: ARG002
        self.reports.append("binary")

    def on_lost(self) -> None:
        self.reports.append("lost")


async def test_it_is_closed_and_reports_nothing_whenever_the_exchange_answers() -> None:
    """Its listener may be of a shard that another bridge has taken over."""
    answer, listener = LateAnswer(send(trade(1))), Listener()
    async with FakeExchange(answer).serving() as exchange:
        options = options_for(exchange).binance
        path = "/stream?streams=btcusdt@trade"
        opening = asyncio.create_task(open_websocket(options, path, listener, Turns()))
        await answer.asked.wait()
        opening.cancel()
        await asyncio.wait((opening,))
        answer.may_answer.set()
        await answer.connection.wait_closed()
    assert opening.cancelled()
    assert listener.reports == []
