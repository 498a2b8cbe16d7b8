"""The verification report as one HTML page with plots, which needs nothing else and prints well."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from jinja2 import Environment, PackageLoader

from bridge.monitoring.words import duration, latency
from bridge.tools.verify import text
from bridge.tools.verify.report import Moment, Report

_Lines = Mapping[str, Callable[[Moment], float | None]]
# The size of a plot in its own units; the page scales it.
WIDTH, HEIGHT = 640, 160


class Line(NamedTuple):
    """A line of a plot; `points` is the attribute of an SVG polyline."""

    name: str
    points: str


class Plot(NamedTuple):
    """Lines over the time of the report, with the label of the highest value."""

    title: str
    lines: list[Line]
    highest: str


def page(report: Report) -> str:
    """Return the page of a report."""
    environment = Environment(
        loader=PackageLoader("bridge.tools.verify", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "latency": latency,
        "milliseconds": text.milliseconds,
        "range": text.range_text,
        "name": text.name_of,
    }
    seen = report.observation
    return environment.get_template("report.html.jinja").render(
        report=report,
        seen=seen,
        began=datetime.fromtimestamp(seen.begun / 1e6, UTC),
        figures=text.figures(seen),
        streams=text.busiest_first(seen.streams),
        busiest=max((stream.events for stream in seen.streams), default=1),
        ids_text=text.ids_text,
        failed=text.failed(report),
        plots=plots(seen.moments),
        length=duration(seen.seconds),
        width=WIDTH,
        height=HEIGHT,
    )


def plots(moments: Sequence[Moment]) -> list[Plot]:
    """Return the plots of events and latencies over time; none without two complete moments."""
    moments = moments[:-1]  # the last one has not ended
    if len(moments) < 2:  # noqa: PLR2004 - a line has two ends
        return []
    rate: _Lines = {"events": lambda moment: moment.events / moment.length_s}
    latencies: _Lines = {"p50": lambda moment: moment.p50_ms, "p99": lambda moment: moment.p99_ms}
    made = [_plot("Events per second", moments, rate, "{:,.0f}/s".format)]
    if any(moment.latency for moment in moments):
        made.append(_plot("Latency, exchange to arrival", moments, latencies, text.milliseconds))
    return made


def _plot(
    title: str,
    moments: Sequence[Moment],
    lines: _Lines,
    label: Callable[[float], str],
) -> Plot:
    values = {
        name: [(moment.at_s, value) for moment in moments if (value := of(moment)) is not None]
        for name, of in lines.items()
    }
    highest = max(value for points in values.values() for _, value in points) or 1.0
    last_s = moments[-1].at_s
    drawn = [
        Line(name, " ".join(f"{WIDTH * at_s / last_s:.1f},{_y(v / highest)}" for at_s, v in points))
        for name, points in values.items()
    ]
    return Plot(title, drawn, label(highest))


def _y(share: float) -> str:
    return f"{HEIGHT * (1 - share):.1f}"
