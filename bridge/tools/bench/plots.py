"""The plots as small SVG files, one for each plot name in the curves."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bridge.tools.bench.results import Curve
from bridge.tools.bench.statistics import Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

# More points would only make the file larger, not the line finer.
MAX_POINTS = 240
# The axis of milliseconds begins here. No event reaches a listener sooner.
LEAST_MS = 0.1
# This many labels of six digits fit side by side.
X_LABELS = 6


class Plot(NamedTuple):
    """The title and the axes of a plot."""

    title: str
    x: str
    y: str
    is_logarithmic: bool = False
    x_is_logarithmic: bool = False
    has_diagonal: bool = False


PLOTS: dict[str, Plot] = {
    "throughput": Plot(
        "Carried into Kafka and Redis", "offered, msg/s", "carried, msg/s", has_diagonal=True
    ),
    "cost": Plot("CPU time per message", "offered, msg/s", "µs"),
    "latency": Plot("Frame received → listener", "offered, msg/s", "ms", True, True),  # noqa: FBT003
    "burst": Plot("Burst of ten times the rate", "s", "ms", True),  # noqa: FBT003
    "memory": Plot("Resident memory", "s", "MiB"),
}


def draw(curves: Sequence[Curve], folder: Path) -> list[Path]:
    """Draw every plot that has a curve, and return the files."""
    found = {name: [c for c in curves if c.plot == name and c.points] for name in PLOTS}
    return [_draw(name, lines, folder) for name, lines in found.items() if lines]


def thinned(points: Sequence[Point], most: int = MAX_POINTS) -> list[Point]:
    """Return at most `most` points. Of neighbouring points the highest stays: no peak is lost."""
    size = -(-len(points) // most)
    groups = (points[at : at + size] for at in range(0, len(points), size or 1))
    return [max(group, key=lambda point: point[1]) for group in groups]


def _draw(name: str, curves: Sequence[Curve], folder: Path) -> Path:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # Text is stored as text, and the same curves give the same file.
    settings = {"svg.fonttype": "none", "svg.hashsalt": "tickbridge", "font.size": 9}
    with mpl.rc_context(settings):  # type: ignore[arg-type]
        figure = Figure(figsize=(6.4, 3.4), layout="constrained")
        axes = figure.add_subplot()
        for curve in curves:
            points = thinned(curve.points)
            marker = "o" if len(points) < 30 else ""  # noqa: PLR2004
            axes.plot(*zip(*points, strict=True), marker=marker, ms=3, lw=1.2, label=curve.label)
        _dress(axes, PLOTS[name])
        path = folder / f"{name}.svg"
        figure.savefig(path, metadata={"Date": None})
    return path


def _dress(axes: "Axes", plot: Plot) -> None:
    axes.set(title=plot.title, xlabel=plot.x, ylabel=plot.y)
    if plot.has_diagonal:
        end = axes.get_xlim()[1]
        axes.plot((0, end), (0, end), color="0.7", lw=0.8, zorder=0)
    axes.set_xscale("log" if plot.x_is_logarithmic else "linear")
    axes.set_yscale("log" if plot.is_logarithmic else "linear")
    axes.set_ylim(bottom=LEAST_MS if plot.is_logarithmic else 0)
    if not plot.x_is_logarithmic:
        axes.set_xlim(left=0)
        axes.locator_params(axis="x", nbins=X_LABELS)
    for axis in (axes.xaxis, axes.yaxis):
        _label(axis)
    axes.grid(visible=True, color="0.9", lw=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


def _label(axis: "Axis") -> None:
    """Label an axis with plain numbers; a logarithmic one at those that begin with 1, 2 and 5."""
    from matplotlib.ticker import LogLocator, NullFormatter

    if axis.get_scale() == "log":
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter("{x:,g}")
