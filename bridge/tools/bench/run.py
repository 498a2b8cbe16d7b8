"""Run a benchmark: the scenarios one after another, each several times. Write the results."""

import asyncio
import shutil
import signal
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from bridge.errors import MissingExtra
from bridge.tools.bench import machine, plots, results
from bridge.tools.bench.brokers import open_brokers
from bridge.tools.bench.compare import compare
from bridge.tools.bench.errors import BenchFailed, BenchRefused
from bridge.tools.bench.profiles import Profile
from bridge.tools.bench.report import FILE, comparison, put_between_marks, report
from bridge.tools.bench.results import Figure, Results
from bridge.tools.bench.scenario import Bench, Outcome, Scenario
from bridge.tools.bench.scenarios import SCENARIOS

Say = Callable[[str], None]
# They draw the plots and listen to Kafka.
LIBRARIES = ("matplotlib", "confluent_kafka")


class Options(NamedTuple):
    """The options of a benchmark. Empty `scenarios` means all of them.

    Without `kafka` or `redis`, a container is started.
    """

    profile: Profile
    scenarios: Sequence[str]
    captures: Sequence[Path]
    kafka: str | None
    redis: str | None


def check_scenarios(names: Sequence[str]) -> None:
    """Raise BenchRefused for the name of an unknown scenario."""
    for name in names:
        if name not in SCENARIOS:
            raise BenchRefused(f"unknown scenario {name!r}", f"use one of {', '.join(SCENARIOS)}")


def check_libraries() -> None:
    """Raise MissingExtra if the extra is not installed. Call it before anything is measured."""
    for name in LIBRARIES:
        if find_spec(name) is None:
            raise MissingExtra("the benchmark", name, "bench")


async def measure(options: Options, say: Say) -> Results:
    """Run the scenarios. `say` gets a line when a run begins, and when it fails.

    SIGTERM cancels it. Raises BenchRefused if there are no usable brokers.
    """
    _cancel_at_sigterm()
    async with open_brokers(options.kafka, options.redis) as brokers:
        captures = tuple(str(path.resolve()) for path in options.captures)
        bench = Bench(brokers, options.profile, captures)
        found = Results(
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            profile=options.profile.name,
            workload=_workload(options.captures),
            machine=machine.machine(),
            versions=machine.versions(brokers),
        )
        for name in options.scenarios or SCENARIOS:
            await _run(name, bench, found, say)
    return found


def _cancel_at_sigterm() -> None:
    """Cancel this task on the first SIGTERM, and ignore any further one.

    A signal to the process group may arrive twice. The second one would interrupt the shutdown of
    the processes.
    """
    task = asyncio.current_task()

    def cancel() -> None:
        if task and not task.cancelling():
            task.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, cancel)


async def _run(name: str, bench: Bench, found: Results, say: Say) -> None:
    scenario = SCENARIOS[name]
    if note := _missing(name, scenario):
        found.notes.append(note)
        say(note)
        return
    outcomes = []
    for number in range(1, bench.profile.runs + 1):
        say(f"{name}: {scenario.title}, run {number} of {bench.profile.runs}")
        try:
            outcomes.append(await _fit_run(scenario, bench, found, say))
        except BenchFailed as error:  # the other runs still give figures
            found.failures.append(f"{name}, run {number}: {error}")
            say(f"{name}: {error}")
    _add(found, outcomes)


async def _fit_run(scenario: Scenario, bench: Bench, found: Results, say: Say) -> Outcome:
    """Run a scenario once; again if the machine was too slow or too busy. The last run counts."""
    for repeats_left in range(bench.profile.repeats, -1, -1):
        fitness = machine.Fitness()
        await fitness.begin()
        outcome = await scenario.run(bench)
        await fitness.end()
        found.floor_us += fitness.speeds_us
        if not fitness.fault:
            break
        say(f"  {fitness.fault}" + (": once more" if repeats_left else ""))
    else:
        outcome.notes.append(f"{scenario.title}: a run that says little, {fitness.fault}")
    return outcome


def _missing(name: str, scenario: Scenario) -> str | None:
    if scenario.needs is None or find_spec(scenario.needs):
        return None
    remedy = "pip install '.[fast]'"
    return f"{name}: not measured, {scenario.needs} is not installed; {remedy}"


def _add(found: Results, outcomes: Sequence[Outcome]) -> None:
    """Add the runs of one scenario: each figure with all its values, and the curves of one run."""
    keys = dict.fromkeys(key for outcome in outcomes for key in outcome.figures)
    figures = [
        Figure(key, [outcome.figures[key] for outcome in outcomes if key in outcome.figures])
        for key in keys
    ]
    found.figures += figures
    if outcomes:
        found.curves += min(outcomes, key=lambda outcome: _distance(outcome, figures)).curves
    found.notes += dict.fromkeys(note for outcome in outcomes for note in outcome.notes)


def _distance(outcome: Outcome, figures: Sequence[Figure]) -> float:
    """Return the distance of a run from the medians. The plots show the run with the smallest.

    A missing figure counts like one of twice the median.
    """
    medians = {figure.key: figure.median for figure in figures if figure.median}
    shares = (outcome.figures.get(key, 2 * median) / median for key, median in medians.items())
    return sum(abs(share - 1) for share in shares)


def _workload(captures: Sequence[Path]) -> str:
    if not captures:
        return "invented trade and bookTicker frames of 3 symbols, a millisecond's worth at a time"
    names = ", ".join(path.name for path in captures)
    return f"trade and bookTicker frames of {names}, a millisecond's worth at a time, in a loop"


def write(found: Results, folder: Path, before: Results | None) -> str:
    """Write JSON, report and plots into a folder. Return the report."""
    folder.mkdir(parents=True, exist_ok=True)
    results.write(found, folder)
    plots.draw(found.curves, folder)
    text = report(found)
    if before is not None:
        text += "\n" + comparison(before, found, compare(before, found)) + "\n"
    folder.joinpath(FILE).write_text(text, encoding="utf-8")
    return text


def write_docs(found: Results, folder: Path, page: Path) -> None:
    """Put the report into a page, and the plots into a folder named after the page."""
    beside = page.with_suffix("")
    beside.mkdir(exist_ok=True)
    drawn = sorted(folder.glob("*.svg"))
    for path in drawn:
        shutil.copyfile(path, beside / path.name)
    pictures = [f"![{plots.PLOTS[path.stem].title}]({beside.name}/{path.name})" for path in drawn]
    put_between_marks(page, "\n\n".join([report(found).rstrip(), *pictures]) + "\n")
