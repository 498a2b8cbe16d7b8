"""Results of scenarios, and their table."""

import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.faults.profile import SEED, Form
from tests.support.brokers import KAFKA_IMAGE, REDIS_IMAGE

# The property of a test's report that holds its result.
RESULT = "faults"
BEGIN, END = "<!-- results: make faults -->", "<!-- end of results -->"
_HEAD = (
    "what is broken",
    "faults",
    "trades",
    "quotes",
    "lost",
    "repeated",
    "disordered",
    "recovery, median",
    "worst",
    "memory",
)


@dataclass(slots=True)
class Tally:
    """Counts of one kind of event; `wrong` counts those whose fields are not as played."""

    events: int = 0
    lost: int = 0
    repeated: int = 0
    disordered: int = 0
    wrong: int = 0
    remarks: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        """Add the counts of another tally."""
        self.events += other.events
        self.lost += other.lost
        self.repeated += other.repeated
        self.disordered += other.disordered
        self.wrong += other.wrong
        self.remarks += other.remarks


class Result(NamedTuple):
    """The result of one scenario: a row of the table, and the exchange's trades per second.

    Plain data, so that a test process can send it to the process that prints.
    """

    rate: float
    row: tuple[str, ...]


def result_of(
    title: str,
    rate: float,
    tallies: Sequence[Tally],
    recoveries_s: Sequence[float],
    peak_mib: float,
) -> Result:
    """Return the result of a scenario.

    `tallies` are of trades (with aggregate trades) and quotes. `recoveries_s` has one entry per
    fault. `peak_mib` is the bridge's largest resident set.
    """
    both = Tally()
    for tally in tallies:
        both.add(tally)
    row = (
        title,
        str(len(recoveries_s)),
        *(f"{tally.events:,}" for tally in tallies),
        str(both.lost),
        str(both.repeated),
        str(both.disordered),
        f"{median(recoveries_s):.2f} s" if recoveries_s else "",
        f"{max(recoveries_s):.2f} s" if recoveries_s else "",
        f"{peak_mib:.0f} MiB",
    )
    return Result(rate, row)


def table(results: Sequence[Result]) -> str:
    """Return the results in Markdown."""
    rows = [_HEAD, tuple("---" if not n else "--:" for n in range(len(_HEAD)))]
    rows += [result.row for result in results]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def write(path: Path, form: Form, results: Sequence[Result]) -> None:
    """Replace the text between the marks by the results, and leave the other text unchanged."""
    text = path.read_text(encoding="utf-8")
    written = f"{BEGIN}\n{_origin(form, results)}\n\n{table(results)}\n{END}"
    marked = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    path.write_text(marked.sub(lambda _: written, text), encoding="utf-8")


def _origin(form: Form, results: Sequence[Result]) -> str:
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    usual = min(each.rate for each in results if each.rate >= form.trades_per_second)
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, `{SEED}={form.seed}`; at least {usual:,.0f} "
        f"trades/s, unless a row says otherwise; {platform.machine()} with "
        f"{os.cpu_count()} cores and {memory_gib:.0f} GiB, on which exchange, brokers, bridge and "
        f"tests run together; {KAFKA_IMAGE}, {REDIS_IMAGE}, Python {platform.python_version()}."
    )
