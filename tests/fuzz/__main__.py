"""`python -m tests.fuzz`: tries damaged inputs on everything that reads input from outside.

Each round has a seed, and the same seed tries the same inputs.
"""

import argparse
import logging
import sys
import time

import structlog
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.captures import recorded
from tests.fuzz.inputs import damaged
from tests.fuzz.targets import targets

ROUND_INPUTS = 500
TARGETS = targets()


def main() -> int:
    """Try inputs for some minutes, the same time for each target. Print what an input leads to that
    it should not. Return 1 if there was such an input.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--target", choices=TARGETS, help="only this one")
    parser.add_argument("--seed", type=int, help="only the round with this seed")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    chosen = [name for name in TARGETS if options.target in {None, name}]
    seconds, more = options.minutes * 60 / len(chosen), recorded()
    failed = [
        not _try(name, TARGETS[name].corpus + more.get(name, []), seconds, options.seed)
        for name in chosen
    ]
    return int(any(failed))


def _try(name: str, corpus: list[bytes], seconds: float, only: int | None) -> bool:
    """Return whether all inputs led to what is allowed."""
    began_s, tried, rounds, size = time.monotonic(), 0, 0, 0

    def check(data: bytes) -> None:
        nonlocal tried, size
        tried, size = tried + 1, size + len(data)
        TARGETS[name].check(data)

    trying = settings(
        max_examples=ROUND_INPUTS,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    number = time.time_ns() // 1_000_000 if only is None else only
    while True:
        run = seed(number)(trying(given(damaged(corpus))(check)))
        try:
            run()
        except BaseException as error:
            print(f"{name}: failed with --target {name} --seed {number}")
            if isinstance(error, KeyboardInterrupt):
                raise
            sys.excepthook(type(error), error, error.__traceback__)
            return False
        rounds, number = rounds + 1, number + 1
        passed_s = time.monotonic() - began_s
        if only is not None or passed_s >= seconds:
            break
    print(f"{name}: {tried:,} inputs, {size:,} bytes, {passed_s:.0f} s, nothing unexpected")
    return True


if __name__ == "__main__":
    sys.exit(main())
