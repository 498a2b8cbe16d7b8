"""The form and the seed of a run, the brokers all scenarios share, and the table at the end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import Choice, RedisServer
from tests.faults import result
from tests.faults.brokers import ProxiedKafka
from tests.faults.form import Form
from tests.faults.result import Result
from tests.faults.scenarios import SCENARIOS
from tests.faults.stage import Ground
from tests.tools import program

DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"
TOXIPROXY = "toxiproxy-server"

FORM = pytest.StashKey[Form]()
RESULTS = pytest.StashKey[list[Result]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FORM] = Form.chosen()


@pytest.fixture(scope="session")
def form(pytestconfig: pytest.Config) -> Form:
    pytestconfig.stash[RESULTS] = []
    return pytestconfig.stash[FORM]


@pytest.fixture(scope="session")
def results(pytestconfig: pytest.Config, form: Form) -> list[Result]:  # noqa: ARG001
    """Where a scenario that has held puts its result."""
    return pytestconfig.stash[RESULTS]


@pytest.fixture(scope="session")
def ground(brokers: Choice, form: Form) -> Iterator[Ground]:
    if brokers.kind == "embedded":
        pytest.skip(f"needs brokers that can be broken; {brokers}")
    with ProxiedKafka(program(TOXIPROXY)) as kafka, RedisServer() as redis:
        yield Ground(form, kafka, redis)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """The seed and the table; where all scenarios held in full, also in the documentation."""
    results, form = config.stash.get(RESULTS, None), config.stash[FORM]
    if results is None:
        return
    terminalreporter.section(str(form))
    terminalreporter.write_line(result.table(results))
    if form.is_for_the_record and len(results) == len(SCENARIOS):
        result.write(DOCUMENT, form, results)
        terminalreporter.write_line(f"written to {DOCUMENT.relative_to(config.rootpath)}")
