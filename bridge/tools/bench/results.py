"""The results of a benchmark, stored in `results.json` for a later comparison."""

from pathlib import Path
from statistics import median

import msgspec

from bridge.tools.bench import statistics
from bridge.tools.bench.errors import BenchRefused
from bridge.tools.bench.statistics import Point

FILE = "results.json"


class Machine(msgspec.Struct):
    """The machine, with its load average when the benchmark began."""

    processor: str
    cores: int
    memory_gib: float
    system: str
    load_average: float


class Figure(msgspec.Struct):
    """The values of one figure, one for each run. `key` is a key of `figures.FIGURES`."""

    key: str
    runs: list[float]

    @property
    def median(self) -> float:
        return median(self.runs)

    @property
    def spread(self) -> float:
        """Return the difference between the highest run and the lowest."""
        return statistics.spread(self.runs)


class Curve(msgspec.Struct):
    """One curve. `plot` is the name of the plot it belongs to."""

    plot: str
    label: str
    points: list[Point]


class Results(msgspec.Struct):
    """The whole benchmark.

    `profile` is quick, usual or long. `workload` describes the load. `failures` are the messages of
    the runs that failed. `floor_us` has the speed of the machine before and after each run: see
    `machine.Fitness`.
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
    floor_us: list[float] = []

    def figure(self, key: str) -> Figure | None:
        """Return the figure with this key, or None if it was not measured."""
        return next((figure for figure in self.figures if figure.key == key), None)


def write(results: Results, folder: Path) -> None:
    """Write `results.json` into a folder."""
    text = msgspec.json.format(msgspec.json.encode(results))
    folder.joinpath(FILE).write_bytes(text + b"\n")


def read(path: Path) -> Results:
    """Read the results of an earlier benchmark. Raises BenchRefused if the file has none."""
    remedy = f"name the {FILE} that an earlier benchmark wrote"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Results)
    except OSError as error:
        raise BenchRefused(f"{path} cannot be read: {error.strerror}", remedy) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BenchRefused(f"{path} holds no results: {error}", remedy) from error
