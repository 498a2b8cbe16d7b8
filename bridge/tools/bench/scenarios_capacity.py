"""Capacity: the rate of each transport, many symbols, viewers, two processes, and memory."""

from bridge.tools.bench.drain import drain
from bridge.tools.bench.measure import Timeline, play
from bridge.tools.bench.results import Curve
from bridge.tools.bench.running import Plan
from bridge.tools.bench.scenario import HIGH_RATE, RATE, Bench, Outcome
from bridge.tools.bench.statistics import Step, highest_sustained, settled_growth
from bridge.tools.bench.workload import Load, Phase

VIEWERS = 50
THREE_KINDS = ("trade", "aggTrade", "bookTicker")


async def _throughput(
    bench: Bench, name: str, transport: str = "websockets", compression: str = "none"
) -> Outcome:
    """Measure the generator alone, then raise the load until the bridge is overloaded."""
    offers = await drain(bench.load(), bench.profile.flat_out_s, deflate=compression == "deflate")
    plan = Plan(bench.load(*bench.ladder()), transport, compression, ends_when_overrun=True)
    steps = (await play(bench.brokers, plan)).steps()
    outcome = Outcome({f"{name}.offers": offers})
    outcome.curves = [
        Curve("throughput", name, [(s.offered_per_s, s.carried_per_s) for s in steps]),
        Curve("cost", name, [(s.offered_per_s, s.cpu_us) for s in steps if s.is_sustained]),
    ]
    best = highest_sustained(steps)
    outcome.notes.append(_limit(name, steps))
    if best is not None:
        outcome.figures |= {f"{name}.rate": best.carried_per_s, f"{name}.cpu": best.cpu_us}
    return outcome


def _limit(name: str, steps: list[Step]) -> str:
    """Describe the first step after the highest sustained one, or say that all were sustained."""
    best = highest_sustained(steps)
    if best is steps[-1]:
        return f"{name}: all rates were sustained, the highest was {best.asked_per_s:,.0f} msg/s"
    last = steps[steps.index(best) + 1 if best else 0]
    return (
        f"{name}: {last.asked_per_s:,.0f} msg/s were not sustained: offered "
        f"{last.offered_per_s:,.0f} msg/s, carried {last.carried_per_s:,.0f} msg/s, backlog growth "
        f"{last.pending_growth_per_s:,.0f} msg/s, {last.dropped:,.0f} events dropped, "
        f"{last.reconnects:.0f} connections lost, CPU {last.cpu_share:.0%} of a core"
    )


async def websockets(bench: Bench) -> Outcome:
    return await _throughput(bench, "websockets")


async def deflate(bench: Bench) -> Outcome:
    return await _throughput(bench, "deflate", compression="deflate")


async def picows(bench: Bench) -> Outcome:
    return await _throughput(bench, "picows", transport="picows")


async def growth(bench: Bench) -> Outcome:
    """Compare the cost of the same mix of messages with 3 symbols and with 1,000."""
    costs = {}
    for key, symbols in (("growth.few", 3), ("growth.many", 1000)):
        phases = (Phase(bench.profile.growth_rate, 2 * bench.profile.step_s),)
        load = Load(phases=phases, symbols=symbols, streams=THREE_KINDS)
        costs[key] = (await play(bench.brokers, Plan(load))).steps()[0].cpu_us
    return Outcome(costs | {"growth.cpu": costs["growth.many"] / costs["growth.few"]})


async def viewers(bench: Bench) -> Outcome:
    """Compare the CPU time of a bridge with 1,000 symbols without and with viewers."""
    phases = (Phase(RATE, bench.profile.latency_s),)
    load = Load(phases=phases, symbols=1000, streams=THREE_KINDS)
    without = await play(bench.brokers, Plan(load))
    viewed = await play(bench.brokers, Plan(load, viewers=VIEWERS))
    shares = [timeline.steps()[0].cpu_share for timeline in (without, viewed)]
    return Outcome(
        {"viewers.cpu": 100 * (shares[1] - shares[0]), "viewers.rate": viewed.frames_per_s},
        notes=[f"{VIEWERS} viewers: CPU {shares[0]:.1%} of a core without, {shares[1]:.1%} with"],
    )


async def pair(bench: Bench) -> Outcome:
    """Compare one process with 20 symbols and two processes with 10 symbols each."""
    outcome = Outcome()
    phases = tuple(Phase(*phase) for phase in bench.ladder())
    for key, bridges in (("pair.one", 1), ("pair.two", 2)):
        plan = Plan(Load(phases=phases, symbols=20), bridges=bridges, ends_when_overrun=True)
        steps = (await play(bench.brokers, plan)).steps()
        outcome.notes.append(_limit(key, steps))
        if best := highest_sustained(steps):
            outcome.figures[key] = best.carried_per_s
    if len(outcome.figures) == 2:  # noqa: PLR2004 - both
        one, two = outcome.figures.values()
        outcome.figures["pair.ratio"] = two / one
    return outcome


async def memory(bench: Bench) -> Outcome:
    """Measure the memory at RATE, and its growth at HIGH_RATE."""
    calm = await play(bench.brokers, Plan(bench.load((RATE, bench.profile.latency_s))))
    busy = await play(bench.brokers, Plan(bench.load((HIGH_RATE, bench.profile.memory_s))))
    points = {rate: _resident(t) for rate, t in ((RATE, calm), (HIGH_RATE, busy))}
    return Outcome(
        {
            "memory.resident": calm.steps()[0].resident_mib,
            "memory.growth": settled_growth(points[HIGH_RATE]),
        },
        [Curve("memory", f"{rate:,} msg/s", found) for rate, found in points.items()],
        [f"memory at {HIGH_RATE:,} msg/s: measured for {bench.profile.memory_s / 60:.2g} min"],
    )


def _resident(timeline: Timeline) -> list[tuple[float, float]]:
    """Return pairs: seconds since the generator began, and resident memory in MiB."""
    end_us = timeline.windows_us()[-1][1]
    return [
        ((s.at_us - timeline.begun_us) / 1e6, s.resident_bytes / 2**20)
        for s in timeline.samples
        if s.at_us <= end_us
    ]
