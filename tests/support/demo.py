"""The demo as a user starts it: in a process of its own, in a pipe or in a terminal."""

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
# Gives the program a terminal of its own, in which what we write is typed. A shell that runs the
# tests in the background has told them to ignore Ctrl-C, and they would pass that on.
_SPAWN = """
import os, pty, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))
"""
IN_TERMINAL = (sys.executable, "-c", _SPAWN)
TIMEOUT_S = 30.0
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Ended(NamedTuple):
    """What a demo left behind."""

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
    """Settings of an exchange, so that no test depends on what answers out there."""
    file = folder / "demo.yaml"
    file.write_text(
        "binance:\n"
        "  symbols: [BTCUSDT, ETHUSDT, BNBUSDT]\n"
        f"  websocket_url: {websocket_url}\n"
        f"  rest_url: {rest_url}\n"
    )
    return file


def unreachable(folder: Path) -> Path:
    """An exchange that is not there: nobody listens on port 1."""
    return exchange_file(folder, "ws://127.0.0.1:1", "http://127.0.0.1:1")


async def run_demo(*options: str | Path) -> Ended:
    """Run it to its end, without a terminal."""
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
    """A demo in a terminal of 100 columns and 30 lines; `output` is all it has shown so far."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._keyboard = process.stdin
        self._screen = process.stdout
        self.process = process
        self.output = ""

    async def wait_for(self, pattern: str) -> None:
        """Return when something like it has been shown, whatever its colours."""
        async with asyncio.timeout(TIMEOUT_S):
            while not re.search(pattern, self.text):
                data = await self._screen.read(65536)
                assert data, f"ended without {pattern!r}: {self.text}"
                self.output += data.decode(errors="replace")

    def type(self, keys: bytes) -> None:
        self._keyboard.write(keys)

    async def end(self) -> int:
        """Return the exit code once it has ended; fails the test if it does not."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                while data := await self._screen.read(65536):
                    self.output += data.decode(errors="replace")
                return await self.process.wait()
        except TimeoutError:
            raise AssertionError(f"it has not ended: {self.text}") from None

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
    """The port of a server with one answer to every request; None: it takes them and is silent."""
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
