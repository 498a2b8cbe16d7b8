"""Each fault as a scripted client sees it."""

import asyncio
import json
from collections.abc import Sequence
from typing import cast

import aiohttp
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from bridge.tools.simulator import (
    AnnounceShutdown,
    CloseWith,
    Cut,
    DropAtOpen,
    Fault,
    FaultPlan,
    Incident,
    Malformation,
    Malformed,
    RefuseHandshake,
    RefuseRequest,
    Reorder,
    Repeat,
    Replay,
    RestBehind,
    RestLacks,
    SimulatedExchange,
    SimulatorError,
    Skip,
    SlowAnswer,
    SlowHandshake,
    StallConnection,
    StallStream,
)
from tests.support.simulator import BEGIN_MS, capture_of, market, trade_message, trades
from tests.support.simulator_clients import asked, closed, get, listening, opened, received

pytestmark = pytest.mark.timeout(20)

TRADES = "/ws/btcusdt@trade"
HISTORY = "/api/v3/historicalTrades?symbol=BTCUSDT&fromId=0&limit=1000"


def plan(*faults: Fault, seed: int = 7) -> FaultPlan:
    return FaultPlan(faults, seed)


def bursts(*begins_s: float) -> Replay:
    """Return a market of ten trades at each of these moments, with ids from 0, 10, 20 on."""
    capture = capture_of([])
    for burst, begin_s in enumerate(begins_s):
        begin_us = BEGIN_MS * 1000 + round(begin_s * 1e6)
        messages = [trade_message(burst * 10 + one, begin_us // 1000) for one in range(10)]
        capture.frames.extend(
            frame._replace(received_us=begin_us) for frame in capture_of(messages).frames
        )
    return Replay([capture])


async def everything(client: ClientConnection, exchange: SimulatedExchange) -> list[str | bytes]:
    """Return all data frames until the whole market has been played."""
    await exchange.finished.wait()
    await client.send('{"method":"LIST_SUBSCRIPTIONS","id":1}')
    frames: list[str | bytes] = []
    while not str(frame := await client.recv()).startswith('{"result"'):
        frames.append(frame)
    return frames


async def seen(
    *faults: Fault, compression: str | None = None
) -> tuple[list[bytes], list[Incident]]:
    """Play 3,000 trades flat out; return a client's frames and the incidents of the exchange."""
    async with (
        opened(trades(3_000), faults=plan(*faults)) as exchange,
        connect(
            exchange.websocket_url + TRADES, compression=compression, max_queue=None, max_size=None
        ) as client,
    ):
        frames = await everything(client, exchange)
        return [f.encode() if isinstance(f, str) else f for f in frames], exchange.happened


PLAYED = [payload for _, payload in trades(3_000)]


def ids(frames: Sequence[str | bytes]) -> list[int]:
    return [json.loads(frame)["t"] for frame in frames]


async def test_a_cut_connection_is_seen_as_1006() -> None:
    fault = Cut(at_s=1.0)
    async with (
        opened(bursts(0, 1.0), faults=plan(fault), speed=20.0) as exchange,
        listening(exchange, TRADES) as client,
    ):
        assert ids(await received(client, 10)) == list(range(10))
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == 1006
        (incident,) = exchange.happened
        assert (incident.fault, incident.connection) == (fault, 0)
        assert 1.0 <= incident.at_s < 19


async def test_an_injected_fault_breaks_the_named_connection_with_the_next_message() -> None:
    async with (
        opened(bursts(*range(200)), faults=plan(), speed=20.0) as exchange,
        listening(exchange, TRADES) as first,
        listening(exchange, TRADES) as second,
    ):
        await asyncio.gather(received(first, 10), received(second, 10))
        fault = Cut(connection=1)
        exchange.inject(fault)
        assert (await closed(second))[0] == 1006
        await received(first, 10)
        assert [(i.fault, i.connection) for i in exchange.happened] == [(fault, 1)]


async def test_an_injected_fault_breaks_all_open_connections() -> None:
    async with (
        opened(bursts(*range(200)), faults=plan(), speed=20.0) as exchange,
        listening(exchange, TRADES) as first,
        listening(exchange, TRADES) as second,
    ):
        await asyncio.gather(received(first, 10), received(second, 10))
        exchange.inject(CloseWith(code=1008))
        assert [(await closed(client))[0] for client in (first, second)] == [1008, 1008]


async def test_a_fault_cannot_be_injected_without_a_fault_plan() -> None:
    async with opened(trades(1)) as exchange:
        with pytest.raises(SimulatorError, match="without a fault plan"):
            exchange.inject(Cut())


@pytest.mark.parametrize("code", [1001, 1008])
async def test_a_close_has_its_code_and_reason(code: int) -> None:
    fault = CloseWith(code=code, reason="so it is")
    async with (
        opened(trades(1_000), faults=plan(fault)) as exchange,
        listening(exchange, TRADES) as client,
    ):
        assert await closed(client) == (code, "so it is")
        assert exchange.happened == [Incident(0.512, fault, 0)]


@pytest.mark.parametrize("form", ["/ws/", "/stream?streams="])
async def test_a_shutdown_is_announced_before_the_connection_closes(form: str) -> None:
    fault = AnnounceShutdown(at_s=1.0, lead_s=1.0)
    async with (
        opened(bursts(0, 1.0, 3.0), faults=plan(fault), speed=20.0) as exchange,
        listening(exchange, form + "btcusdt@trade") as client,
    ):
        await received(client, 10)
        data = {"e": "serverShutdown", "E": BEGIN_MS + 1_000}
        wrapped = {"stream": "!serverShutdown", "data": data}
        assert json.loads(await client.recv()) == (data if form == "/ws/" else wrapped)
        await received(client, 10)
        assert (await closed(client))[0] == 1001
        assert [incident.fault for incident in exchange.happened] == [fault]


@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_skipped_frames_are_missing(compression: str | None) -> None:
    frames, happened = await seen(Skip(share=0.02, count=3), compression=compression)
    skipped = {incident.payload for incident in happened}
    assert len(skipped) > 50
    assert frames == [payload for payload in PLAYED if payload not in skipped]


async def test_repeated_frames_come_twice() -> None:
    frames, happened = await seen(Repeat(share=0.02))
    repeated = {incident.payload for incident in happened}
    assert len(repeated) > 20
    assert frames == [p for p in PLAYED for _ in range(2 if p in repeated else 1)]


async def test_reordered_frames_change_places() -> None:
    frames, happened = await seen(Reorder(every_s=0.3))
    expected = PLAYED.copy()
    for place in [PLAYED.index(incident.payload) for incident in happened]:
        expected[place : place + 2] = reversed(expected[place : place + 2])
    assert len(happened) > 2
    assert frames == expected != PLAYED


@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_malformed_frames_come_beside_the_good_ones(compression: str | None) -> None:
    kinds = tuple(Malformation)
    frames, happened = await seen(Malformed(share=0.01, kinds=kinds), compression=compression)
    bad = [incident.payload for incident in happened]
    small = {payload for payload in bad if payload} - set(PLAYED)
    assert bad.count(b"") == sum(len(frame) > 2**20 for frame in frames) > 0
    good = [frame for frame in frames if frame not in small and len(frame) <= 2**20]
    binary = sum(payload in PLAYED for payload in bad)
    assert len(good) == len(PLAYED) + binary
    assert list(dict.fromkeys(good)) == PLAYED


async def test_a_stalled_stream_loses_its_frames_or_has_them_late() -> None:
    for lost, expected in ((True, [*range(10), *range(20, 30)]), (False, [*range(30)])):
        fault = StallStream(at_s=1.0, for_s=1.0, lost=lost)
        async with (
            opened(bursts(0, 1.0, 21.0), faults=plan(fault), speed=20.0) as exchange,
            listening(exchange, TRADES) as client,
        ):
            assert ids(await everything(client, exchange)) == expected
            (incident,) = exchange.happened
            assert incident.subject == "btcusdt@trade"


@pytest.mark.parametrize("deaf", [True, False])
async def test_a_silent_connection_answers_pings_unless_it_is_deaf(*, deaf: bool) -> None:
    fault = StallConnection(for_s=1.0, deaf=deaf, connection=0)
    async with (
        opened(bursts(0, 5.0), faults=plan(fault), speed=20.0, start_after_streams=2) as exchange,
        listening(exchange, TRADES) as silent,
        listening(exchange, TRADES + "/x@trade") as lively,
    ):
        await received(lively, 10)
        pong = asyncio.ensure_future(await silent.ping())
        if deaf:
            assert (await asked(lively, "LIST_SUBSCRIPTIONS"))["result"]
            assert not pong.done()
            await received(lively, 1)
        await pong
        assert ids(await received(silent, 10)) == list(range(10, 20))
        assert [(i.fault, i.connection) for i in exchange.happened] == [(fault, 0)]


async def test_a_deaf_connection_does_not_keep_the_exchange_from_closing() -> None:
    fault = StallConnection(for_s=1e9, deaf=True, connection=0)
    async with (
        opened(bursts(0, 1.0), faults=plan(fault), speed=100.0) as exchange,
        connect(exchange.websocket_url + TRADES, close_timeout=0.1),
    ):
        await exchange.finished.wait()
        loop = asyncio.get_running_loop()
        begun = loop.time()
    assert loop.time() - begun < 4


async def test_two_connections_misbehave_differently() -> None:
    async with (
        opened(trades(3_000), faults=plan(Skip(share=0.02)), start_after_streams=2) as exchange,
        listening(exchange, TRADES) as one,
        listening(exchange, TRADES + "/x@trade") as other,
    ):
        told = [ids(await everything(client, exchange)) for client in (one, other)]
        skipped = [
            {json.loads(i.payload)["t"] for i in exchange.happened if i.connection == number}
            for number in (0, 1)
        ]
        assert skipped[0] != skipped[1]
        for number in (0, 1):
            assert set(told[number]) | skipped[number] == set(range(100, 3_100))


@pytest.mark.parametrize(
    ("status", "retry_after_s"), [(429, 3), (418, 120), (451, None), (503, None)]
)
async def test_a_handshake_can_be_refused(status: int, retry_after_s: int | None) -> None:
    fault = RefuseHandshake(status=status, retry_after_s=retry_after_s, times=1)
    async with opened(trades(1), faults=plan(fault)) as exchange:
        with pytest.raises(InvalidStatus) as refused:
            await connect(exchange.websocket_url + TRADES)
        answer = refused.value.response
        asked_for = None if retry_after_s is None else str(retry_after_s)
        assert (answer.status_code, answer.headers.get("Retry-After")) == (status, asked_for)
        assert exchange.happened == [Incident(0.0, fault, 0)]
        async with listening(exchange, TRADES) as client:
            assert ids(await received(client, 1)) == [100]


async def test_a_connection_can_be_dropped_as_soon_as_it_is_open() -> None:
    fault = DropAtOpen(connection=0)
    async with opened(trades(1), faults=plan(fault)) as exchange:
        async with listening(exchange, TRADES) as client:
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert client.close_code == 1006
        async with listening(exchange, TRADES) as client:
            await received(client, 1)
        assert exchange.happened == [Incident(0.0, fault, 0)]


async def test_a_handshake_and_an_answer_can_be_slow() -> None:
    slow = (SlowHandshake(by_s=0.05), SlowAnswer(by_s=0.05, paths="*/ping"))
    loop = asyncio.get_running_loop()
    async with opened(trades(1), faults=plan(*slow)) as exchange:
        begun = loop.time()
        async with listening(exchange, TRADES):
            assert loop.time() - begun >= 0.05
        begun = loop.time()
        assert await get(exchange, "/api/v3/ping") == (200, {})
        assert loop.time() - begun >= 0.05
        assert [incident.fault for incident in exchange.happened] == list(slow)


@pytest.mark.parametrize(
    ("status", "retry_after_s"), [(429, 3), (418, 120), (451, None), (500, None), (502, None)]
)
async def test_a_request_can_be_refused(status: int, retry_after_s: int | None) -> None:
    fault = RefuseRequest(status=status, retry_after_s=retry_after_s, paths="*Trades")
    async with opened(trades(1), faults=plan(fault)) as exchange:
        async with aiohttp.request("GET", exchange.rest_url + HISTORY) as answer:
            asked_for = None if retry_after_s is None else str(retry_after_s)
            assert (answer.status, answer.headers.get("Retry-After")) == (status, asked_for)
            assert (answer.content_type == "application/json") == (status < 500)
        assert await get(exchange, "/api/v3/ping") == (200, {})
        assert exchange.happened == [Incident(0.0, fault, subject=HISTORY)]


async def test_a_share_of_the_requests_is_refused() -> None:
    async with opened(trades(1), faults=plan(RefuseRequest(status=429, share=0.3))) as exchange:
        async with aiohttp.ClientSession(exchange.rest_url) as session:
            statuses = [(await session.get("/api/v3/ping")).status for _ in range(60)]
        assert statuses.count(429) == len(exchange.happened)
        assert 5 < statuses.count(429) < 35


async def test_requests_are_refused_for_a_span_of_the_markets_time() -> None:
    fault = RefuseRequest(status=503, until_s=1.0)
    async with (
        opened(bursts(0, 2.0), faults=plan(fault), speed=20.0) as exchange,
        listening(exchange, TRADES) as client,
    ):
        async with aiohttp.request("GET", exchange.rest_url + HISTORY) as answer:
            assert answer.status == 503
        await received(client, 20)
        assert (await get(exchange, HISTORY))[0] == 200
        assert len(exchange.happened) == 1


async def test_rest_can_be_behind_the_stream_and_lack_ids() -> None:
    faults = plan(RestBehind(by_ms=500), RestLacks(ids=frozenset({7})))
    async with (
        opened(bursts(0, 1.0), faults=faults, speed=20.0) as exchange,
        listening(exchange, TRADES) as client,
    ):
        await received(client, 20)
        await exchange.finished.wait()
        known = [row["id"] for row in (await get(exchange, HISTORY))[1]]
        assert known == [0, 1, 2, 3, 4, 5, 6, 8, 9]
        assert [incident.ids for incident in exchange.happened] == [tuple(range(10, 20)), (7,)]
        assert exchange.history.id_range("btcusdt@trade") == (0, 19)


async def test_the_market_goes_on_while_a_connection_is_away() -> None:
    async with opened(bursts(0, 1.0, 2.0), faults=plan(), speed=20.0) as exchange:
        async with listening(exchange, TRADES) as client:
            assert ids(await received(client, 10)) == list(range(10))
        await exchange.finished.wait()
        assert [trade.id for trade in exchange.history.played("btcusdt@trade")] == [*range(30)]
        assert exchange.history.counts == {"btcusdt@trade": 30}
        rows = (await get(exchange, HISTORY + "0"))[1]
        assert rows["code"] == -1130
        assert [row["id"] for row in (await get(exchange, HISTORY))[1]] == [*range(30)]


async def test_a_seed_does_the_same_again() -> None:
    faults = FaultPlan.seeded(5).faults
    again = [await seen(*(f for f in faults if isinstance(f, SEEN_BY_ONE))) for _ in range(2)]
    assert again[0] == again[1]
    assert len({type(incident.fault) for incident in again[0][1]}) >= 4


SEEN_BY_ONE = Repeat | Reorder | Skip | Malformed | StallStream


async def test_a_client_can_live_with_a_seeded_plan() -> None:
    """Reconnect after each fault, and get more than a twentieth of the trades.

    The share depends on the machine: the market plays ten times as fast as in reality.
    """
    got: set[int] = set()
    source = Replay([capture_of(market("BTCUSDT", trades_per_second=500).step(BEGIN_MS + 30_000))])
    async with opened(source, faults=FaultPlan.seeded(11, every_s=1.0), speed=10.0) as exchange:
        finished = asyncio.create_task(exchange.finished.wait())
        while not finished.done():
            got |= await visit(exchange, finished)
        played = {trade.id for trade in exchange.history.played("btcusdt@trade")}
        assert got < played
        assert len(got) > len(played) / 20
        assert len({type(incident.fault) for incident in exchange.happened}) >= 8


async def visit(exchange: SimulatedExchange, finished: asyncio.Task[bool]) -> set[int]:
    got: set[int] = set()
    try:
        async with connect(
            exchange.websocket_url + TRADES, max_queue=None, close_timeout=0.1
        ) as client:
            while not finished.done():
                async with asyncio.timeout(0.2):
                    frame = await client.recv()
                try:
                    got.add(int(json.loads(cast("str", frame))["t"]))
                except (ValueError, KeyError):  # malformed, or an announcement
                    continue
    except (OSError, TimeoutError, ConnectionClosed, InvalidStatus):
        pass
    return got


@pytest.mark.parametrize("status", [0, 999])
def test_a_status_that_is_none_is_refused(status: int) -> None:
    with pytest.raises(SimulatorError, match="is not an HTTP status"):
        RefuseRequest(status=status)
    with pytest.raises(SimulatorError, match="is not an HTTP status"):
        RefuseHandshake(status=status)
