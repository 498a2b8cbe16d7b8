"""`tickbridge bench`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.cli.options import Captures, examples, run_async

if TYPE_CHECKING:
    from bridge.tools.bench.results import Results
    from bridge.tools.bench.run import Options

INTERRUPTED = 130


def add_to(app: typer.Typer) -> None:
    app.command(
        "bench",
        epilog=examples(
            "tickbridge bench --quick                          does it all work",
            "tickbridge bench --capture btc.gz --capture eth.gz",
            "tickbridge bench --scenario latency --scenario burst --runs 5",
            "tickbridge bench --kafka localhost:9092 --redis redis://localhost:6379/1",
            "tickbridge bench --compare monday/results.json    what moved since",
        ),
    )(bench)


def _scenario(text: str) -> str:
    from bridge.tools.bench.errors import BenchRefused
    from bridge.tools.bench.run import check_scenarios

    try:
        check_scenarios([text])
    except BenchRefused as error:
        raise typer.BadParameter(str(error)) from None
    return text


def bench(  # noqa: PLR0913 - each is a setting of its own
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="Two minutes, to see that it works; no figures.")
    ] = False,
    long: Annotated[
        bool, typer.Option("--long", help="More runs, and memory over 20 minutes.")
    ] = False,
    scenario: Annotated[
        list[str],
        typer.Option(
            parser=_scenario,
            metavar="NAME",
            show_default=False,
            help="Only this one; again for each further one. A wrong name gets the list.",
        ),
    ] = [],  # noqa: B006 - typer's own way, and never changed
    runs: Annotated[
        int | None, typer.Option(min=1, max=99, show_default=False, help="Runs of each scenario.")
    ] = None,
    capture: Captures = [],  # noqa: B006
    kafka: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", show_default=False, help="Brokers; without them a container."
        ),
    ] = None,
    redis: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            show_default=False,
            help="An empty database: latest prices are written to it, and deleted again. Without "
            "it a container.",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Where table, JSON and plots go.")
    ] = Path("bench-results"),
    compare: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", show_default=False, help="The results.json of an earlier benchmark."
        ),
    ] = None,
    docs: Annotated[
        Path | None,
        typer.Option(
            metavar="PAGE",
            show_default=False,
            help="Put the table between the marks of this page, and the plots beside it.",
        ),
    ] = None,
) -> None:
    """Measure this machine: throughput, latency, bursts, memory, growth, start, and each stage.

    Starts a generator, bridges, listeners and brokers as processes of their own. Takes about forty
    minutes, and wants the machine for itself.

    Exits with 1 if a run has failed; whether a target is met is no matter.
    """
    from bridge import settings
    from bridge.monitoring import logs
    from bridge.tools.bench import run
    from bridge.tools.bench.profiles import LONG, QUICK, USUAL
    from bridge.tools.bench.report import around_marks
    from bridge.tools.bench.results import read

    if quick and long:
        raise typer.BadParameter("--quick and --long contradict each other; say one of them")
    run.check_libraries()
    logs.configure(settings.Log(level="error"))  # the sinks' own, while their stages are measured
    before = read(compare) if compare else None
    if docs:
        around_marks(docs)  # said now, and not in half an hour
    profile = QUICK if quick else LONG if long else USUAL
    options = run.Options(
        profile._replace(runs=runs or profile.runs), scenario, capture, kafka, redis
    )
    found = _measured(options)
    sys.stdout.write(run.write(found, out, before))
    if docs:
        run.write_docs(found, out, docs)
    _say(f"written to {out}")
    if found.failures:
        raise typer.Exit(1)


def _measured(options: "Options") -> "Results":
    """Measure; after SIGTERM all that was started has ended too."""
    import asyncio

    from bridge.tools.bench.run import measure

    try:
        return run_async(measure(options, _say))
    except asyncio.CancelledError:
        raise typer.Exit(INTERRUPTED) from None


def _say(line: str) -> None:
    typer.echo(line, err=True)
