"""The form and the seed of a run, the shared brokers, and the table at the end."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import result
from tests.faults.brokers import ProxiedKafka
from tests.faults.environment import Ground
from tests.faults.profile import SEED, Form
from tests.faults.result import RESULT, Result
from tests.faults.scenarios import SCENARIOS
from tests.support.brokers import Choice, RedisServer
from tests.support.programs import program

DOCUMENT = Path(__file__).parents[2] / "docs" / "explanation" / "reliability.md"
TOXIPROXY = "toxiproxy-server"

FORM = pytest.StashKey[Form]()


def pytest_configure(config: pytest.Config) -> None:
    form = config.stash[FORM] = Form.chosen()
    os.environ[SEED] = str(form.seed)  # also for the processes that pytest-xdist starts


@pytest.fixture(scope="session")
def form(pytestconfig: pytest.Config) -> Form:
    return pytestconfig.stash[FORM]


@pytest.fixture(scope="session")
def ground(brokers: Choice, form: Form) -> Iterator[Ground]:
    if brokers.kind == "embedded":
        pytest.skip(f"needs brokers that can be broken; {brokers}")
    with ProxiedKafka(program(TOXIPROXY)) as kafka, RedisServer() as redis:
        yield Ground(form, kafka, redis)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the seed and the table; write the table of a full run into the documentation."""
    reports, form = terminalreporter.stats.get("passed", ()), config.stash[FORM]
    results = [
        Result(*value)
        for report in reports
        for name, value in report.user_properties
        if name == RESULT
    ]
    if not results:
        return
    terminalreporter.section(str(form))
    terminalreporter.write_line(result.table(results))
    if form.is_for_the_record and len(results) == len(SCENARIOS):
        result.write(DOCUMENT, form, results)
        terminalreporter.write_line(f"written to {DOCUMENT.relative_to(config.rootpath)}")
