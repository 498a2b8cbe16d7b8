"""`tickbridge run` as a user starts it: a process of its own with a settings file."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

START_TIMEOUT_S = 20
STOP_TIMEOUT_S = 30
CHECK_TIMEOUT_S = 90
# So many of the last lines are in the error if an expected one does not come.
SHOWN = 20
# So many of the last lines of each bridge are in the report of a failed test.
REPORTED = 200
CLOCK_AHEAD = Path(__file__).with_name("clock_ahead.py")


class BridgeProcess:
    """One running bridge; `log` holds its lines, each a dictionary."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.log: list[dict[str, Any]] = []
        self._changed = asyncio.Condition()

    async def read_log(self) -> None:
        """Collect the log until the process ends."""
        stream = self.process.stderr
        assert stream is not None
        async for line in stream:
            async with self._changed:
                self.log.append(json.loads(line))
                self._changed.notify_all()

    async def logged(
        self, event: str, timeout_s: float = START_TIMEOUT_S, count: int = 1
    ) -> dict[str, Any]:
        """Wait for the `count`th log line of this event, and return it."""
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                while len(found := [line for line in self.log if line["event"] == event]) < count:
                    await self._changed.wait()
        except TimeoutError as error:
            raise TimeoutError(f"no {event} in {timeout_s} s, but {self.log[-SHOWN:]}") from error
        return found[count - 1]

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, and return the exit code."""
        self.process.send_signal(number)
        return await self.ended()

    async def ended(self) -> int:
        """Wait until the process has ended by itself, and return the exit code."""
        async with asyncio.timeout(STOP_TIMEOUT_S):
            return await self.process.wait()


async def check_settings(folder: Path) -> tuple[int | None, str]:
    """Check the settings in a folder and log in with them; return the exit code and the output."""
    words = (sys.executable, "-m", "bridge", "config", "check", "--connect")
    pipe, both = asyncio.subprocess.PIPE, asyncio.subprocess.STDOUT
    process = await asyncio.create_subprocess_exec(*words, cwd=folder, stdout=pipe, stderr=both)
    async with asyncio.timeout(CHECK_TIMEOUT_S):
        output, _ = await process.communicate()
    return process.returncode, output.decode()


@asynccontextmanager
async def running_bridge(
    folder: Path, settings: Mapping[str, Any], *, clock_ahead_s: float = 0.0
) -> AsyncIterator[BridgeProcess]:
    """Start a bridge in `folder` with these settings; kill it at the end if it still runs."""
    # JSON is YAML.
    (folder / "tickbridge.yaml").write_text(json.dumps(settings))
    program = (str(CLOCK_AHEAD), str(clock_ahead_s)) if clock_ahead_s else ("-m", "bridge")
    process = await asyncio.create_subprocess_exec(
        sys.executable, *program, "run", cwd=folder, stderr=asyncio.subprocess.PIPE
    )
    bridge = BridgeProcess(process)
    reading = asyncio.create_task(bridge.read_log())
    try:
        yield bridge
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading
        print(*bridge.log[-REPORTED:], sep="\n")  # noqa: T201 - shown if the test fails
