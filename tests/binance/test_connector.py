"""One connector and its connection, against an exchange with faults. The clock is virtual, so the
settings are the defaults and no test waits.
"""

import asyncio
import gc
import socket
import tracemalloc
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import pytest
import uvloop
from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame, Opcode

from bridge.binance.connector import State, later
from bridge.binance.failures import REFUSED_MAX_S
from bridge.binance.rate_limit import CONNECTIONS_PER_WINDOW, WINDOW_S
from bridge.binance.transport.websockets_client import PIECE_BYTES
from bridge.core.binance.decode import MAX_FRAME_BYTES
from bridge.core.model.events import Invalid
from bridge.errors import FeedRefused
from bridge.retry import LEAST_DELAY_S
from tests.support.exchange import (
    LOOPBACK,
    NAME,
    Answer,
    FakeExchange,
    NoAnswer,
    Recorder,
    Script,
    Step,
    bridge,
    close,
    close_after,
    drop,
    end,
    go_deaf,
    self_signed,
    send,
    send_as_text,
    send_in_fragments,
    send_in_one_read,
    trade,
)
from tests.support.journal import Journal

pytestmark = pytest.mark.timeout(20)
over_websockets = pytest.mark.parametrize("transport", ["websockets"], indirect=True)


async def refused_by(*script: Script, **options: object) -> FeedRefused:
    """Return the error that stops a feed."""
    async with FakeExchange(*script).serving() as exchange, bridge(exchange, **options) as running:
        with pytest.raises(ExceptionGroup) as caught:
            await running.running
    (error,) = caught.value.exceptions
    assert isinstance(error, FeedRefused)
    return error


async def test_a_refused_connection_is_tried_again_until_it_opens(journal: Journal) -> None:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port = probe.getsockname()[1]
    exchange = FakeExchange([send(trade(1))])
    exchange.url = f"ws://{LOOPBACK}:{port}"
    async with bridge(exchange) as running:
        await journal.until("connection_down", 5)
        assert running.states() == [State.CONNECTING]
        assert running.pipeline.counts.reconnects["connect"] >= 5


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (NoAnswer(), "does not answer in time"),
        (NoAnswer(reset=True), ""),
        (Answer(500), "HTTP 500"),
        (Answer(502), "HTTP 502"),
        (Answer(503), "HTTP 503"),
        (Answer(504), "HTTP 504"),
    ],
    ids=str,
)
async def test_a_handshake_that_fails_is_tried_again(
    failure: Script, words: str, journal: Journal
) -> None:
    exchange = FakeExchange(failure, failure, [send(trade(1))])
    async with exchange.serving(), bridge(exchange) as running:
        await running.sink.until(1)
        assert running.pipeline.counts.reconnects == {"connect": 2}
    for entry in journal.named("connection_down"):
        assert words in entry["error"]
        assert exchange.url in entry["error"]


async def test_a_connect_timeout_ends_an_attempt_after_the_time_set(journal: Journal) -> None:
    exchange = FakeExchange(NoAnswer(), [send(trade(1))])
    async with exchange.serving(), bridge(exchange, connect_timeout_s=10) as running:
        await running.sink.until(1)
        first, second = exchange.asked_at
        assert 10 <= second - first <= 11
    assert "does not answer in time" in journal.named("connection_down")[0]["error"]


async def test_an_invalid_url_ends_the_feed_and_says_which_setting_to_check() -> None:
    error = await refused_by(Answer(404))
    assert "HTTP 404" in str(error)
    assert "binance.websocket_url" in str(error)


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (400, "binance.symbols"),
        (451, "wss://data-stream.binance.vision"),
    ],
)
async def test_a_refusal_at_the_start_ends_the_feed_with_a_remedy(status: int, remedy: str) -> None:
    error = await refused_by(Answer(status))
    assert str(status) in str(error)
    assert remedy in error.remedy
    assert error.exit_code == 2


async def test_a_firewall_that_blocks_us_at_the_start_is_waited_for(journal: Journal) -> None:
    exchange = FakeExchange(*[Answer(403)] * 3, [send(trade(1))])
    async with exchange.serving(), bridge(exchange) as running:
        (entry, *_) = await journal.until("connection_down")
        assert running.states() == [State.REFUSED]
        assert "HTTP 403" in entry["error"]
        assert "wss://data-stream.binance.vision" in entry["error"]
        await journal.until("connection_open")
        assert running.states() == [State.OPEN]


@pytest.mark.parametrize("status", [400, 403, 404, 451])
async def test_a_connector_that_is_refused_once_is_back_within_seconds(
    status: int, journal: Journal
) -> None:
    exchange = FakeExchange([send(trade(1)), close()], Answer(status), [send(trade(2))])
    async with exchange.serving(), bridge(exchange) as running:
        await journal.until("connection_down", 2)
        assert running.states() == [State.REFUSED]
        await running.sink.until(2)
        assert exchange.asked_at[2] - exchange.asked_at[1] <= 3
        assert running.pipeline.counts.reconnects == {"closed": 1, "refused": 1}
        await journal.until("connection_open", 2)
        assert running.states() == [State.OPEN]


async def test_a_connector_that_is_always_refused_tries_ever_more_rarely(journal: Journal) -> None:
    exchange = FakeExchange([send(trade(1)), close()], Answer(403))
    async with exchange.serving(), bridge(exchange):
        await journal.until("connection_down", 13)
        pauses = [round(late - early) for early, late in pairwise(exchange.asked_at[1:])]
    assert pauses[0] < 3
    assert pauses == sorted(pauses)
    assert pauses[-1] == REFUSED_MAX_S


async def test_a_connector_refused_later_leaves_the_others_alone(journal: Journal) -> None:
    names = (NAME, "ethusdt@trade")
    both = [send(*map(trade, (1, 2), names)), close_after(1)]
    steady = [send(trade(3)), close_after(60), send(trade(4))]
    exchange = FakeExchange(both, both, Answer(403), steady)
    async with (
        exchange.serving(),
        bridge(exchange, *names, streams_per_connection=1) as running,
    ):
        await journal.until("connection_open", 3)
        await journal.until("connection_down", 4)
        assert not running.running.done()
        assert running.pipeline.counts.reconnects["refused"] == 1


async def test_a_server_that_accepts_and_drops_is_never_met_without_a_pause(
    journal: Journal,
) -> None:
    exchange = FakeExchange([send(trade(1)), drop])
    async with exchange.serving(), bridge(exchange):
        await journal.until("connection_down", CONNECTIONS_PER_WINDOW + 10)
        moments = exchange.asked_at
    pauses = [late - early for early, late in pairwise(moments)]
    assert min(pauses) >= LEAST_DELAY_S * 0.99
    assert moments[CONNECTIONS_PER_WINDOW] - moments[0] >= WINDOW_S * 0.99


async def test_a_server_that_accepts_and_sends_nothing_is_met_ever_more_rarely(
    journal: Journal,
) -> None:
    exchange = FakeExchange([send(trade(1)), close()], [close()])
    async with exchange.serving(), bridge(exchange, reconnect_max_delay_s=1000):
        while len(exchange.asked_at) < 16:  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(1)
    delays = [after - before for before, after in pairwise(exchange.asked_at)]
    assert max(delays[:3]) <= 1
    assert max(delays[8:]) > 10
    assert len(journal.named("connection_down")) < 16


@pytest.mark.parametrize(
    ("answer", "quiet_s"),
    [
        (Answer(429, {"Retry-After": "77"}), 77),
        (Answer(418, {"Retry-After": "333"}), 333),
        (Answer(429), 60),
        (Answer(418), 120),
        (Answer(429, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}), 60),
        (Answer(418, {"Retry-After": "9" * 400}), 3 * 86400),
    ],
    ids=["429", "418", "429 bare", "418 bare", "429 date", "418 for ever"],
)
async def test_who_asks_for_quiet_gets_it_from_every_connector(
    answer: Answer, quiet_s: float
) -> None:
    names = (NAME, "ethusdt@trade")
    exchange = FakeExchange([close_after(1)], answer, [send(trade(1))], [send(trade(2, names[1]))])
    async with (
        exchange.serving(),
        bridge(exchange, *names, streams_per_connection=1) as running,
    ):
        # One connector is open for a second. The other is told to wait, and both obey.
        await running.sink.until(1)
        assert running.pipeline.counts.reconnects["rate_limited"] == 1
        first, told, *after = exchange.asked_at
        assert told - first < 1
        assert min(after) - told >= quiet_s


async def test_a_certificate_that_does_not_hold_ends_the_feed_with_a_remedy(
    tmp_path: Path,
) -> None:
    exchange = FakeExchange()
    async with exchange.serving(ssl=self_signed(tmp_path)), bridge(exchange) as running:
        with pytest.raises(ExceptionGroup) as caught:
            await running.running
    (error,) = caught.value.exceptions
    assert isinstance(error, FeedRefused)
    assert "certificate" in str(error)
    assert "clock" in error.remedy


async def test_over_tls_nothing_is_lost_when_the_end_comes_with_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    many = [trade(number) for number in range(4000)]
    exchange = FakeExchange([send_in_one_read(*many), end], [])
    async with (
        exchange.serving(ssl=server, compression=None),
        bridge(exchange, compression="none") as running,
    ):
        await running.sink.until(4000)
        assert running.sink.ids() == list(range(4000))


async def test_a_heartbeat_failure_replaces_the_connection() -> None:
    exchange = FakeExchange([send(trade(1)), go_deaf], [send(trade(2))])
    async with exchange.serving(), bridge(exchange) as running:
        await running.sink.until(2)
        assert running.pipeline.counts.reconnects == {"ping_timeout": 1}
        first, second = exchange.asked_at
        assert 50 <= second - first <= 60  # a ping after 30 s, 20 s for its pong


@pytest.mark.parametrize(
    "announcement",
    [
        '{"e":"serverShutdown","E":1790000000000}',
        '{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1790000000000}}',
    ],
    ids=["raw", "combined"],
)
async def test_an_announced_shutdown_is_not_waited_for(announcement: str) -> None:
    exchange = FakeExchange([send(trade(1), announcement)], [send(trade(2))])
    async with exchange.serving(), bridge(exchange) as running:
        await running.sink.until(2)
        assert running.pipeline.counts.reconnects == {"server_shutdown": 1}
        assert running.pipeline.counts.invalid == {}
        assert exchange.asked_at[1] - exchange.asked_at[0] < 5


@pytest.mark.parametrize(
    "reply",
    [
        '{"error":{"code":2,"msg":"Invalid request: no such stream"},"id":7}',
        '{"code":2,"msg":"Invalid request: no such stream","id":7}',
        '{"error":{"code":2,"msg":"Invalid request: no such stream"},"id":null}',
    ],
    ids=["nested", "flat", "without id"],
)
async def test_an_error_reply_is_logged_and_the_connector_stays(
    reply: str, journal: Journal
) -> None:
    exchange = FakeExchange([send(reply, trade(1))])
    async with exchange.serving(), bridge(exchange) as running:
        await running.sink.until(1)
        (entry,) = journal.named("exchange_error")
        assert "no such stream" in entry["error"]
        assert entry["request"] in (7, None)
        assert entry["connector"] == "connector-1"
        await journal.until("connection_open")
        assert running.states() == [State.OPEN]
        assert len(exchange.paths) == 1


async def test_an_invalid_symbol_is_named_when_its_stream_stays_silent(journal: Journal) -> None:
    exchange = FakeExchange([send(trade(1))])
    async with exchange.serving(), bridge(exchange, NAME, "btcusdx@trade") as running:
        (entry,) = await journal.until("streams_without_data")
        assert (entry["streams"], entry["count"]) == (["btcusdx@trade"], 1)
        assert entry["waited_s"] == 60
        assert running.feed.without_data() == ["btcusdx@trade"]
        assert not running.feed.unready()


BIG = 3 * MAX_FRAME_BYTES // 2


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (send(b"\x00\x01\xff"), "binary"),
        (send(f'{{"stream":"{NAME}","data":"{"x" * BIG}"}}'), "oversized"),
        (send('{"stream":"btcusdt@trade","data":{'), "malformed"),
        (send(""), "malformed"),
        (send_as_text(b'{"stream":"btcusdt@trade\xff"}'), "malformed"),
        (send(f'{{"stream":"{NAME}","data":{{"e":"trade"}}}}'), "mistyped"),
        (send(trade(5).replace("61837.63", "NaN")), "not_a_number"),
        (send(trade(5).replace('"e":"trade"', '"e":"novelty"')), "unknown_type"),
        (send(trade(5, "ethusdt@trade")), "unknown_stream"),
        (send(trade(5).replace("BTCUSDT", "ETHUSDT")), "wrong_symbol"),
    ],
    ids="binary oversized cut-off empty no-utf8 mistyped nan novelty unasked other-symbol".split(),
)
async def test_a_bad_frame_costs_nothing_but_itself(bad: Step, reason: str) -> None:
    exchange = FakeExchange([bad, send(trade(6))])
    async with exchange.serving(max_size=None), bridge(exchange) as running:
        await running.sink.until(2)
        assert running.pipeline.counts.invalid == {reason: 1}
        assert running.pipeline.counts.frames == 2
        assert running.sink.ids() == [6]
        (event,) = [event for event in running.sink.events if isinstance(event, Invalid)]
        assert event.reason.startswith(reason)
        assert len(event.payload) <= 2**16
        assert len(exchange.paths) == 1


async def test_malformed_json_is_counted_and_the_next_frame_is_delivered() -> None:
    exchange = FakeExchange([send("{", trade(1))])
    async with exchange.serving(), bridge(exchange) as running:
        await running.sink.until(2)
        assert running.pipeline.counts.invalid == {"malformed": 1}
        assert running.sink.ids() == [1]


async def test_a_binary_frame_alone_is_handed_on_too() -> None:
    exchange = FakeExchange([send(b"\x00")])
    async with exchange.serving(), bridge(exchange) as running:
        await running.sink.until(1)
        assert running.sink.reads >= 1


async def test_a_text_in_several_frames_is_one_message() -> None:
    text = trade(1)
    exchange = FakeExchange([send_in_fragments(text[:10], text[10:50], text[50:]), send(trade(2))])
    async with exchange.serving(), bridge(exchange) as running:
        await running.sink.until(2)
        assert running.sink.ids() == [1, 2]
        assert running.pipeline.counts.invalid == {}


@pytest.mark.parametrize(
    "ending", [end, drop, close(1001), go_deaf], ids="end drop close go_deaf".split()
)
@pytest.mark.parametrize(
    ("transport", "compression"),
    [("websockets", "none"), ("websockets", "deflate"), ("picows", "none")],
    indirect=["transport"],
)
async def test_a_flood_arrives_whole_and_in_order_also_when_the_connection_ends_with_it(
    compression: str, ending: Step
) -> None:
    count = 20 * PIECE_BYTES // len(trade(1))
    flood = [trade(number) for number in range(count)]
    steps = [send_in_one_read(*flood), ending] if compression == "none" else [send(*flood), ending]
    exchange = FakeExchange(steps, [])
    async with exchange.serving(), bridge(exchange, compression=compression) as running:
        if ending is not drop:  # a reset loses the data in flight
            await running.sink.until(count)
        else:
            await running.sink.until(1)
        ids = running.sink.ids()
        assert ids == list(range(len(ids)))


@over_websockets
@pytest.mark.parametrize(
    ("compression", "extensions"), [("deflate", ["PerMessageDeflate"]), ("none", [])]
)
async def test_deflate_is_negotiated_unless_switched_off(
    compression: str, extensions: list[str]
) -> None:
    exchange = FakeExchange([send(trade(1))])
    async with exchange.serving(), bridge(exchange, compression=compression) as running:
        await running.sink.until(1)
        assert exchange.extensions == [extensions]


@over_websockets
async def test_deflate_is_the_default() -> None:
    exchange = FakeExchange([send(trade(1))])
    async with exchange.serving(), bridge(exchange) as running:
        await running.sink.until(1)
        assert exchange.extensions == [["PerMessageDeflate"]]


async def test_a_ping_that_ends_a_read_holds_nothing_back() -> None:
    async def ping(connection: ServerConnection) -> None:
        frames = (Frame(Opcode.TEXT, trade(1).encode()), Frame(Opcode.PING, b"x"))
        connection.transport.write(b"".join(frame.serialize(mask=False) for frame in frames))

    exchange = FakeExchange([ping])
    async with exchange.serving(), bridge(exchange) as running:
        await running.sink.until(1)


async def test_a_symbol_of_any_script_is_asked_for_as_it_is_written() -> None:
    name = "币安人生usdt@trade"
    exchange = FakeExchange([send(trade(1, name))])
    async with exchange.serving(), bridge(exchange, name) as running:
        await running.sink.until(1)
        assert running.sink.events[0].symbol == "币安人生USDT"
        (path,) = exchange.paths
        encoded = "%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9Fusdt@trade"
        assert path == f"/stream?streams={encoded}"


@pytest.mark.parametrize("time_unit", ["millisecond", "microsecond"])
async def test_the_time_unit_is_asked_for_in_the_url(time_unit: str) -> None:
    exchange = FakeExchange([send(trade(1))])
    async with exchange.serving(), bridge(exchange, time_unit=time_unit) as running:
        await running.sink.until(1)
        assert exchange.paths[0].endswith("timeUnit=MICROSECOND") is (time_unit == "microsecond")


async def test_a_redirect_is_followed_to_a_connector_that_stays(journal: Journal) -> None:
    exchange = FakeExchange([close_after(300)])
    async with exchange.serving() as there:
        signpost = FakeExchange(Answer(307, {"Location": f"{there.url}/stream?streams={NAME}"}))
        async with signpost.serving(), bridge(signpost) as running:
            await journal.until("connection_down")
            assert running.pipeline.counts.reconnects == {"closed": 1}
            assert asyncio.get_running_loop().time() >= 300


def test_a_flood_arrives_whole_on_the_loop_of_production_too() -> None:
    count = 20 * PIECE_BYTES // len(trade(1))

    async def receive() -> list[int]:
        exchange = FakeExchange([send_in_one_read(*map(trade, range(count))), close()], [])
        async with exchange.serving(), bridge(exchange, compression="none") as running:
            await running.sink.until(count)
            return running.sink.ids()

    assert uvloop.run(receive()) == list(range(count))


@pytest.mark.parametrize("connections", [1, 20])
def test_everyone_has_a_turn_within_a_thousand_frames_of_a_flood(connections: int) -> None:
    names = [f"s{number}usdt@trade" for number in range(connections)]
    count = 20 * PIECE_BYTES // len(trade(1)) // connections
    all_are_open = asyncio.Barrier(connections)

    async def flood(connection: ServerConnection) -> None:
        assert connection.request
        _, _, name = connection.request.path.partition("streams=")
        await all_are_open.wait()
        await send_in_one_read(*(trade(n, unquote(name)) for n in range(count)))(connection)

    async def watch(sink: Recorder, seen: list[int]) -> None:
        while seen[-1] < connections * count:
            await asyncio.sleep(0)
            seen.append(len(sink.records))

    async def receive() -> list[int]:
        # Without a close, because the rest of a closed connection is handled at once.
        exchange = FakeExchange([flood])
        options = {"compression": "none", "streams_per_connection": 1}
        seen = [0]
        async with exchange.serving(), bridge(exchange, *names, **options) as running:
            await watch(running.sink, seen)
        return [later - earlier for earlier, later in pairwise(seen)]

    assert max(uvloop.run(receive())) <= 1_000


def test_of_two_connections_the_later_of_what_each_has_heard_counts() -> None:
    one, other = {"a": 1, "b": 5}, {"b": 3, "c": 4}
    assert later(one, other) == later(other, one) == {"a": 1, "b": 5, "c": 4}
    assert later(one, {}) == later({}, one) == one


async def test_reconnects_leave_nothing_in_memory() -> None:
    exchange = FakeExchange([send(trade(1)), end])
    async with exchange.serving(), bridge(exchange) as running:
        counts = running.pipeline.counts

        async def held_after(reconnects: int) -> int:
            """Return the bytes that are held after this many reconnects."""
            while sum(counts.reconnects.values()) < reconnects:  # noqa: ASYNC110 - it is no event
                await asyncio.sleep(1)
            gc.collect()
            ours = [tracemalloc.Filter(True, f"*/{name}/*") for name in ("bridge", "websockets")]
            statistics = tracemalloc.take_snapshot().filter_traces(ours).statistics("filename")
            return sum(statistic.size for statistic in statistics)

        tracemalloc.start()
        try:
            before = await held_after(CONNECTIONS_PER_WINDOW + 50)
            growth = await held_after(CONNECTIONS_PER_WINDOW + 250) - before
        finally:
            tracemalloc.stop()
    assert growth < 200 * 100, f"{growth} bytes in 200 reconnects"
