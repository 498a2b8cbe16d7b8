"""Invented results and samples."""

from bridge.tools.bench.results import Figure, Machine, Results
from bridge.tools.bench.scrape import Sample


def results(*figures: Figure, processor: str = "a processor", profile: str = "usual") -> Results:
    """Return results that contain only these figures."""
    return Results(
        date="2026-01-02T03:04:05+00:00",
        profile=profile,
        workload="invented",
        machine=Machine(processor, 2, 8.0, "Linux 6", 0.1),
        versions={"python": "3.11"},
        figures=list(figures),
    )


def carrying(rates: list[int], offered_per_s: int, **last: float) -> list[Sample]:
    """Return one sample per second of a bridge that carries these numbers of messages."""
    samples, total = [Sample(at_us=0)], 0
    for second, rate in enumerate(rates, start=1):
        total += rate
        samples.append(
            Sample(
                at_us=second * 10**6,
                received=second * offered_per_s,
                kafka_published=total,
                redis_published=total,
                cpu_s=0.5 * second,
                resident_bytes=50 * 2**20,
            )
        )
    for name, value in last.items():
        setattr(samples[-1], name, value)
    return samples
