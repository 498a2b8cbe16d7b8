"""Containers of our own image, as a user runs them."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.support.programs import output

LOG_TIMEOUT_S = 30
STOP_TIMEOUT_S = 30


@dataclass(frozen=True)
class OurContainer:
    """A container that was started."""

    name: str

    def logged(self, event: str) -> dict[str, Any]:
        """Wait for the first log line of this event, and return it."""
        with subprocess.Popen(
            ["docker", "logs", "--follow", self.name],  # noqa: S607 - of PATH, as a user has it
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                assert process.stderr is not None
                for line in process.stderr:
                    if f'"event": "{event}"' in line:
                        found: dict[str, Any] = json.loads(line)
                        return found
            finally:
                process.kill()
        raise AssertionError(f"stopped without {event}: {self.log()}")

    def log(self) -> str:
        done = subprocess.run(
            ["docker", "logs", self.name],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=LOG_TIMEOUT_S,
            check=True,
        )
        return done.stdout + done.stderr

    def call(self, *command: str) -> str:
        """Run a command in the container; return its output, or fail the test with that output."""
        return output("docker", "exec", self.name, *command)

    def runs(self, *command: str) -> int:
        """Run a command in the container, and return its exit code."""
        return subprocess.run(
            ["docker", "exec", self.name, *command],  # noqa: S607
            capture_output=True,
            timeout=LOG_TIMEOUT_S,
            check=False,
        ).returncode

    def stop(self) -> tuple[int, float]:
        """Stop it with `docker stop`; return the exit code and the duration in seconds."""
        began = time.monotonic()
        output("docker", "stop", "--time", str(STOP_TIMEOUT_S), self.name)
        seconds = time.monotonic() - began
        code = output("docker", "inspect", "--format", "{{.State.ExitCode}}", self.name)
        return int(code), seconds


@contextmanager
def running(*words: str) -> Iterator[OurContainer]:
    """Run a container with these arguments of `docker run` until the context ends."""
    container = OurContainer(output("docker", "run", "--detach", *words).strip())
    try:
        yield container
    finally:
        output("docker", "rm", "--force", "--volumes", container.name)
