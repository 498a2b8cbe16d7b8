"""The five error cases: each passes on every transport, and each can fail."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bridge import settings
from bridge.core.binance.subscription import Subscription, subscribe
from bridge.errors import InvalidFrame
from bridge.pipeline.pipeline import Pipeline
from bridge.tools.verify import error_cases
from bridge.tools.verify.error_cases import UNKNOWN, try_error_cases
from tests.support.exchange import TRANSPORTS

Failed = Callable[..., Awaitable[dict[str, str]]]

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(error_cases, "CASE_TIMEOUT_S", 2.0)


def options(**binance: Any) -> settings.Binance:
    chosen = {"symbols": ["ETHUSDT"], **binance}
    return settings.load_settings(environment={}, overrides={"binance": chosen}).binance


@pytest.fixture
def failed(monkeypatch: pytest.MonkeyPatch) -> Failed:
    """Run the cases of these names, and return the texts of the failed ones by name."""

    async def failed(*names: str) -> dict[str, str]:
        chosen = {name: error_cases._CASES[name] for name in names}
        monkeypatch.setattr(error_cases, "_CASES", chosen)
        made = await try_error_cases(options())
        return {check.name: check.text for check in made if not check.passed}

    return failed


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_all_are_handled_and_say_how(transport: str) -> None:
    made = await try_error_cases(options(**TRANSPORTS[transport]))
    texts = {check.name: check.text for check in made if check.passed}
    assert list(texts) == ["wrong_url", "wrong_symbol", "no_answer", "no_pong", "broken_json"]
    assert "write wss://host" in texts["wrong_url"]
    assert UNKNOWN in texts["wrong_symbol"]
    assert "timeout after 0.5 s, next attempt after" in texts["no_answer"]
    assert "data again within" in texts["no_pong"]
    assert "none lost" in texts["broken_json"]


async def test_a_wrong_url_that_is_taken_is_told(
    failed: Failed, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "wss://stream.binance.com:9443"
    monkeypatch.setattr(error_cases, "WRONG_URL", url)
    assert await failed("wrong_url") == {"wrong_url": f"{url} is accepted as a URL"}


async def test_a_wrong_symbol_that_is_subscribed_to_is_told(
    failed: Failed, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def all_of_them(options: settings.Binance, _: object) -> Subscription:
        return subscribe(options.symbols, options.streams, [], None)

    monkeypatch.setattr(error_cases, "find_streams", all_of_them)
    text = f"{UNKNOWN} is subscribed to, or BTCUSDT is not"
    assert await failed("wrong_symbol") == {"wrong_symbol": text}


@pytest.mark.usefixtures("impatient")
async def test_a_connection_that_is_never_given_up_is_told(
    failed: Failed, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = {"connect_timeout_s": 60.0, "ping_interval_s": 60.0, "ping_timeout_s": 60.0}
    monkeypatch.setattr(error_cases, "_HASTE", slow)
    nothing = "no result within 2 s"
    assert await failed("no_answer", "no_pong") == {"no_answer": nothing, "no_pong": nothing}


@pytest.mark.usefixtures("impatient")
async def test_broken_frames_that_nobody_hears_of_are_told(
    failed: Failed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swallowed(*_: object) -> None:
        pass

    monkeypatch.setattr(Pipeline, "_invalid", swallowed)
    assert await failed("broken_json") == {"broken_json": "no result within 2 s"}


async def test_broken_frames_that_cost_a_trade_are_told(
    failed: Failed, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Pipeline._invalid

    def late(self: Pipeline, error: InvalidFrame, payload: bytes, received: int) -> None:
        before(self, error, payload, received)
        if self._records and self._records[0].route.message_type == "trade":
            del self._records[0]
            return
        records = self._pushes[0].__self__.records  # type: ignore[attr-defined]  # a MemorySink
        if len(records) > 1:
            del records[1]

    monkeypatch.setattr(Pipeline, "_invalid", late)
    (text,) = (await failed("broken_json")).values()
    assert "trades are lost" in text


async def test_they_take_no_longer_than_one_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    barrier = asyncio.Barrier(len(error_cases._CASES))

    async def meet(_: settings.Binance) -> str:
        await barrier.wait()
        return "met"

    monkeypatch.setattr(error_cases, "_CASES", dict.fromkeys(error_cases._CASES, meet))
    assert {check.text for check in await try_error_cases(options())} == {"met"}
