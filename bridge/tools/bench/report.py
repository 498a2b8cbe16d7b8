"""The report in Markdown: figures with targets, stages with floors, and the comparison."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from bridge.tools.bench.compare import Move, caveats
from bridge.tools.bench.cost_model import Cost, CostModel, measured
from bridge.tools.bench.errors import BenchRefused
from bridge.tools.bench.figures import COSTS, FIGURES, STAGES
from bridge.tools.bench.machine import REFERENCE_US
from bridge.tools.bench.results import Figure, Results

FILE = "report.md"
BEGIN = "<!-- what follows is written by `tickbridge bench --docs`, up to the end mark -->"
END = "<!-- end of what is written by `tickbridge bench --docs` -->"


def report(results: Results) -> str:
    """Return the whole report, without the comparison."""
    failures = [f"failed: {failure.splitlines()[0]}" for failure in results.failures]
    notes = _notes([*results.notes, *failures])
    parts = [_where(results), _targets(results), _stages(results), _costs(results), notes]
    return "\n\n".join(part for part in parts if part) + "\n"


def comparison(before: Results, now: Results, moves: Sequence[Move]) -> str:
    """Return the table of what changed since an earlier benchmark."""
    rows = [
        (
            FIGURES[move.key].title,
            number(move.before),
            number(move.now),
            FIGURES[move.key].unit,
            f"± {number(move.noise)}" if move.noise else "",
            f"**{move.verdict}**" if move.verdict in {"better", "worse"} else move.verdict,
        )
        for move in moves
    ]
    header = ("figure", f"{before.date[:10]}", "now", "unit", "noise", "")
    return "\n\n".join(
        part for part in (_table(header, rows), _notes(caveats(before, now))) if part
    )


def is_met(figure: Figure) -> bool | None:
    """Return whether the median reaches its target, or None if there is no target."""
    meaning = FIGURES[figure.key]
    if meaning.target is None:
        return None
    if meaning.better == "more":
        return figure.median >= meaning.target
    return figure.median <= meaning.target


def number(value: float | None) -> str:
    """Format a value for the table: `104,000`, `9.31`, `0.412`, and `-` for None."""
    if value is None:
        return "-"
    if abs(value) >= 100 or float(value).is_integer():  # noqa: PLR2004
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def put_between_marks(page: Path, text: str) -> None:
    """Replace the text between the marks of a page. Raises BenchRefused if it has no marks."""
    head, tail = around_marks(page)
    page.write_text(f"{head}{BEGIN}\n\n{text}\n{END}{tail}", encoding="utf-8")


def around_marks(page: Path) -> tuple[str, str]:
    """Return the text before and after the marks of a page.

    Raises BenchRefused if the page has no marks or cannot be read.
    """
    remedy = f"put these two lines in it:\n{BEGIN}\n{END}"
    try:
        whole = page.read_text(encoding="utf-8")
    except OSError as error:
        raise BenchRefused(f"{page} cannot be read: {error.strerror}", remedy) from error
    head, begin, rest = whole.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise BenchRefused(f"{page} has no place for the table", remedy)
    return head, tail


def _where(results: Results) -> str:
    machine = results.machine
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    return (
        f"Measured {results.date[:16].replace('T', ' ')} UTC, profile `{results.profile}`, on "
        f"{machine.processor}, {machine.cores} cores, {machine.memory_gib:g} GiB, "
        f"{machine.system}; load average at the start {machine.load_average:g}. Load: "
        f"{results.workload}. {versions}.{_speed(results.floor_us)}"
    )


def _speed(found_us: Sequence[float]) -> str:
    """Describe the speed of the machine during the benchmark."""
    if not found_us:
        return ""
    return (
        f" Speed: msgspec decodes a frame and encodes its event in {median(found_us):.2f} µs "
        f"({min(found_us):.2f} to {max(found_us):.2f}); the targets were set for {REFERENCE_US} µs."
    )


def _targets(results: Results) -> str:
    keys = [key for key in FIGURES if not _has_no_row(key)]
    rows = [_row(figure, results) for key in keys if (figure := results.figure(key))]
    header = ("figure", "target", "median", "in the same run", "lowest to highest", "runs", "met")
    return _table(header, rows)


def _has_no_row(key: str) -> bool:
    """Return whether a figure has no row here: another row shows it, or the table of stages."""
    is_ratio = key.endswith("_ratio") and FIGURES[key].target is None
    return is_ratio or key.startswith(("stage.", "floor.", "cost."))


def _row(figure: Figure, results: Results) -> tuple[str, ...]:
    meaning = FIGURES[figure.key]
    sign = "≥" if meaning.better == "more" else "≤"
    target = "" if meaning.target is None else f"{sign} {number(meaning.target)} {meaning.unit}"
    met = {True: "yes", False: "**no**", None: ""}[is_met(figure)]
    runs = f"{number(min(figure.runs))} to {number(max(figure.runs))}"
    ratios = [(results.figure(key), other) for key, other in meaning.ratios]
    return (
        meaning.title,
        target,
        f"{number(figure.median)} {meaning.unit}",
        ", ".join(f"{number(ratio.median)} x {other}" for ratio, other in ratios if ratio),
        runs,
        f"{len(figure.runs)}",
        met,
    )


def _stages(results: Results) -> str:
    rows = []
    for name, stage in STAGES.items():
        ours, floor = results.figure(f"stage.{name}"), results.figure(f"floor.{name}")
        if ours and floor:
            times = f"{ours.median / floor.median:.2f} x" if floor.median else ""
            costs = (f"{number(ours.median)} µs", f"{number(floor.median)} µs")
            rows.append((stage.title, costs[0], costs[1], times, stage.floor))
    if not rows:
        return ""
    return _table(
        ("stage, CPU time per message", "ours", "floor", "ratio", "floor measured with"), rows
    )


def _costs(results: Results) -> str:
    """Describe the cost model, and compare it with the loads that were measured."""
    model = CostModel.of(results)
    if model is None:
        return ""
    rows = [
        _cost_row(name, cost, model.cores(name, cost.rate))
        for name in COSTS
        if (cost := measured(results, name))
    ]
    market = f" ({model.market_us:.1f} µs, whole market)" if model.market_us else ""
    formula = (
        f"Cost model: {model.fixed_cores:.2f} cores, and {model.message_us:.1f} µs{market} of a "
        "core for each message."
    )
    sizes = ("Kafka, a message", "a second", "Redis, a message", "a second")
    header = ("load", "msg/s", "cores", "cores by the model", "ratio", "memory", *sizes)
    return f"{formula}\n\n{_table(header, rows)}"


def _cost_row(name: str, cost: Cost, expected: float | None) -> tuple[str, ...]:
    return (
        COSTS[name],
        f"{cost.rate:,.0f}",
        f"{cost.cores:.2f}",
        f"{expected:.2f}" if expected else "-",
        f"{cost.cores / expected:.2f} x" if expected else "-",
        f"{cost.memory_mib:.0f} MiB",
        f"{cost.kafka_bytes:.0f} B",
        f"{cost.kafka_bytes * cost.rate / 1e6:.2f} MB",
        f"{cost.redis_bytes:.0f} B",
        f"{cost.redis_bytes * cost.rate / 1e6:.2f} MB",
    )


def _notes(notes: Iterable[str]) -> str:
    return "\n".join(f"- {note}" for note in notes)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) if rows else ""
