"""`python -m tests.simulation`: plays many schedules, or one again with its journal."""

import argparse
import gc
import sys
import time

from tests.simulation.schedule import BrokenPromise, play


def main() -> int:
    """Print each seed whose schedule broke a promise, and the schedules per minute of one core.

    Return 1 if a promise was broken.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--schedules", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="play this seed only, and print its journal")
    options = parser.parse_args()
    if options.seed is not None:
        return _replay(options.seed)
    began_s, broken = time.process_time(), 0
    gc.disable()
    for seed in range(options.first, options.first + options.schedules):
        try:
            play(seed)
        except BrokenPromise as error:
            broken += 1
            print(error.problems, flush=True)
        if seed % 50 == 0:
            gc.collect()
    minutes = (time.process_time() - began_s) / 60
    pace = options.schedules / minutes
    print(f"{options.schedules} schedules, {broken} broken, {pace:,.0f} a minute")
    return bool(broken)


def _replay(seed: int) -> int:
    try:
        journal = play(seed)
        verdict = "every promise was kept"
    except BrokenPromise as error:
        verdict, journal = error.problems, error.journal
    for entry in journal.entries:
        print(*(f"{name}={value}" for name, value in entry.items()))
    print(verdict)
    return 0


sys.exit(main())
