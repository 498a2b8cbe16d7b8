"""The durations and repetitions of a benchmark. `quick` only shows that it works."""

from typing import NamedTuple

# The rates are a little above round numbers, because targets are round numbers and only the
# messages that were carried count.
LADDER = tuple(range(31_000, 310_000, 10_000))
PEER_LADDER = tuple(range(10_000, 60_000, 4_000))


class Profile(NamedTuple):
    """The parameters of a benchmark.

    `ladder` has the rates to try, in messages per second; each is held for `step_s`. `loads` has
    the rates at which latency is measured in addition to RATE and HIGH_RATE. A run on a machine
    that is too slow or too busy is repeated up to `repeats` times.
    """

    name: str
    runs: int
    repeats: int
    ladder: tuple[int, ...]
    peer_ladder: tuple[int, ...]
    loads: tuple[int, ...]
    step_s: float
    flat_out_s: float
    latency_s: float
    burst_s: float
    memory_s: float
    market_s: float
    growth_rate: int
    rounds: int
    frames: int


QUICK = Profile(
    name="quick",
    runs=1,
    repeats=0,
    ladder=(4_000, 8_000),
    peer_ladder=(1_000, 2_000),
    loads=(1_000,),
    step_s=2.0,
    flat_out_s=1.0,
    latency_s=2.0,
    burst_s=1.5,
    memory_s=2.0,
    market_s=2.0,
    growth_rate=3_000,
    rounds=1,
    frames=5_000,
)
USUAL = Profile(
    name="usual",
    runs=3,
    repeats=2,
    ladder=LADDER,
    peer_ladder=PEER_LADDER,
    loads=(1_000, 2_000, 10_000, 20_000),
    step_s=5.0,
    flat_out_s=5.0,
    latency_s=15.0,
    burst_s=10.0,
    memory_s=120.0,
    market_s=30.0,
    growth_rate=30_000,
    rounds=5,
    frames=50_000,
)
LONG = USUAL._replace(name="long", runs=5, memory_s=1200.0)
