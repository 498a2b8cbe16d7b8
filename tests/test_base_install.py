"""What works after `pip install tickbridge` without an extra."""

import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from bridge.cli.app import SERVICE_LIBRARIES

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
# Refuses to import what an installation without extras does not have.
WITHOUT_EXTRAS = """
import sys

class Refusal:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Refusal())
sys.argv[0] = "tickbridge"
{program}
"""
COMMAND = "from bridge.__main__ import main; main()"
NO_KAFKA, NO_REDIS = ("--kafka", "127.0.0.1:1"), ("--redis", "redis://127.0.0.1:1/0")


def required(requirements: list[str]) -> set[str]:
    """Return the names of the libraries that these requirements install, directly or not."""
    found: set[str] = set()
    waiting = [(Requirement(text), "") for text in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        marker, name = requirement.marker, requirement.name
        if marker and not marker.evaluate({"extra": extra}):
            continue
        found.add(name.lower().replace("_", "-"))
        for text in metadata.requires(name) or ():
            waiting += [(Requirement(text), each) for each in ("", *requirement.extras)]
    return found


def missing_modules() -> set[str]:
    installed = required(PROJECT["dependencies"]) | {"tickbridge"}
    return {
        module
        for module, libraries in metadata.packages_distributions().items()
        if not installed & {library.lower().replace("_", "-") for library in libraries}
    }


def run(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-c"),
            WITHOUT_EXTRAS.format(missing=missing_modules(), program=program),
            *words,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_names_of_the_service_libraries_are_those_of_the_extra() -> None:
    extra = {Requirement(text).name for text in PROJECT["optional-dependencies"]["service"]}
    assert {name.replace("_", "-") for name in SERVICE_LIBRARIES} == extra - {"uvloop"}


def test_the_client_can_be_imported() -> None:
    done = run("import bridge.client, bridge.client.sync")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("price", *NO_REDIS),
        ("tail", "trade", *NO_KAFKA),
        ("audit", "--kind", "trade", *NO_KAFKA),
    ],
    ids=lambda words: words[0],
)
def test_the_commands_for_readers_work(words: tuple[str, ...]) -> None:
    done = run(COMMAND, *words)
    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stderr
    assert "check that it is running" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("run",),
        ("demo",),
        ("simulate",),
        ("bench", "--quick"),
        ("status",),
        ("verify", "--symbols", "BTCUSDT"),
        ("record", "--symbols", "BTCUSDT", "--out", "capture"),
    ],
    ids=lambda words: words[0],
)
def test_a_command_of_the_service_names_the_extra(words: tuple[str, ...]) -> None:
    done = run(COMMAND, *words)
    assert done.returncode == 2
    assert "which is not installed; in the repository of Tickbridge, run: pip" in done.stderr
    assert done.stderr.count("\n") == 1
