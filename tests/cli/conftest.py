"""Running commands: in this process if they stop by themselves, otherwise in their own."""

import fcntl
import logging
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner, Result

from bridge.cli.app import app

END_TIMEOUT_S = 60
# What moves the cursor, or sets colours.
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use a folder without a tickbridge.yaml, and an environment without settings."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("TICKBRIDGE_")]:
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """Restore logging: a command logs to its own stderr, which is closed afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def tickbridge() -> Run:
    """Run a command: `tickbridge("config", "check", TICKBRIDGE_LOG__LEVEL="debug")`."""

    def run(*arguments: str, **variables: str) -> Result:
        return CliRunner(env=variables).invoke(app, arguments)

    return run


@contextmanager
def process(*arguments: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command as a process whose streams are pipes, and kill it if it is still running."""
    with subprocess.Popen(
        [sys.executable, "-m", "bridge", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])} | variables,
    ) as running:
        try:
            yield running
        finally:
            running.kill()


class Terminal:
    """A command that runs in a terminal, and what it shows there."""

    def __init__(self, running: subprocess.Popen[bytes], screen: int) -> None:
        self.running = running
        self._screen = screen
        self._shown = ""

    def until(self, text: str) -> None:
        """Wait until the terminal shows a text, apart from what earlier calls have found."""
        deadline_s = time.monotonic() + END_TIMEOUT_S
        while text not in self._shown:
            left_s = max(0.0, deadline_s - time.monotonic())
            readable, _, _ = select.select((self._screen,), (), (), left_s)
            assert readable, f"{text!r} is not in {self._shown!r}"
            self._shown += _CONTROL.sub("", os.read(self._screen, 65_536).decode())
        self._shown = self._shown.partition(text)[2]


@contextmanager
def in_terminal(*arguments: str, columns: int = 80, **variables: str) -> Iterator[Terminal]:
    """Run a command in a terminal of this width, and kill it if it is still running."""
    screen, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "TERM": "xterm"}
    with subprocess.Popen(
        [sys.executable, "-m", "bridge", *arguments],
        stdin=inner,
        stdout=inner,
        stderr=inner,
        env=environment | variables,
    ) as running:
        os.close(inner)
        try:
            yield Terminal(running, screen)
        finally:
            running.kill()
            os.close(screen)


def ended(running: subprocess.Popen[bytes], number: signal.Signals) -> int:
    """Send a signal, and return the exit code."""
    running.send_signal(number)
    return running.wait(END_TIMEOUT_S)


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Path]:
    """Return settings that use a simulated exchange, which runs as long as the test."""
    with process("simulate", "--port", "0", "--symbols", "BTCUSDT", "--rate", "50") as running:
        assert running.stdout
        lines = [running.stdout.readline() for _ in range(6)]
        settings = tmp_path / "simulated.yaml"
        settings.write_bytes(b"".join(lines))
        yield settings
        assert ended(running, signal.SIGTERM) == 0
