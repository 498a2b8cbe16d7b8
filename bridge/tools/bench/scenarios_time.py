"""Times: latency at a listener, recovery after a burst, and start to the first event."""

import asyncio
import time
from statistics import median

import aiohttp

from bridge.tools.bench.errors import BenchFailed
from bridge.tools.bench.figures import COSTS, PERCENTILES
from bridge.tools.bench.measure import Timeline, play
from bridge.tools.bench.processes import START_TIMEOUT_S
from bridge.tools.bench.results import Curve
from bridge.tools.bench.running import Plan, Run
from bridge.tools.bench.scenario import HIGH_RATE, RATE, Bench, Outcome, cost_figures
from bridge.tools.bench.scrape import is_ready, scrape
from bridge.tools.bench.statistics import Point, back_to_normal_s

# A percentile is taken of each piece of time. A value is normal up to NORMAL_TIMES its median
# before the burst, and at least up to LEAST_NORMAL_MS.
PIECE_US = 250_000
NORMAL_TIMES = 2.0
LEAST_NORMAL_MS = 5.0
_SHARES = {"p50": 0.5, "p99": 0.99, "p999": 0.999}


async def latency(bench: Bench) -> Outcome:
    """Measure the latency at RATE, at HIGH_RATE and at other loads, the highest first.

    A broker compiles its code for a minute after it starts, on the cores that all processes share.
    The high loads come first so that this minute does not distort the low ones.
    """
    loads = dict.fromkeys(bench.profile.loads, bench.profile.step_s)
    loads |= dict.fromkeys((RATE, HIGH_RATE), bench.profile.latency_s)
    rates = sorted(loads, reverse=True)
    phases = [(rate, loads[rate]) for rate in rates]
    plan = Plan(bench.load(*phases), listeners=("redis", "kafka"))
    timeline = await play(bench.brokers, plan)
    bare = await _bare(bench)
    outcome = Outcome()
    figures = outcome.figures
    for kind in plan.listeners:
        for share, points in _percentiles(timeline, kind).items():
            ours = figures[f"latency.{kind}.{share}"] = points[rates.index(RATE)][1]
            figures[f"latency.{kind}.{share}_ratio"] = ours / bare[kind][share]
            figures[f"latency.{kind}.high.{share}"] = points[rates.index(HIGH_RATE)][1]
            outcome.curves.append(Curve("latency", f"{kind} {PERCENTILES[share]}", sorted(points)))
    figures["latency.kafka.mean"] = _mean_acknowledged_ms(timeline, rates.index(RATE))
    for rate, step in zip(rates, timeline.steps(), strict=False):
        if str(rate) in COSTS:
            figures |= cost_figures(str(rate), step)
    return outcome


async def _bare(bench: Bench) -> dict[str, dict[str, float]]:
    """Return the percentiles of the bare libraries at RATE, in milliseconds."""
    plan = Plan(bench.load((RATE, 1.0)), listeners=("redis", "kafka"))
    async with Run.open(bench.brokers, plan) as run:
        span = await run.publish_bare(RATE, bench.profile.latency_s)
        heard = await run.stop_listeners()
    settled_us = span.begun_us + (span.ended_us - span.begun_us) // 4
    window = (settled_us, span.ended_us)
    return {
        kind: dict(zip(_SHARES, delays.percentiles(window, *_SHARES.values()), strict=True))
        for kind, delays in heard.items()
    }


def _percentiles(timeline: Timeline, kind: str) -> dict[str, list[Point]]:
    """Return the points of each percentile in the order played: offered rate and milliseconds."""
    found: dict[str, list[Point]] = {}
    for window, step in zip(timeline.windows_us(), timeline.steps(), strict=True):
        heard = timeline.heard[kind].percentiles(window, *_SHARES.values())
        for share, value in zip(_SHARES, heard, strict=False):
            found.setdefault(share, []).append((step.offered_per_s, value))
    return found


def _mean_acknowledged_ms(timeline: Timeline, phase: int) -> float:
    """Return the mean time from frame to acknowledgement, from the sum in the bridge's metrics."""
    begin_us, end_us = timeline.windows_us()[phase]
    inside = [s for s in timeline.samples if begin_us <= s.at_us <= end_us]
    count = inside[-1].acknowledged - inside[0].acknowledged
    seconds = inside[-1].acknowledged_s - inside[0].acknowledged_s
    return seconds / count * 1000 if count else 0.0


async def burst(bench: Bench) -> Outcome:
    """Play RATE, then ten times RATE, then RATE again."""
    seconds = bench.profile.burst_s
    plan = Plan(
        bench.load((RATE, seconds), (10 * RATE, seconds), (RATE, seconds)), listeners=("redis",)
    )
    timeline = await play(bench.brokers, plan)
    calm_us, burst_us, _ = timeline.windows_us()
    begun_us = timeline.begun_us
    window_us = (begun_us, begun_us + round(3 * seconds * 1e6))
    redis = timeline.heard["redis"].over_time(window_us, PIECE_US, 0.99)
    kafka = [((s.at_us - begun_us) / 1e6, s.kafka_oldest_s * 1000) for s in timeline.samples]
    calm_s = ((calm_us[0] - begun_us) / 1e6, (calm_us[1] - begun_us) / 1e6)
    recoveries = [_recovery_s(points, calm_s, 2 * seconds) for points in (redis, kafka)]
    return Outcome(
        {
            "burst.lost": timeline.lost(),
            "burst.recovery": max(recoveries),
            "burst.p99": max(timeline.heard["redis"].percentiles(burst_us, 0.99), default=0.0),
        },
        [Curve("burst", "redis p99", redis), Curve("burst", "kafka oldest waiting", kafka)],
    )


def _recovery_s(points: list[Point], calm_s: tuple[float, float], burst_end_s: float) -> float:
    calm = [value for at_s, value in points if calm_s[0] < at_s <= calm_s[1]]
    normal = max(LEAST_NORMAL_MS, NORMAL_TIMES * median(calm)) if calm else LEAST_NORMAL_MS
    return back_to_normal_s(points, burst_end_s, normal)


async def start(bench: Bench) -> Outcome:
    """Measure from process start to the first event at a listener. The topics exist already."""
    plan = Plan(bench.load((1_000, 60.0)), listeners=("redis", "kafka"))
    async with Run.open(bench.brokers, plan) as run:
        began_us = time.time_ns() // 1000
        port = await run.start_bridge()
        async with aiohttp.ClientSession() as session:
            await _both_published(run, session, port)
        heard = await run.stop_listeners()
    firsts = {kind: delays.first_us for kind, delays in heard.items()}
    return Outcome(
        {f"start.{k}": (first - began_us) / 1e6 for k, first in firsts.items() if first is not None}
    )


async def _both_published(run: Run, session: aiohttp.ClientSession, port: int) -> None:
    """Wait until both sinks have published, then 0.5 s more for the listeners."""
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while not (await is_ready(session, port) and (await scrape(session, [port])).published):
                run.check()
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise BenchFailed(f"the bridge has published nothing after {START_TIMEOUT_S:g} s") from None
    await asyncio.sleep(0.5)
