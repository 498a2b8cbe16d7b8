"""The demo as a user starts it: in a process of its own, with a pipe or a terminal."""

import asyncio
import os
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

DEMO = (sys.executable, "-m", "bridge", "demo")
# Gives the program a terminal of its own, where everything that we write is typed.
# Nohup may have started the tests; the program does not inherit that.
_SPAWN = """
import os, pty, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)
sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))
"""
IN_TERMINAL = (sys.executable, "-c", _SPAWN)
TIMEOUT_S = 30.0
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Ended(NamedTuple):
    """The exit code and the output of a demo that has ended."""

    exit_code: int
    output: str
    errors: str


def environment(**variables: str) -> dict[str, str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("TICKBRIDGE_") and not name.lower().endswith("_proxy")
    }
    return inherited | {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"} | variables


def exchange_file(folder: Path, websocket_url: str, rest_url: str) -> Path:
    """Write settings of an exchange, so that no test depends on the real one."""
    file = folder / "demo.yaml"
    file.write_text(
        "binance:\n"
        "  symbols: [BTCUSDT, ETHUSDT, BNBUSDT]\n"
        f"  websocket_url: {websocket_url}\n"
        f"  rest_url: {rest_url}\n"
    )
    return file


def unreachable(folder: Path) -> Path:
    """Write settings of an exchange that does not exist: nothing listens on port 1."""
    return exchange_file(folder, "ws://127.0.0.1:1", "http://127.0.0.1:1")


async def run_demo(*options: str | Path) -> Ended:
    """Run a demo to its end, without a terminal."""
    process = await asyncio.create_subprocess_exec(
        *DEMO, *options, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=environment()
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            output, errors = await process.communicate()
    finally:
        await kill(process)
    return Ended(await process.wait(), output.decode(), errors.decode())


class Terminal:
    """A demo in a terminal of 100 columns and 30 lines; `output` is everything shown so far."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._keyboard = process.stdin
        self._screen = process.stdout
        self.process = process
        self.output = ""

    async def wait_for(self, pattern: str) -> None:
        """Return when the terminal has shown text that matches, in any colour."""
        async with asyncio.timeout(TIMEOUT_S):
            while not re.search(pattern, self.text):
                data = await self._screen.read(65536)
                assert data, f"stopped without {pattern!r}: {self.text}"
                self.output += data.decode(errors="replace")

    def type(self, keys: bytes) -> None:
        self._keyboard.write(keys)

    async def end(self) -> int:
        """Wait for the end, and return the exit code; fail the test after a timeout."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                while data := await self._screen.read(65536):
                    self.output += data.decode(errors="replace")
                return await self.process.wait()
        except TimeoutError:
            raise AssertionError(f"the demo is still running: {self.text}") from None

    @property
    def text(self) -> str:
        return _CONTROL.sub("", self.output)


@asynccontextmanager
async def demo_in_terminal(*options: str | Path) -> AsyncIterator[Terminal]:
    process = await asyncio.create_subprocess_exec(
        *IN_TERMINAL, *DEMO, *options, stdin=PIPE, stdout=PIPE, env=environment()
    )
    try:
        yield Terminal(process)
    finally:
        await kill(process)


async def kill(process: Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()


@asynccontextmanager
async def server(answer: bytes | None) -> AsyncIterator[int]:
    """Run a server with one answer to every request, and yield its port.

    With None, it accepts requests and does not answer.
    """
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answer is None:
            await done.wait()
        else:
            writer.write(answer)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1]
        done.set()
