"""Only a test that a busy machine can break is run once more and reported."""

import inspect
import re

import pytest

from tests.support import second_chance

pytest_plugins = ["pytester"]

# Fails in the first run, and passes in the second.
ONCE = """
import pathlib

{kind} test_it():
    ran = pathlib.Path({path!r})
    first = not ran.exists()
    ran.touch()
    print("run", 1 if first else 2)
    assert not first
"""
HANGS = """
import pytest, threading

@pytest.mark.timeout(0.5)
async def test_it():
    threading.Event().wait()
"""
ALWAYS = "async def test_it():\n    print('run')\n    assert False\n"


def run(pytester: pytest.Pytester, text: str, folder: str = "tests") -> tuple[int, str]:
    """Return the exit code and the output of a run of one test in a folder."""
    pytester.makeconftest(inspect.getsource(second_chance))
    pytester.makeini("[pytest]\nasyncio_mode = auto\n")
    (pytester.mkdir(folder) / "test_it.py").write_text(text)
    result = pytester.runpytest_subprocess()
    return int(result.ret), result.stdout.str()


def once(pytester: pytest.Pytester, kind: str) -> str:
    return ONCE.format(kind=kind, path=str(pytester.path / "ran"))


def test_one_that_waits_is_run_again_and_both_outputs_are_shown(
    pytester: pytest.Pytester,
) -> None:
    code, output = run(pytester, once(pytester, "async def"))
    assert code == 0
    assert "FLAKY tests/test_it.py::test_it" in output
    assert re.search(r"failed with.*assert not True.*run 1.*passed with.*run 2", output, re.DOTALL)
    assert "1 flaky" in output


def test_one_that_starts_programs_is_run_again(pytester: pytest.Pytester) -> None:
    code, output = run(pytester, once(pytester, "def"), "cli")
    assert (code, "1 flaky" in output) == (0, True)


def test_one_that_depends_on_its_code_alone_is_not(pytester: pytest.Pytester) -> None:
    code, output = run(pytester, once(pytester, "def"))
    assert (code, "flaky" in output) == (1, False)


def test_one_that_hangs_twice_ends_twice(pytester: pytest.Pytester) -> None:
    code, output = run(pytester, HANGS)
    assert (code, "1 rerun" in output) == (1, True)


def test_one_that_fails_twice_is_red_and_not_called_flaky(pytester: pytest.Pytester) -> None:
    code, output = run(pytester, ALWAYS)
    assert (code, "FLAKY" in output) == (1, False)
