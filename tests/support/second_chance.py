"""A second run for tests that depend on a broker, a process or a clock, and a report of it.

Such a test may fail because the machine was busy. It runs once more, with the same seed. If it
passes then, it counts as flaky, and the summary shows both outputs. A test that depends on its code
alone does not run again.
"""

import inspect
from collections.abc import Iterable

import pytest
import pytest_timeout

# Tests of these folders start programs, and wait for them.
STARTS_PROGRAMS = frozenset({"cli", "demo", "deploy", "integration"})
BROKERS = frozenset({"kafka", "redis", "own_kafka", "own_redis", "ground", "image"})
TAIL_CHARACTERS = 6_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if depends_on_the_machine(item):
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Give the second run a time limit too: pytest-timeout sets one for both runs together."""
    if getattr(item, "execution_count", 1) > 1:
        settings = pytest_timeout._get_item_settings(item)
        if settings.timeout:
            item.config.hook.pytest_timeout_set_timer(item=item, settings=settings)


def depends_on_the_machine(item: pytest.Item) -> bool:
    """Return whether a broker, a process or a clock may make the test fail."""
    if not isinstance(item, pytest.Function):
        return False
    return (
        inspect.iscoroutinefunction(item.function)
        or not BROKERS.isdisjoint(item.fixturenames)
        or not STARTS_PROGRAMS.isdisjoint(item.path.relative_to(item.config.rootpath).parts)
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print both outputs of each flaky test, and the number of flaky tests."""
    stats = terminalreporter.stats
    passed = {report.nodeid: report for report in stats.get("passed", ())}
    flaky = [report for report in stats.get("rerun", ()) if report.nodeid in passed]
    if not flaky:
        return
    terminalreporter.section("flaky: failed, and passed when it was run again")
    for report in flaky:
        terminalreporter.write_line(f"FLAKY {report.nodeid}", yellow=True)
        terminalreporter.write_line("--- failed with")
        terminalreporter.write_line(_tail([report.longreprtext, *_captured(report)]))
        terminalreporter.write_line("--- passed with")
        terminalreporter.write_line(_tail(_captured(passed[report.nodeid])) or "no output")
    terminalreporter.write_line(f"{len(flaky)} flaky", yellow=True)


def _captured(report: pytest.TestReport) -> Iterable[str]:
    return (f"{title}\n{text}" for title, text in report.sections)


def _tail(texts: Iterable[str]) -> str:
    return "\n".join(texts)[-TAIL_CHARACTERS:]
