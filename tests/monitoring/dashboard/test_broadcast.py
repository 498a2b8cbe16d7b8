"""All viewers share each frame, and none is waited for."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any
from unittest.mock import create_autospec

import msgspec
import pytest

from bridge.core.model.events import Gap
from bridge.monitoring.dashboard import broadcast
from bridge.telemetry import now_us
from tests.support.dashboard import Shown
from tests.support.exchange import trade

Frames = AsyncGenerator[bytes, None]


@pytest.fixture
async def shown(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shown]:
    monkeypatch.setattr(broadcast, "FRAME_S", 0.01)
    shown = Shown()
    running = asyncio.create_task(shown.dashboard.run())
    yield shown
    running.cancel()


@asynccontextmanager
async def viewer(shown: Shown, symbol: str | None = None) -> AsyncIterator[Frames]:
    async with asyncio.timeout(30), aclosing(shown.dashboard.frames(symbol)) as frames:
        yield frames


def parts(frame: bytes) -> dict[str, Any]:
    """Return the contents of a frame by the names of its events."""
    events = (text.split("\ndata: ") for text in frame.decode().split("\n\n") if text)
    return {name.removeprefix("event: "): json.loads(data) for name, data in events}


async def until(frames: Frames, name: str, symbol: str | None = None) -> Any:
    """Return the contents of the next event of this name, and about this symbol."""
    async for frame in frames:
        found = parts(frame).get(name)
        if found is not None and (symbol is None or symbol in found["symbols"]):
            return found
    pytest.fail("the frames have ended")


async def test_the_first_frame_is_whole_and_the_next_have_what_changed(shown: Shown) -> None:
    async with viewer(shown) as frames:
        first = parts(await anext(frames))
        assert set(first) == {"all_prices", "health", "all_samples", "gaps"}
        assert first["all_prices"]["symbols"]["BTCUSDT"][0] == "61837.63"
        assert first["health"]["connectors"][0]["name"] == "connector-1"
        second = parts(await anext(frames))
        assert second["prices"]["symbols"] == {}
        shown.receive(2)
        assert set((await until(frames, "prices", "BTCUSDT"))["symbols"]) == {"BTCUSDT"}


async def test_a_viewer_that_missed_a_frame_gets_a_whole_one(shown: Shown) -> None:
    async with viewer(shown) as slow, viewer(shown) as fast:
        await anext(slow)
        for _ in range(5):
            await anext(fast)
        assert "all_prices" in parts(await anext(slow))
        assert "all_prices" not in parts(await anext(slow))


async def test_a_frame_is_encoded_once_for_all_viewers(shown: Shown) -> None:
    async with AsyncExitStack() as stack:
        viewers = [await stack.enter_async_context(viewer(shown)) for _ in range(20)]
        for _ in range(3):
            frames = await asyncio.gather(*(anext(each) for each in viewers))
            assert len({id(frame) for frame in frames}) == 1


async def test_without_viewers_nothing_is_encoded(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with viewer(shown) as frames:
        await anext(frames)
    encode = create_autospec(broadcast._event, return_value=b"")
    monkeypatch.setattr(broadcast, "_event", encode)
    for number in range(2, 20):
        shown.receive(number)
        await asyncio.sleep(0.01)
    encode.assert_not_called()


async def test_the_first_frame_after_a_pause_without_viewers_has_the_present_prices(
    shown: Shown,
) -> None:
    async with viewer(shown) as frames:
        first = parts(await anext(frames))
    later = trade(2).replace("61837.63", "61900.01")
    shown.connection.on_frames([later.encode()], now_us())
    async with viewer(shown) as frames:
        again = parts(await anext(frames))
    assert first["all_prices"]["symbols"]["BTCUSDT"][0] == "61837.63"
    assert again["all_prices"]["symbols"]["BTCUSDT"][0] == "61900.01"


async def test_the_page_of_a_symbol_has_its_price_trades_and_streams(shown: Shown) -> None:
    async with viewer(shown, "BTCUSDT") as frames:
        found = parts(await anext(frames))["symbol"]
        assert found["is_known"]
        assert found["price"]["trade_id"] == 1
        assert [stream["name"] for stream in found["streams"]] == ["btcusdt@trade"]
        shown.receive(2, 3)
        while len(found["trades"]) < 3:
            found = parts(await anext(frames))["symbol"]
        assert [each["trade_id"] for each in found["trades"]] == [3, 2, 1]


async def test_the_page_of_a_symbol_that_is_not_there_says_so(shown: Shown) -> None:
    async with viewer(shown, 'NO\n"<b>') as frames:
        found = parts(await anext(frames))["symbol"]
    assert (found["symbol"], found["is_known"], found["trades"]) == ('NO\n"<b>', False, [])


async def test_gap_events_of_the_feed_and_of_kafka_are_shown(shown: Shown) -> None:
    async with viewer(shown) as frames:
        await anext(frames)
        shown.receive(5)
        (sequencer,) = shown.sequencers.held_back()
        shown.pipeline.publish(sequencer.give_up("stopped"))
        (gap,) = await until(frames, "gaps")
        assert (gap["first_id"], gap["last_id"], gap["state"]) == (2, 4, "open")
        shown.kafka.publish([msgspec.convert(gap | {"state": "filled"}, Gap)])
        newest, _ = await until(frames, "gaps")
        assert newest["state"] == "filled"
    async with viewer(shown) as frames:
        assert len(parts(await anext(frames))["gaps"]) == 2


async def test_a_symbol_that_is_no_longer_subscribed_to_leaves(shown: Shown) -> None:
    shown.set_feed(BTCUSDT="live")
    async with viewer(shown) as frames:
        await anext(frames)
        shown.set_feed()
        async for frame in frames:
            if removed := parts(frame)["prices"]["removed"]:
                break
    assert removed == ["BTCUSDT"]


async def test_viewers_are_told_when_the_bridge_stops(shown: Shown) -> None:
    async with viewer(shown) as frames:
        await anext(frames)
        shown.dashboard.end()
        assert [name async for frame in frames for name in parts(frame)][-1] == "end"


async def test_the_history_has_the_prices_of_all_symbols(shown: Shown) -> None:
    shown.dashboard._market.sample()
    assert json.loads(await shown.dashboard.history()) == {"BTCUSDT": [61837.63]}
