"""Programs that some tests call. Without them these tests are skipped, or fail if required."""

import os
import shutil
import subprocess

import pytest

REQUIRED = os.environ.get("TEST_TOOLS") == "required"


def program(name: str) -> str:
    """Return the path of a program; skip the test, or fail it, if there is none (`missing`)."""
    return shutil.which(name) or missing(f"no {name} on PATH")


def missing(what: str) -> str:
    """Skip the test, or fail it under TEST_TOOLS=required."""
    if REQUIRED:
        pytest.fail(f"{what}, and TEST_TOOLS=required")
    pytest.skip(what)


def output(*command: str, timeout_s: float = 60) -> str:
    """Return the output of a command; fail the test, with that output, if the command fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode:
        pytest.fail(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout
