"""One run: start its processes, sample the bridges until the load has been played, and stop."""

import asyncio
import time
from dataclasses import dataclass, field

import aiohttp

from bridge.tools.bench.brokers import Brokers
from bridge.tools.bench.errors import BenchFailed
from bridge.tools.bench.processes import START_TIMEOUT_S
from bridge.tools.bench.running import Plan, Run
from bridge.tools.bench.scrape import Sample, scrape
from bridge.tools.bench.statistics import Delays, Step, is_overrun, step
from bridge.tools.bench.workload import Phase, Schedule

DRAIN_TIMEOUT_S = 15.0
# The beginning of a phase does not count: buffers and interval estimates have to settle first.
SETTLE_SHARE = 0.3
SETTLE_MAX_S = 2.0


@dataclass(slots=True)
class Timeline:
    """The measurements of a run. Times are in microseconds since the epoch. `frames_per_s` is what
    each viewer of the dashboard got.
    """

    phases: tuple[Phase, ...]
    samples: list[Sample] = field(default_factory=list)
    offered: list[tuple[int, int]] = field(default_factory=list)
    heard: dict[str, Delays] = field(default_factory=dict)
    frames_per_s: float = 0.0

    @property
    def begun_us(self) -> int:
        """Return the start of the load: the last time at which nothing had been offered."""
        return max(at_us for at_us, count in self.offered if not count)

    def windows_us(self) -> list[tuple[int, int]]:
        """Return the window of each phase, from the moment it has settled to its end."""
        windows = []
        for begin_us, end_us in Schedule(self.phases).windows_us():
            settle_us = min((end_us - begin_us) * SETTLE_SHARE, SETTLE_MAX_S * 1e6)
            windows.append((self.begun_us + begin_us + round(settle_us), self.begun_us + end_us))
        return windows

    def steps(self) -> list[Step]:
        """Return the figures of each phase that was played to its end."""
        played = zip(self.phases, self.windows_us(), strict=True)
        last_us = self.samples[-1].at_us
        return [
            step(phase.rate, self.samples, self.offered, window)
            for phase, window in played
            if window[1] <= last_us
        ]

    def lost(self) -> int:
        """Return the number of messages of the load that are not in both sinks at the end."""
        return round(self.offered[-1][1] - self.samples[-1].published)


async def play(brokers: Brokers, plan: Plan) -> Timeline:
    """Play a load through bridges. Raises BenchFailed if a process exits or does not answer."""
    async with Run.open(brokers, plan) as run:
        ports = await run.start_bridges()
        timeline = Timeline(plan.load.phases, offered=run.offered)
        async with aiohttp.ClientSession() as session:
            await _watch(run, session, ports, timeline)
        timeline.frames_per_s = await run.stop_viewers()
        timeline.heard = await run.stop_listeners()
    return timeline


async def _watch(
    run: Run, session: aiohttp.ClientSession, ports: list[int], timeline: Timeline
) -> None:
    """Sample the bridges until the load is played and nothing is pending."""
    await _begun(run)
    schedule = Schedule(timeline.phases)
    end_us = timeline.begun_us + schedule.begins_us[-1]
    while time.time_ns() // 1000 < end_us + DRAIN_TIMEOUT_S * 1e6:
        sample = await _look(run, session, ports)
        timeline.samples.append(sample)
        offered_at_us, offered = run.offered[-1]
        if offered_at_us > end_us and sample.received >= offered and not sample.pending:
            return
        if run.plan.ends_when_overrun and _is_overrun(timeline):
            return
        await asyncio.sleep(run.plan.sample_s)


def _is_overrun(timeline: Timeline) -> bool:
    """Return whether a phase has just ended, and the last phases overran the bridge."""
    before = timeline.samples[-2].at_us if len(timeline.samples) > 1 else 0
    last = timeline.samples[-1].at_us
    ended = any(before < end_us <= last for _, end_us in timeline.windows_us())
    return ended and is_overrun(timeline.steps())


async def _look(run: Run, session: aiohttp.ClientSession, ports: list[int]) -> Sample:
    run.check()
    try:
        return await scrape(session, ports)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise BenchFailed(f"a bridge does not answer on /metrics: {error!r}") from error


async def _begun(run: Run) -> None:
    """Wait until the generator has offered something."""
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            await run.begun.wait()
    except TimeoutError:
        run.check()
        raise run.exchange.failure(
            f"still waits for subscriptions to all streams after {START_TIMEOUT_S:g} s"
        ) from None
