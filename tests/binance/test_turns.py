"""Turns: all connections together handle a bounded amount at a time."""

import asyncio
from collections.abc import Callable

from bridge.binance.transport.turns import Turns


async def test_reads_proceed_at_once_until_a_turn_is_used_up() -> None:
    turns = Turns()
    for _ in range(3):
        assert turns.may_proceed()
        turns.spend(0.4)
    assert not turns.may_proceed()


async def test_the_next_turn_has_room_again() -> None:
    turns = Turns()
    turns.spend(5.0)
    await asyncio.sleep(0)
    assert turns.may_proceed()


async def test_what_takes_a_turn_is_called_at_once_if_there_is_room_and_later_if_not() -> None:
    turns, called = Turns(), []
    turns.take(lambda: called.append("at once"))
    assert called == ["at once"]
    turns.spend(1.0)
    turns.take(lambda: called.append("later"))
    assert called == ["at once"]
    await asyncio.sleep(0)
    assert called == ["at once", "later"]


async def test_connections_that_wait_proceed_in_their_order_and_nobody_overtakes_them() -> None:
    turns, order = Turns(), []

    def proceeding(number: int) -> Callable[[], None]:
        def proceed() -> None:
            turns.spend(0.5)
            order.append(number)

        return proceed

    turns.spend(1.0)
    for number in range(5):
        assert not turns.may_proceed()
        turns.wait(proceeding(number))
    seen = []
    while len(order) < 5:
        await asyncio.sleep(0)
        seen.append(len(order))
    assert order == [0, 1, 2, 3, 4]
    assert seen == [2, 4, 5]


async def test_a_connection_with_more_frames_waits_behind_the_others() -> None:
    turns, order = Turns(), []

    def flood() -> None:
        turns.spend(1.0)
        order.append("flood")
        if order.count("flood") < 3:
            turns.wait(flood)

    def other() -> None:
        turns.spend(0.1)
        order.append("other")

    turns.wait(flood)
    turns.wait(other)
    while len(order) < 4:  # noqa: ASYNC110 - it counts the turns
        await asyncio.sleep(0)
    assert order == ["flood", "other", "flood", "flood"]


async def test_an_error_of_one_connection_does_not_stop_the_others() -> None:
    errors: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: errors.append(context["exception"]))
    turns, proceeded, error = Turns(), asyncio.Event(), RuntimeError("a fault of ours")

    def fail() -> None:
        raise error

    turns.wait(fail)
    turns.wait(proceeded.set)
    await proceeded.wait()
    assert errors == [error]
