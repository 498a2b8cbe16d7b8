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
            "tickbridge bench --quick                          test that it works",
            "tickbridge bench --capture btc.gz --capture eth.gz",
            "tickbridge bench --scenario latency --scenario burst --runs 5",
            "tickbridge bench --kafka localhost:9092 --redis redis://localhost:6379/1",
            "tickbridge bench --compare monday/results.json    show what changed",
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
        bool,
        typer.Option(
            "--quick", help="Only test that it works, in four minutes; the figures are not usable."
        ),
    ] = False,
    long: Annotated[
        bool, typer.Option("--long", help="More runs, and memory measured over 20 minutes.")
    ] = False,
    scenario: Annotated[
        list[str],
        typer.Option(
            parser=_scenario,
            metavar="NAME",
            show_default=False,
            help="Only this scenario; repeat the option for more. A wrong name prints the list.",
        ),
    ] = [],  # noqa: B006 - typer's own way, and never changed
    runs: Annotated[
        int | None,
        typer.Option(min=1, max=99, show_default=False, help="Number of runs of each scenario."),
    ] = None,
    capture: Captures = [],  # noqa: B006
    kafka: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            show_default=False,
            help="Brokers to use; without it, a container is started.",
        ),
    ] = None,
    redis: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            show_default=False,
            help="Redis database to use. It must be empty: latest prices are written to it, and "
            "deleted again. Without it, a container is started.",
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out", metavar="FOLDER", help="Folder for the table, the JSON file and the plots."
        ),
    ] = Path("bench-results"),
    compare: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help="Compare with this results.json of an earlier benchmark.",
        ),
    ] = None,
    docs: Annotated[
        Path | None,
        typer.Option(
            metavar="PAGE",
            show_default=False,
            help="Write the table between the marks of this page, and the plots into a folder of "
            "the same name.",
        ),
    ] = None,
) -> None:
    """Measure this machine: throughput, latency, bursts, memory, growth, start, and each stage.

    Starts a load generator, bridges, listeners and brokers as separate processes.
    Takes about 50 minutes, and needs a machine without other load.

    Exits with 1 if a run fails, but not if a target is missed.
    """
    from bridge import settings
    from bridge.monitoring import logs
    from bridge.tools.bench import run
    from bridge.tools.bench.profiles import LONG, QUICK, USUAL
    from bridge.tools.bench.report import around_marks
    from bridge.tools.bench.results import read

    if quick and long:
        raise typer.BadParameter("--quick and --long contradict each other; use only one of them")
    run.check_libraries()
    # Hide the logs of the sinks while their stages are measured.
    logs.configure(settings.Log(level="error"))
    before = read(compare) if compare else None
    if docs:
        around_marks(docs)  # refuse a wrong page now, not after half an hour
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
    """Measure, and return the results. After SIGTERM, all started processes have stopped too."""
    import asyncio

    from bridge.tools.bench.run import measure

    try:
        return run_async(measure(options, _say))
    except asyncio.CancelledError:
        raise typer.Exit(INTERRUPTED) from None


def _say(line: str) -> None:
    typer.echo(line, err=True)
