"""Capacity: the rate of each transport, many symbols, viewers, two processes, and memory."""

from bridge.tools.bench import peer
from bridge.tools.bench.drain import drain
from bridge.tools.bench.measure import Timeline, play
from bridge.tools.bench.results import Curve
from bridge.tools.bench.running import Plan
from bridge.tools.bench.scenario import HIGH_RATE, RATE, Bench, Outcome, cost_figures
from bridge.tools.bench.scenarios_stages import bare_us
from bridge.tools.bench.statistics import (
    Step,
    highest_sustained,
    longest_lag_s,
    settled_growth,
)
from bridge.tools.bench.workload import WIRES, Load, Phase

VIEWERS = 50
# Of these symbols the same number is in each of two shards.
PAIR_SYMBOLS = 12
THREE_KINDS = ("trade", "aggTrade", "bookTicker")
MARKET_SPEED = 10.0


async def _throughput(bench: Bench, name: str) -> Outcome:
    """Measure the generator alone, then raise the load until the bridge is overloaded."""
    wire, seconds = WIRES[name], bench.profile.flat_out_s
    offers = await drain(bench.load(), seconds, deflate=wire.is_compressed)
    plan = Plan(bench.load(*bench.ladder()), wire, ends_when_overrun=True)
    steps = (await play(bench.brokers, plan)).steps()
    outcome = Outcome({f"{name}.offers": offers})
    outcome.curves = [
        Curve("throughput", name, [(s.offered_per_s, s.carried_per_s) for s in steps]),
        Curve("cost", name, [(s.offered_per_s, s.cpu_us) for s in steps if s.is_sustained]),
    ]
    best = highest_sustained(steps)
    outcome.notes.append(_limit(name, steps))
    if best is not None:
        bare = await bare_us(bench, name)
        outcome.figures |= {
            f"{name}.rate": best.carried_per_s,
            f"{name}.cpu": best.cpu_us,
            f"{name}.bare": bare,
            f"{name}.bare_ratio": best.cpu_us / bare,
        }
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
    """Measure the highest rate, twice this rate, and the highest rate of the peer."""
    outcome = await _throughput(bench, "websockets")
    if rate := outcome.figures.get("websockets.rate"):
        outcome.figures |= await _overload(bench, rate)
    if peer.is_there():
        await _add_peer(bench, outcome)
    else:
        outcome.notes.append(f"peer: not measured, `{peer.PROGRAM}` is not on PATH")
    return outcome


async def _overload(bench: Bench, rate: float) -> dict[str, float]:
    """Offer the highest rate that was sustained, then twice this rate."""
    step_s = bench.profile.step_s
    load = bench.load((round(rate), step_s), (round(2 * rate), 2 * step_s))
    timeline = await play(bench.brokers, Plan(load, listeners=("prices",)))
    step, window = timeline.steps()[-1], timeline.windows_us()[-1]
    median, oldest = timeline.heard["prices"].percentiles(window, 0.5, 1.0)
    return {
        "overload.ratio": step.carried_per_s / rate,
        "overload.age": oldest,
        "overload.age_p50": median,
        "overload.dropped": step.dropped,
    }


async def _add_peer(bench: Bench, outcome: Outcome) -> None:
    """Add the highest rate of the peer, sustained or not, and how it compares with ours."""
    phases = [(rate, bench.profile.step_s) for rate in bench.profile.peer_ladder]
    plan = Plan(bench.load(*phases), peer=True, ends_when_overrun=True)
    steps = (await play(bench.brokers, plan)).steps()
    outcome.notes.append(_limit("peer", steps))
    best = max(steps, key=lambda step: step.carried_per_s)
    figures = outcome.figures
    figures |= {"peer.rate": best.carried_per_s, "peer.cpu": best.cpu_us}
    if "websockets.rate" in figures:
        figures["peer.rate_ratio"] = figures["websockets.rate"] / best.carried_per_s
        figures["peer.cpu_ratio"] = figures["websockets.cpu"] / best.cpu_us


async def deflate(bench: Bench) -> Outcome:
    return await _throughput(bench, "deflate")


async def picows(bench: Bench) -> Outcome:
    return await _throughput(bench, "picows")


async def growth(bench: Bench) -> Outcome:
    """Compare the cost of the same mix of messages with 3 symbols and with 1,000."""
    costs = {}
    for key, symbols in (("growth.few", 3), ("growth.many", 1000)):
        phases = (Phase(bench.profile.growth_rate, 2 * bench.profile.step_s),)
        load = Load(phases=phases, symbols=symbols, streams=THREE_KINDS)
        # A scrape takes longer with more symbols, and monitoring asks less often than a benchmark.
        plan = Plan(load, sample_s=1.0)
        costs[key] = (await play(bench.brokers, plan)).steps()[0].cpu_us
    return Outcome(costs | {"growth.cpu": costs["growth.many"] / costs["growth.few"]})


async def market(bench: Bench) -> Outcome:
    """Play a recorded minute of the whole spot market: as recorded, then ten times as fast."""
    if not bench.captures:
        return Outcome(notes=["market: not measured, it needs captures; name some with --capture"])
    phases = (Phase(0, bench.profile.market_s),)
    as_recorded = await play(bench.brokers, Plan(bench.market(1.0, *phases)))
    timeline = await play(bench.brokers, Plan(bench.market(MARKET_SPEED, *phases)))
    step = timeline.steps()[0]
    figures = {
        "market.lost": timeline.lost(),
        "market.rate": step.offered_per_s,
        "market.lag": longest_lag_s(timeline.samples, timeline.offered),
        "market.memory": max(s.resident_bytes for s in timeline.samples) / 2**20,
        "market.cpu": step.cpu_us,
    }
    figures |= cost_figures("market", as_recorded.steps()[0])
    figures |= cost_figures("market10", step)
    return Outcome(figures)


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
    """Compare one process with two, each of which has a shard. Both shards have six symbols."""
    outcome = Outcome()
    phases = tuple(Phase(*phase) for phase in bench.ladder())
    for key, bridges in (("pair.one", 1), ("pair.two", 2)):
        plan = Plan(
            Load(phases=phases, symbols=PAIR_SYMBOLS), bridges=bridges, ends_when_overrun=True
        )
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
