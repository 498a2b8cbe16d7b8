"""The command line as a whole: help, start-up, completion, and one place for errors."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from bridge.cli.app import app
from bridge.errors import FeedRefused, TickbridgeError

ROOT = Path(__file__).parents[2]
# Libraries that make a command slow to start.
HEAVY = {
    *("aiohttp", "aiokafka", "matplotlib", "msgspec", "polars", "pydantic", "redis"),
    *("structlog", "websockets"),
}
# The commands of the contract, and those that were added.
OF_THE_CONTRACT = {
    "run",
    "demo",
    "status",
    "price",
    "tail",
    "export",
    "verify",
    "simulate",
    "audit",
    "bench",
    "record",
    "config",
    "schemas",
}


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(app)))


def run(*arguments: str) -> Any:
    return CliRunner(env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"}).invoke(app, arguments)


def test_the_commands_are_those_of_the_contract() -> None:
    assert {path[0] for path in COMMANDS if path} == OF_THE_CONTRACT


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_names_every_option_and_gives_examples(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    result = run(*path, "--help")
    assert result.exit_code == 0
    for parameter in command.params:
        for name in parameter.opts if parameter.param_type_name == "option" else ():
            assert name in result.stdout
    if not hasattr(command, "commands"):
        assert f"tickbridge {' '.join(path)}" in result.stdout.partition("Examples")[2]


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_shows_no_type_for_an_option_without_a_value(path: tuple[str, ...]) -> None:
    assert "<bool>" not in run(*path, "--help").stdout


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_version_is_one_line(option: str) -> None:
    result = run(option)
    assert (result.exit_code, result.stdout.split()[0]) == (0, "tickbridge")


def test_a_mistyped_command_gets_the_nearest() -> None:
    result = run("tial")
    assert (result.exit_code, "Did you mean 'tail'" in result.stderr) == (2, True)


def test_help_waits_for_no_library_it_does_not_need() -> None:
    program = f"import sys, bridge.cli.app; print(*({HEAVY!r} & sys.modules.keys()))"
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == []


def test_the_service_runs_without_the_tools() -> None:
    """A wheel may exclude `bridge/tools`: nothing that `tickbridge run` imports needs it."""
    without_tools = "import sys; sys.modules['bridge.tools'] = None"
    program = f"{without_tools}; import bridge.cli.run, bridge.app.service"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True)


@pytest.mark.parametrize(
    ("words", "completed"),
    [("tickbridge pr", ["price"]), ("tickbridge tail book", ["book_delta", "book"])],
)
def test_the_shell_completes_commands_and_kinds(words: str, completed: list[str]) -> None:
    asked = {"_TICKBRIDGE_COMPLETE": "complete_bash", "COMP_WORDS": words}
    program = "import sys; sys.argv[0] = 'tickbridge'; from bridge.__main__ import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | asked | {"COMP_CWORD": str(len(words.split()) - 1)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.split() == completed


class Stub:
    """Replaces `schemas check` with a function that raises an error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def raising(self, error: BaseException) -> Any:
        def check(_: Path) -> list[str]:
            raise error

        self._monkeypatch.setattr("bridge.tools.schemas.check", check)
        return run("schemas", "check")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Stub:
    return Stub(monkeypatch)


def test_our_error_is_a_line_and_its_exit_code(command: Stub) -> None:
    result = command.raising(FeedRefused("HTTP 451", "look elsewhere"))
    assert result.exit_code == 2
    assert result.stderr == "tickbridge: HTTP 451; look elsewhere\n"


def test_our_error_is_found_in_a_group_of_groups(command: Stub) -> None:
    ours = ExceptionGroup("tasks", [TickbridgeError("it is gone")])
    result = command.raising(ExceptionGroup("tasks", [ValueError(), ours]))
    assert (result.exit_code, result.stderr) == (1, "tickbridge: it is gone\n")


def test_a_bug_keeps_its_traceback(command: Stub) -> None:
    assert isinstance(command.raising(ZeroDivisionError()).exception, ZeroDivisionError)
    group = command.raising(ExceptionGroup("tasks", [ZeroDivisionError()])).exception
    assert isinstance(group, ExceptionGroup)


def test_an_interruption_is_quiet(command: Stub) -> None:
    result = command.raising(KeyboardInterrupt())
    assert (result.exit_code, result.output) == (130, "")


def test_a_closed_pipe_is_quiet() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    result = subprocess.run(
        [sys.executable, "-m", "bridge", "config", "schema"],
        cwd=ROOT,
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert (result.returncode, result.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("redirection", "reason"), [(">&-", "Bad file descriptor"), (">/dev/full", "No space left")]
)
@pytest.mark.parametrize("command", ["config schema", "schemas print trade", "--version", "--help"])
def test_an_output_that_takes_nothing_is_named(command: str, redirection: str, reason: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    result = subprocess.run(
        ["sh", "-c", f'"$0" -m bridge {command} {redirection}', sys.executable],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.startswith(f"tickbridge: standard output cannot be written: {reason}")
    assert len(result.stderr.splitlines()) == 1


def test_a_command_works_without_standard_input_and_error() -> None:
    result = subprocess.run(
        ["sh", "-c", '"$0" -m bridge schemas print trade <&- 2>&-', sys.executable],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout[:1]) == (0, "{")


def test_sigterm_ends_a_command_that_waits() -> None:
    """Use our own handler: the first process of a container has no default action."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        broker = f"127.0.0.1:{server.getsockname()[1]}"
        command = (sys.executable, "-m", "bridge", "tail", "trade", "--kafka", broker)
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            connection, _ = server.accept()
            with connection:
                process.send_signal(signal.SIGTERM)
                _, said = process.communicate(timeout=30)
    assert process.returncode == 143
    assert said == ""


# A command that swallows what a signal handler raises, and cleans up at its end.
CLEANING = """
import asyncio, signal
from bridge.__main__ import _terminate
from bridge.cli.options import run_async

async def work():
    try:
        while True:
            print("works", flush=True)
            try:
                await asyncio.sleep(0.01)
            except SystemExit:
                pass
    finally:
        print("cleans", flush=True)
        await asyncio.sleep(0.5)
        print("clean", flush=True)

for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, _terminate)
run_async(work())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_does_not_break_off_the_cleanup(number: signal.Signals) -> None:
    """A container or a terminal may send more than one when it ends."""
    command = (sys.executable, "-c", CLEANING)
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "works\n"
        process.send_signal(number)
        while process.stdout.readline() != "cleans\n":
            pass
        process.send_signal(number)
        said, _ = process.communicate(timeout=30)
    assert (process.returncode, said) == (143, "clean\n")


def test_sigterm_ends_a_command_whose_imports_are_not_through(tmp_path: Path) -> None:
    """Ignore SIGTERM until a handler exists, like the first process of a container."""
    (tmp_path / "typer.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n")
    ignoring = 'trap "" TERM; exec "$0" -m bridge run'
    done = subprocess.run(
        ["sh", "-c", ignoring, sys.executable],  # noqa: S607
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (143, "")
