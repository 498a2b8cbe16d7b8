"""Programs that the code blocks of the documents call, in the form in which a test can run them.

`install` makes a folder with these programs, for the beginning of PATH. Most of them run the real
program: one that would run until Ctrl-C is interrupted when it has printed something. What would
change a cluster, an image or this environment is checked, and not done.
"""

import ast
import asyncio
import inspect
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
# The file that lists the programs that are not installed here.
NOT_INSTALLED = "NOT_INSTALLED"
# An endless program is interrupted so long after its first output.
INTERRUPT_AFTER_S = 1.0
TIMEOUT_S = 60.0
INTERRUPTED = (0, 130, -signal.SIGINT)
# The commands that run until Ctrl-C, unless they have this option.
ENDLESS = {
    "demo": "--seconds",
    "record": "--seconds",
    "run": "--help",
    "simulate": "--help",
    "tail": "--count",
}
# Names that the blocks of a page use and that a reader's program would have.
READERS_OWN = {"stored": "earliest", "save": print, "store": print}


def install(folder: Path) -> None:
    """Make the programs in a new folder."""
    folder.mkdir()
    for name in PROGRAMS:
        program = folder / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {name} "$@"\n')
        program.chmod(0o755)


def run(*command: str, endless: bool = False, variables: Mapping[str, str] | None = None) -> int:
    """Run a program; return its exit code, or 0 if it ended because we interrupted it."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if endless else None,
        env=os.environ | (variables or {}),
    )
    interrupted = threading.Event()

    def interrupt() -> None:
        interrupted.set()
        process.send_signal(signal.SIGINT)

    timers = [threading.Timer(TIMEOUT_S, process.kill)]
    timers[0].start()

    def copy(source: int, target: int) -> None:
        while data := os.read(source, 65536):
            if endless and len(timers) == 1:
                timers.append(threading.Timer(INTERRUPT_AFTER_S, interrupt))
                timers[1].start()
            os.write(target, data)

    copying = [
        threading.Thread(target=copy, args=(source.fileno(), target))
        for source, target in ((process.stdout, 1), (process.stderr, 2))
        if source
    ]
    for thread in copying:
        thread.start()
    for thread in copying:
        thread.join()
    code = process.wait()
    for timer in timers:
        timer.cancel()
    return 0 if interrupted.is_set() and code in INTERRUPTED else code


def real(name: str, *words: str, endless: bool = False) -> int:
    """Run the real program of this name, if it is installed."""
    path = shutil.which(name, path=os.environ["PATH"].partition(":")[2])
    return run(path, *words, endless=endless) if path else not_installed(name)


def not_installed(name: str) -> int:
    with Path(os.environ[NOT_INSTALLED]).open("a") as file:
        file.write(f"{name}\n")
    return 0


def shorter(words: list[str]) -> list[str]:
    """Return the words of a command with shorter times, and with a range that has events."""
    words = list(words)
    for place, word in enumerate(words[:-1]):
        if word == "--seconds":
            words[place + 1] = str(min(2, int(words[place + 1])))
        if word == "--from" and re.match(r"\d{4}-", words[place + 1]):
            words[place + 1] = "earliest"
    if "--to" in words:
        del words[(place := words.index("--to")) : place + 2]
    return words


def tickbridge(*words: str) -> int:
    words = tuple(shorter(list(words)))
    # They need a past day, half an hour, or a Kafka with a fence.
    if {"--archive", "bench", "--cluster"} & {*words}:
        words = (*words, "--help")  # checks the other words too
    command, variables = words[0], {}
    endless = command in ENDLESS and ENDLESS[command] not in words
    if command == "run":  # the bridge of the test keeps its own topics and port
        variables = {
            "TICKBRIDGE_HTTP__PORT": "0",
            "TICKBRIDGE_KAFKA__TOPIC": "other.{venue}.{message_type}",
        }
    return run(sys.executable, "-m", "bridge", *words, endless=endless, variables=variables)


def python(*words: str) -> int:
    return run(sys.executable, *shorter(list(words)), endless=True)


def block(file: str) -> int:
    """Run a Python file, which may use `await` outside of functions, as a notebook does."""
    return run(sys.executable, __file__, "execute", file, endless=True)


def execute(file: str) -> int:
    import bridge.client

    source = Path(file).read_text()
    code = compile(source, file, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    names = READERS_OWN | vars(bridge.client) | {"__name__": "__main__", "__file__": file}
    result = eval(code, names)  # noqa: S307 - a code block of our own documents
    if inspect.iscoroutine(result):
        asyncio.run(result)
    return 0


def helm(command: str, *words: str) -> int:
    """Render what `helm install` or `helm upgrade` would install. `helm test` needs a cluster."""
    if command == "test":
        return 0
    assert command in {"install", "upgrade", "template"}, f"no stand-in for helm {command}"
    return real("helm", "template", *words, "--kube-version", "1.34")


def docker(command: str, *words: str) -> int:
    match command, *words:
        case "compose", *rest:
            return compose(rest)
        case "run", *rest:
            place = rest.index("tickbridge")
            given = dict(pair.split("=", 1) for pair in rest[:place] if "=" in pair)
            return run("tickbridge", *rest[place + 1 :], variables=given)
        case (("push" | "kill" | "build"), *_):
            return 0
    raise AssertionError(f"no stand-in for docker {command} {words}")


def compose(words: list[str]) -> int:
    profiles = []
    while words[0] == "--profile":
        profiles += words[:2]
        words = words[2:]
    verb, *words = words
    known = {"up", "down", "build", "exec", "logs", "kill", "start"}
    assert verb in known, f"no stand-in for compose {verb}"
    if code := real("docker", "compose", *profiles, "config", "--quiet"):
        return code
    if verb == "exec":
        service, program, *words = words
        assert (service, program) == ("tickbridge", "tickbridge")
        return run("tickbridge", *words)
    return 0


def kubectl(command: str, *words: str) -> int:
    if command == "exec":
        assert words[0] == "svc/tickbridge"
        inside = words[words.index("--") + 1 :]
        return run(*inside)
    assert command in {"get", "describe", "logs", "rollout", "create", "apply", "taint"}
    if command == "logs":
        sys.stdout.writelines(f"{line}\n" for line in shown_logs())
    return 0


def shown_logs() -> list[str]:
    """Return the lines of logs in the runbooks: what their commands look for is in one of them."""
    text = (ROOT / "docs" / "guides" / "runbooks.md").read_text()
    return re.findall(r"^\{.*\}$", text, re.MULTILINE)


def make(*words: str) -> int:
    return real("make", "--dry-run", *words)


def pip(*words: str) -> int:
    """Check that the extras exist."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert words[0] == "install"
    for word in words[1:]:
        named = re.fullmatch(r"(\.|tickbridge)(?:\[([a-z,]+)\])?", word)
        assert named, f"pip would not install {word}"
        assert set((named[2] or "service").split(",")) <= extras.keys(), word
    return 0


def pkill(*words: str) -> int:
    """Check the words only: it would end other tests."""
    assert words[0] == "--signal"
    return 0


def kcat(*words: str) -> int:
    return real("kcat", *words, endless="-e" not in words)


def redis_cli(*words: str) -> int:
    endless = words[0].upper() in {"SUBSCRIBE", "PSUBSCRIBE"}
    return real("redis-cli", "-u", os.environ["TICKBRIDGE_REDIS__URL"], *words, endless=endless)


def node(*words: str) -> int:
    """Run a program whose packages are in `node_modules` at the top of the repository."""
    for package in re.findall(r'from "([a-z@][\w/-]*)"', Path(words[0]).read_text()):
        if not (ROOT / "node_modules" / package).exists():
            return not_installed(package)
    return real("node", *words, endless=True)


PROGRAMS: Mapping[str, Callable[..., int]] = {
    "block": block,
    "curl": lambda *words: real("curl", "--silent", *words),
    "docker": docker,
    "execute": execute,
    "go": lambda *words: real("go", *words),
    "helm": helm,
    "jq": lambda *words: real("jq", *words),
    "kcat": kcat,
    "kubectl": kubectl,
    "make": make,
    "node": node,
    "pip": pip,
    "pkill": pkill,
    "python": python,
    "redis-cli": redis_cli,
    "tickbridge": tickbridge,
}

if __name__ == "__main__":
    sys.exit(PROGRAMS[sys.argv[1]](*sys.argv[2:]))
