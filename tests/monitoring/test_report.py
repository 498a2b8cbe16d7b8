"""The report of `/status`; its accounts add up."""

from bridge.binance.connector import State
from bridge.monitoring.report import ConnectorReport
from bridge.monitoring.reporter import report
from bridge.telemetry import Account, now_us
from tests.support.exchange import trade
from tests.support.running_server import Running


def feed(running: Running, *ids: int) -> None:
    running.connection.on_frames([trade(identity).encode() for identity in ids], now_us())


async def test_a_bridge_that_has_just_begun_says_what_it_waits_for() -> None:
    found = report(Running().status)
    assert found.unready
    assert (found.connectors, found.streams, found.positions) == ([], [], [])
    assert [sink.accounts for sink in found.sinks] == [{}, {}]


async def test_each_connector_and_stream_is_told() -> None:
    running = Running()
    running.flow()
    feed(running, 1)
    found = report(running.status)
    assert found.unready == []
    (connector,) = found.connectors
    assert connector == ConnectorReport(
        "connector-1", State.OPEN.value, connector.age_s, 2, 1, events=2, duplicates=1
    )
    heard, unheard = found.streams
    assert (heard.name, unheard.name) == ("btcusdt@trade", "ethusdt@trade")
    assert heard.silence_s is not None
    assert unheard.silence_s is None


async def test_a_stream_behind_a_hole_says_how_far_it_is_and_what_waits() -> None:
    running = Running()
    running.flow()
    feed(running, 2, 5, 6)
    (position,) = report(running.status).positions
    assert (position.message_type, position.symbol) == ("trade", "BTCUSDT")
    assert (position.last_id, position.held, position.open_gaps) == (2, 2, [])


async def test_what_was_given_up_and_may_yet_be_filled_is_told() -> None:
    running = Running()
    running.flow()
    feed(running, 3)
    (_, sequencer), *_ = running.sequencers.named()
    running.pipeline.publish(sequencer.give_up("patience"))  # type: ignore[attr-defined]
    found = report(running.status)
    (gap,) = found.positions[0].open_gaps
    assert (gap.first_id, gap.last_id, gap.state) == (2, 2, "open")
    assert found.gaps == {"open": 1}


async def test_the_accounts_of_each_sink_add_up() -> None:
    running = Running()
    running.flow()
    feed(running, *range(2, 10))
    (queue,) = running.kafka.outbox.idle()
    running.kafka.outbox.drop(queue, 2, "outbox_full")
    queue.in_flight = 3
    running.kafka.outbox.acknowledge(queue)
    kafka, redis = report(running.status).sinks
    assert kafka.accounts == {"trade": Account(received=9, published=3, dropped=2, pending=4)}
    assert redis.accounts == {"trade": Account(received=9, published=0, dropped=0, pending=9)}
    assert kafka.dropped["outbox_full"] == 2
