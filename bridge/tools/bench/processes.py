"""The processes of a benchmark: start them, read their lines, and shut them down."""

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

from bridge.tools.bench.errors import BenchFailed

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
_LAST_LINES = 5


class Child:
    """One process. Its standard error goes to a file, to be quoted if the process fails."""

    def __init__(self, name: str, process: Process, log: Path) -> None:
        self.name = name
        self._process = process
        self._log = log

    async def line(self) -> bytes:
        """Read the next line of its standard output. Raises BenchFailed on exit or timeout."""
        assert self._process.stdout is not None  # noqa: S101  # as it was started
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise self.failure(f"has printed nothing for {START_TIMEOUT_S:g} s") from None
        if not line:
            raise self.failure("has exited")
        return line

    def check(self) -> None:
        """Raise BenchFailed if the process has exited."""
        if self._process.returncode is not None:
            raise self.failure(f"has exited with code {self._process.returncode}")

    def failure(self, what: str) -> BenchFailed:
        """Return an error with the last lines that the process wrote to standard error."""
        said = self._log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
        return BenchFailed("\n".join((f"the process `{self.name}` {what}", *said)))

    def terminate(self) -> None:
        """Send SIGTERM, unless the process has exited."""
        if self._process.returncode is None:
            self._process.terminate()

    async def stop(self) -> None:
        """Send SIGTERM, and SIGKILL after STOP_TIMEOUT_S."""
        self.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._process.communicate()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def python(folder: Path, *words: str, says: bool = True) -> AsyncIterator[Child]:
    """Run `python -m words` until the context ends: see `program`."""
    async with program(folder, sys.executable, "-m", *words, says=says) as child:
        yield child


@asynccontextmanager
async def program(folder: Path, *words: str, says: bool = True) -> AsyncIterator[Child]:
    """Run a command until the context ends. `folder` receives its standard error.

    With `says`, its standard output can be read; otherwise it is discarded. Python stores what it
    has compiled, as an installation has it.
    """
    name = " ".join(words).removeprefix(f"{sys.executable} -m ")[:60]
    log = folder / f"{name.split()[0].rpartition('/')[2]}-{uuid4().hex[:8]}.log"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *words, stdout=PIPE if says else DEVNULL, stderr=errors, env=environment
        )
    child = Child(name, process, log)
    try:
        yield child
    finally:
        await child.stop()
