"""What a benchmark leaves behind: `results.json`, which a later one can be held against."""

from pathlib import Path
from statistics import median

import msgspec

from bridge.tools.bench import statistics
from bridge.tools.bench.errors import BenchRefused
from bridge.tools.bench.statistics import Point

FILE = "results.json"


class Machine(msgspec.Struct):
    """Where it was measured, and what else the machine had to do when it began."""

    processor: str
    cores: int
    memory_gib: float
    system: str
    load_average: float


class Figure(msgspec.Struct):
    """One figure by its key in `figures.FIGURES`; each run's value."""

    key: str
    runs: list[float]

    @property
    def median(self) -> float:
        return median(self.runs)

    @property
    def spread(self) -> float:
        """From the least run to the greatest."""
        return statistics.spread(self.runs)


class Curve(msgspec.Struct):
    """One line of a plot: the plot's name, the line's, its points."""

    plot: str
    label: str
    points: list[Point]


class Results(msgspec.Struct):
    """All of it. `profile` is quick, usual or long; `workload` says what was offered; `failures`
    are runs that gave nothing.
    """

    date: str
    profile: str
    workload: str
    machine: Machine
    versions: dict[str, str]
    figures: list[Figure] = []
    curves: list[Curve] = []
    notes: list[str] = []
    failures: list[str] = []

    def figure(self, key: str) -> Figure | None:
        """The figure of this key, if it was measured."""
        return next((figure for figure in self.figures if figure.key == key), None)


def write(results: Results, folder: Path) -> None:
    """Write `results.json`."""
    text = msgspec.json.format(msgspec.json.encode(results))
    folder.joinpath(FILE).write_bytes(text + b"\n")


def read(path: Path) -> Results:
    """Read what an earlier benchmark has written. Raises BenchRefused where that is none."""
    remedy = f"name the {FILE} that an earlier benchmark has written"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Results)
    except OSError as error:
        raise BenchRefused(f"{path} cannot be read: {error.strerror}", remedy) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BenchRefused(f"{path} holds no results: {error}", remedy) from error
