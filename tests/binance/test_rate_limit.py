import asyncio

import pytest

from bridge.binance.rate_limit import (
    ALLOWED_PER_WINDOW,
    CONNECTIONS_PER_WINDOW,
    WINDOW_S,
    RateLimiter,
)

pytestmark = pytest.mark.timeout(20)


async def passed_at(rate_limiter: RateLimiter) -> float:
    await rate_limiter.wait_for_connection()
    return asyncio.get_running_loop().time()


async def test_connections_keep_to_the_exchanges_limit() -> None:
    rate_limiter = RateLimiter()
    moments = sorted(await asyncio.gather(*(passed_at(rate_limiter) for _ in range(400))))
    for early, late in zip(moments, moments[CONNECTIONS_PER_WINDOW:], strict=False):
        assert late - early >= WINDOW_S - 1e-6


async def test_a_closed_rate_limiter_lets_nobody_through_not_even_those_who_wait_already() -> None:
    rate_limiter = RateLimiter()
    for _ in range(CONNECTIONS_PER_WINDOW):
        await rate_limiter.wait_for_connection()
    waiting = asyncio.create_task(passed_at(rate_limiter))
    await asyncio.sleep(1)
    rate_limiter.quiet.extend(1000)
    assert await waiting >= 1001
    assert await passed_at(rate_limiter) >= 1001


async def test_the_longest_quiet_asked_for_counts() -> None:
    rate_limiter = RateLimiter()
    rate_limiter.quiet.extend(100)
    rate_limiter.quiet.extend(10)
    assert await passed_at(rate_limiter) >= 100


@pytest.mark.parametrize(("bridges", "allowed"), [(1, 150), (2, 150), (3, 100), (6, 50)])
async def test_the_bridges_of_a_group_keep_to_the_exchanges_limit_together(
    bridges: int, allowed: int
) -> None:
    """They may have one address."""
    rate_limiter = RateLimiter()
    rate_limiter.share(bridges)
    moments = sorted(await asyncio.gather(*(passed_at(rate_limiter) for _ in range(200))))
    assert moments.count(moments[0]) == allowed
    assert bridges * allowed <= ALLOWED_PER_WINDOW
