import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from bridge.tools.simulator import (
    Capture,
    Market,
    Message,
    Replay,
    SimulatedExchange,
    SimulatorError,
)
from bridge.tools.simulator import market as market_module
from bridge.tools.simulator.market import present_ms
from bridge.tools.simulator.subscriber import BUFFER_BYTES
from tests.support.simulator import BEGIN_MS, capture_of, market, trade_message, trades
from tests.support.simulator_clients import asked, closed, get, listening, opened, received

pytestmark = pytest.mark.timeout(20)


async def test_a_combined_stream_is_wrapped_and_a_raw_one_is_bare() -> None:
    stream, payload = trade_message(7, BEGIN_MS)
    async with (
        opened([(stream, payload)], start_after_streams=1) as exchange,
        listening(exchange, "/stream") as combined,
        listening(exchange, "/ws") as raw,
    ):
        await combined.send('{"method":"LIST_SUBSCRIPTIONS","id":1}')
        assert await combined.recv() == '{"result":[],"id":1}'
        await raw.send(json.dumps({"method": "SUBSCRIBE", "params": [stream], "id": 1}))
        assert await received(raw, 2) == ['{"result":null,"id":1}', payload.decode()]
    async with (
        opened([(stream, payload)]) as exchange,
        listening(exchange, f"/stream?streams={stream}") as combined,
    ):
        assert await combined.recv() == f'{{"stream":"{stream}","data":{payload.decode()}}}'


@pytest.mark.parametrize(
    "target",
    ["/ws/牛来usdt@trade", "/ws/%E7%89%9B%E6%9D%A5usdt%40trade"],
)
async def test_a_symbol_of_chinese_characters_can_be_asked_for_in_a_url(target: str) -> None:
    (message,) = [trade_message(7, BEGIN_MS, "牛来USDT")]
    async with opened([message]) as exchange, listening(exchange, target) as client:
        assert json.loads(await client.recv())["s"] == "牛来USDT"


async def test_a_wrong_stream_is_acknowledged_and_stays_silent() -> None:
    async with (
        opened(trades(3), start_after_streams=4) as exchange,
        listening(exchange, "/stream?streams=BTCUSDT@trade/nope@trade/btcusdt@nonsense") as client,
    ):
        assert len((await asked(client, "LIST_SUBSCRIPTIONS"))["result"]) == 3
        await client.send('{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":2}')
        assert await client.recv() == '{"result":null,"id":2}'
        streams = {json.loads(text)["stream"] for text in await received(client, 3)}
        assert streams == {"btcusdt@trade"}


async def test_what_is_unsubscribed_is_not_sent_any_more() -> None:
    messages = [
        message for pair in zip(trades(3), trades(3, 1, "ETHUSDT"), strict=True) for message in pair
    ]
    async with (
        opened(messages, start_after_streams=3) as exchange,
        listening(exchange, "/ws/btcusdt@trade/ethusdt@trade") as client,
    ):
        await asked(client, "UNSUBSCRIBE", "btcusdt@trade")
        await client.send('{"method":"SUBSCRIBE","params":["x@trade","y@trade"],"id":2}')
        assert await client.recv() == '{"result":null,"id":2}'
        symbols = [json.loads(text)["s"] for text in await received(client, 3)]
        assert symbols == ["ETHUSDT"] * 3


async def test_microseconds_are_sent_to_those_who_ask_for_them() -> None:
    async with (
        opened(trades(1), start_after_streams=2) as exchange,
        listening(exchange, "/ws/btcusdt@trade?timeUnit=MICROSECOND") as fine,
        listening(exchange, "/ws/btcusdt@trade/x@trade") as coarse,
    ):
        assert json.loads(await fine.recv())["T"] == BEGIN_MS * 1000
        assert json.loads(await coarse.recv())["T"] == BEGIN_MS


async def test_deflate_is_negotiated_when_offered_unless_switched_off() -> None:
    messages = trades(2_000)
    for compression, extensions in ((True, 1), (False, 0)):
        async with (
            opened(messages, compression=compression) as exchange,
            connect(f"{exchange.websocket_url}/ws/btcusdt@trade", max_queue=None) as client,
        ):
            assert len(client.protocol.extensions) == extensions
            texts = await received(client, len(messages))
            assert texts == [payload.decode() for _, payload in messages]


async def test_broken_json_closes_with_1008() -> None:
    async with opened(trades(1)) as exchange, listening(exchange, "/ws") as client:
        await client.send("{")
        assert (await closed(client))[0] == 1008


async def test_the_1025th_stream_is_answered_with_an_error_and_closes_with_1008() -> None:
    names = [f"s{index}@trade" for index in range(1_025)]
    async with opened(trades(1)) as exchange, listening(exchange, "/stream") as client:
        answer = await asked(client, "SUBSCRIBE", *names)
        assert answer == {"error": {"code": 4, "msg": "Too many subscriptions"}, "id": 1}
        assert await closed(client) == (1008, "Too many subscriptions")


@pytest.mark.parametrize("kind", ["messages", "pings"])
async def test_the_sixth_message_in_a_second_closes_with_1008(kind: str) -> None:
    async with opened(trades(1)) as exchange, listening(exchange, "/ws") as client:
        for _ in range(6):
            if kind == "pings":
                await client.ping()
            else:
                await client.send('{"method":"LIST_SUBSCRIPTIONS","id":1}')
        assert await closed(client) == (1008, "Too many requests")


async def test_five_messages_in_a_second_are_allowed() -> None:
    async with opened(trades(1)) as exchange, listening(exchange, "/ws") as client:
        for _ in range(5):
            assert (await asked(client, "LIST_SUBSCRIPTIONS"))["result"] == []


async def test_a_connection_ends_when_its_life_is_over() -> None:
    async with (
        opened(trades(1), life_s=0.01) as exchange,
        listening(exchange, "/ws/btcusdt@nothing") as client,
    ):
        assert (await closed(client))[0] == 1001


async def test_an_unknown_path_is_not_found() -> None:
    async with opened(trades(1)) as exchange:
        assert (await get(exchange, "/nonsense"))[0] == 404
        with pytest.raises(InvalidStatus, match="404"):
            await connect(exchange.websocket_url + "/nonsense")


async def test_rest_knows_what_a_stream_missed_whoever_listened() -> None:
    messages = [*trades(50), *trades(50, 900, "ETHUSDT")]
    async with (
        opened(messages) as exchange,
        listening(exchange, "/ws/btcusdt@trade") as client,
    ):
        await received(client, 50)
        await exchange.finished.wait()
        status, rows = await get(exchange, "/api/v3/historicalTrades?symbol=ETHUSDT&fromId=940")
        assert status == 200
        assert [row["id"] for row in rows] == list(range(940, 950))
        assert await get(exchange, "/api/v3/depth?symbol=NOPE") == (
            400,
            {"code": -1121, "msg": "Invalid symbol."},
        )


async def test_all_clients_share_one_market_clock() -> None:
    async with (
        opened(trades(300), start_after_streams=2) as exchange,
        listening(exchange, "/ws/btcusdt@trade") as one,
        listening(exchange, "/ws/btcusdt@trade/x@trade") as other,
    ):
        assert await received(one, 300) == await received(other, 300)


async def test_flat_out_a_client_that_pauses_loses_nothing() -> None:
    messages = trades(40_000)
    async with (
        opened(messages, compression=False) as exchange,
        connect(
            f"{exchange.websocket_url}/ws/btcusdt@trade", compression=None, max_queue=2
        ) as client,
    ):
        texts = await received(client, len(messages))
        await exchange.finished.wait()
    assert texts == [payload.decode() for _, payload in messages]


async def test_flat_out_the_market_waits_while_nobody_listens() -> None:
    source = Replay([capture_of(trades(10))], loop=True)
    async with opened(source) as exchange:
        async with listening(exchange, "/ws/btcusdt@trade") as client:
            await received(client, 10)
            await exchange.finished.wait()
        async with listening(exchange, "/ws/btcusdt@trade") as client:
            first, second = map(json.loads, await received(client, 2))
            assert second["t"] == first["t"] + 1


async def test_at_a_finite_speed_a_client_too_far_behind_is_closed_with_1008() -> None:
    payload = b'{"e":"trade","s":"BTCUSDT","x":"%b"}' % (b"x" * 500_000)
    messages = [("btcusdt@trade", payload)] * (4 * BUFFER_BYTES // len(payload))
    async with (
        opened(messages, speed=1e6) as exchange,
        connect(
            f"{exchange.websocket_url}/ws/btcusdt@trade", compression=None, max_queue=1
        ) as client,
    ):
        await exchange.finished.wait()
        assert await closed(client) == (1008, "Too slow")


async def test_at_a_finite_speed_messages_come_at_their_times() -> None:
    loop = asyncio.get_running_loop()
    source = Replay([capture_of(trades(5), every_us=100_000)])
    async with (
        opened(source, speed=10.0) as exchange,
        listening(exchange, "/ws/btcusdt@trade") as client,
    ):
        await client.recv()
        begun = loop.time()
        await received(client, 4)
        assert 0.03 < loop.time() - begun < 1
        await exchange.finished.wait()


async def test_an_invented_market_is_served_like_a_recorded_one() -> None:
    async with (
        opened(market("BTCUSDT", "ETHUSDT"), speed=100.0) as exchange,
        listening(exchange, "/stream?streams=btcusdt@trade/ethusdt@depth5") as client,
    ):
        streams = {json.loads(text)["stream"] for text in await received(client, 60)}
        assert streams == {"btcusdt@trade", "ethusdt@depth5"}
        status, listed = await get(exchange, "/api/v3/exchangeInfo")
        assert (status, len(listed["symbols"])) == (200, 2)


async def test_an_invented_market_of_today_is_on_time_from_its_first_subscription(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a_minute_ago_ms = present_ms() - 60_000
    with monkeypatch.context() as earlier:
        earlier.setattr(market_module, "present_ms", lambda: a_minute_ago_ms)
        source = Market(["BTCUSDT"], trades_per_second=50)
    async with opened(source, speed=1.0) as exchange:
        assert (await get(exchange, "/api/v3/historicalTrades?symbol=BTCUSDT"))[1] == []
        began_ms = present_ms()
        async with listening(exchange, "/ws/btcusdt@trade") as client:
            sent = [json.loads(text) for text in await received(client, 20)]
            assert began_ms <= sent[0]["T"]
            assert 0 <= present_ms() - sent[-1]["T"] < 1_000
        _, rows = await get(exchange, "/api/v3/historicalTrades?symbol=BTCUSDT")
        assert [row["id"] for row in rows[:20]] == [trade["t"] for trade in sent]


async def test_closing_the_exchange_says_going_away() -> None:
    async with opened(trades(1)) as exchange:
        client = await connect(f"{exchange.websocket_url}/ws")
    assert (await closed(client))[0] == 1001


async def test_an_error_of_the_caller_leaves_the_exchange_as_it_is() -> None:
    with pytest.raises(LookupError, match="mine"):
        async with opened(trades(1)):
            raise LookupError("mine")


async def test_a_market_that_fails_takes_its_caller_with_it() -> None:
    class Broken(Replay):
        def take(self, until_us: int | None, limit: int) -> Sequence[Message]:
            raise ArithmeticError(until_us, limit)

    with pytest.raises(ExceptionGroup, match="unhandled errors"):
        async with (
            opened(Broken([capture_of(trades(1))])) as exchange,
            listening(exchange, "/ws/btcusdt@trade"),
        ):
            await exchange.finished.wait()


async def test_a_speed_that_is_none_is_refused() -> None:
    with pytest.raises(SimulatorError, match="give one above 0"):
        SimulatedExchange(market(), speed=0)


@pytest.mark.parametrize("name", ["spot/btcusdt_20240808.gz", "spot/altcoins_20211012.gz"])
async def test_recorded_traffic_arrives_byte_for_byte(captures: Path, name: str) -> None:
    capture = Capture.read(captures / name)
    streams = "/".join(sorted({frame.stream for frame in capture.frames}))
    async with (
        opened(Replay([capture])) as exchange,
        connect(
            f"{exchange.websocket_url}/stream?streams={streams}", compression=None, max_queue=None
        ) as client,
    ):
        texts = await received(client, len(capture.frames))
        await exchange.finished.wait()
    assert texts == [
        f'{{"stream":"{frame.stream}","data":{frame.payload.decode()}}}' for frame in capture.frames
    ]
