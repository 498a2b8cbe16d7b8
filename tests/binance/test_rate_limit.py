import asyncio

import pytest

from bridge.binance.rate_limit import CONNECTIONS_PER_WINDOW, WINDOW_S, Gate

pytestmark = pytest.mark.timeout(20)


async def passed_at(gate: Gate) -> float:
    await gate.wait()
    return asyncio.get_running_loop().time()


async def test_connections_keep_to_the_exchanges_limit() -> None:
    gate = Gate()
    moments = sorted(await asyncio.gather(*(passed_at(gate) for _ in range(400))))
    for early, late in zip(moments, moments[CONNECTIONS_PER_WINDOW:], strict=False):
        assert late - early >= WINDOW_S - 1e-6


async def test_a_closed_gate_lets_nobody_through_not_even_those_who_wait_already() -> None:
    gate = Gate()
    for _ in range(CONNECTIONS_PER_WINDOW):
        await gate.wait()
    waiting = asyncio.create_task(passed_at(gate))
    await asyncio.sleep(1)
    gate.close_for(1000)
    assert await waiting >= 1001
    assert await passed_at(gate) >= 1001


async def test_the_longest_quiet_asked_for_counts() -> None:
    gate = Gate()
    gate.close_for(100)
    gate.close_for(10)
    assert await passed_at(gate) >= 100
