"""The processes of a benchmark: started, read by lines, and ended by their own hand."""

import asyncio
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
    """One process; what it says on standard error is in a file, for the case that it fails."""

    def __init__(self, name: str, process: Process, log: Path) -> None:
        self.name = name
        self._process = process
        self._log = log

    async def line(self) -> bytes:
        """The next line of its standard output. Raises BenchFailed if there is none in time."""
        assert self._process.stdout is not None  # noqa: S101  # as it was started
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise self.failure(f"says nothing for {START_TIMEOUT_S:g} s") from None
        if not line:
            raise self.failure("has ended")
        return line

    def check(self) -> None:
        """Raise BenchFailed if it has ended."""
        if self._process.returncode is not None:
            raise self.failure(f"has ended with {self._process.returncode}")

    def failure(self, what: str) -> BenchFailed:
        """An error with the last words of the process."""
        said = self._log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
        return BenchFailed("\n".join((f"the process `{self.name}` {what}", *said)))

    async def stop(self) -> None:
        """SIGTERM, and after STOP_TIMEOUT_S SIGKILL."""
        if self._process.returncode is None:
            self._process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._process.communicate()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def python(folder: Path, *words: str, says: bool = True) -> AsyncIterator[Child]:
    """`python -m words`, as long as the context lasts; its streams' files are in `folder`.

    `says`: whether its standard output is to be read.
    """
    name = " ".join(words)[:60]
    log = folder / f"{words[0]}-{uuid4().hex[:8]}.log"
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *words), stdout=PIPE if says else DEVNULL, stderr=errors
        )
    child = Child(name, process, log)
    try:
        yield child
    finally:
        await child.stop()
