import json
from typing import Any

import pytest

from bridge.tools.simulator.session import (
    INVALID_JSON,
    TOO_MANY_SUBSCRIPTIONS,
    MessageRate,
    Outcome,
    Session,
    Target,
    parse_target,
)


@pytest.fixture
def session() -> Session:
    return Session(combined=True)


def said(outcome: Outcome) -> Any:
    assert outcome.reply is not None
    return json.loads(outcome.reply)


def ask(session: Session, method: str, *params: Any, request_id: Any = 1) -> Any:
    message = {"method": method, "params": list(params), "id": request_id}
    return said(session.receive(json.dumps(message)))


def test_subscriptions_are_acknowledged_and_listed_in_their_order(session: Session) -> None:
    assert ask(session, "SUBSCRIBE", "b@trade", "a@trade") == {"result": None, "id": 1}
    assert ask(session, "UNSUBSCRIBE", "b@trade", "never@trade") == {"result": None, "id": 1}
    assert ask(session, "SUBSCRIBE", "c@trade", "a@trade") == {"result": None, "id": 1}
    assert ask(session, "LIST_SUBSCRIPTIONS", request_id="x") == {
        "result": ["a@trade", "c@trade"],
        "id": "x",
    }


def test_wrong_names_are_acknowledged_and_listed_too(session: Session) -> None:
    wrong = ["nopeusdt@trade", "BTCUSDT@trade", "btcusdt@depth30"]
    assert ask(session, "SUBSCRIBE", *wrong)["result"] is None
    assert ask(session, "LIST_SUBSCRIPTIONS")["result"] == wrong


def test_an_unknown_method_is_answered_as_on_the_wire(session: Session) -> None:
    assert session.receive('{"method":"FOO","params":[],"id":20}').reply == (
        b'{"error":{"code":2,"msg":"Invalid request: unknown variant `FOO`, expected one of '
        b"`SUBSCRIBE`, `UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, "
        b'`GET_PROPERTY`"},"id":20}'
    )


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '{"id":3}',
        '{"method":"SUBSCRIBE","params":"a"}',
        '{"method":"SUBSCRIBE","params":[1]}',
    ],
)
def test_json_that_is_no_request_is_an_error_and_keeps_the_connection(
    session: Session, text: str
) -> None:
    outcome = session.receive(text)
    assert said(outcome)["error"]["code"] == 2
    assert outcome.close is None


@pytest.mark.parametrize("text", ["{", b"\xff"])
def test_broken_json_ends_the_connection(session: Session, text: str | bytes) -> None:
    assert session.receive(text) == Outcome(close=INVALID_JSON)


def test_the_1025th_stream_is_refused_and_ends_the_connection(session: Session) -> None:
    names = [f"s{i}@trade" for i in range(1024)]
    assert session.subscribe(names) == Outcome()
    outcome = session.receive('{"method":"SUBSCRIBE","params":["one@trade"],"id":19}')
    assert outcome == Outcome(
        b'{"error":{"code":4,"msg":"Too many subscriptions"},"id":19}', TOO_MANY_SUBSCRIPTIONS
    )


def test_the_combined_property_can_be_set_and_read(session: Session) -> None:
    assert ask(session, "SET_PROPERTY", *["combined", False])["result"] is None
    assert ask(session, "GET_PROPERTY", "combined")["result"] is False
    assert ask(session, "SET_PROPERTY", "combined", "no")["error"]["code"] == 1
    assert ask(session, "GET_PROPERTY", "other")["error"]["code"] == 0


@pytest.mark.parametrize(
    ("url", "target"),
    [
        (
            "/stream?streams=a@trade/b@depth",
            Target(combined=True, streams=("a@trade", "b@depth"), microseconds=False),
        ),
        (
            "/stream?streams=a%40trade%2Fb%40depth",
            Target(combined=True, streams=("a@trade", "b@depth"), microseconds=False),
        ),
        (
            "/stream?streams=a@kline_1d@+08:00",
            Target(combined=True, streams=("a@kline_1d@+08:00",), microseconds=False),
        ),
        (
            "/stream?timeUnit=MICROSECOND&streams=a@trade",
            Target(combined=True, streams=("a@trade",), microseconds=True),
        ),
        (
            "/stream?streams=%E7%89%9B%E6%9D%A5usdt@trade",
            Target(combined=True, streams=("牛来usdt@trade",), microseconds=False),
        ),
        ("/stream", Target(combined=True, streams=(), microseconds=False)),
        ("/ws", Target(combined=False, streams=(), microseconds=False)),
        (
            "/ws/a@trade/b@depth",
            Target(combined=False, streams=("a@trade", "b@depth"), microseconds=False),
        ),
        (
            "/ws/a%40trade?timeUnit=MICROSECOND",
            Target(combined=False, streams=("a@trade",), microseconds=True),
        ),
        ("/wsx", None),
        ("/", None),
    ],
)
def test_a_url_names_its_streams(url: str, target: Target | None) -> None:
    assert parse_target(url) == target


def test_the_sixth_message_in_any_second_is_one_too_many() -> None:
    rate = MessageRate()
    assert [rate.allows(moment) for moment in (0.0, 0.5, 0.6, 0.7, 0.8)] == [True] * 5
    assert rate.allows(1.0)  # the first one is a second old
    assert not rate.allows(1.4)  # but the second is not
