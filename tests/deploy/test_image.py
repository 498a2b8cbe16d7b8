"""The image: its contents, its user, and its shutdown."""

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.containers import running
from tests.support.programs import output

BASE = "python:3.13-slim"
OURS_MAX_BYTES = 90_000_000
# Longer than the bridge takes to shut down, and far below the 10 s after which Docker kills it.
STOP_MAX_S = 5
SYMBOLS = ("--env", "TICKBRIDGE_BINANCE__SYMBOLS=BTCUSDT")
# An exchange that refuses connections at once: there is nothing to receive.
NOWHERE = (
    *("--env", "TICKBRIDGE_BINANCE__WEBSOCKET_URL=ws://127.0.0.1:1"),
    *("--env", "TICKBRIDGE_BINANCE__REST_URL=http://127.0.0.1:1"),
)

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="session")
def config(image: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(
        output("docker", "inspect", "--format", "{{json .Config}}", image)
    )
    return config


def in_image(image: str, script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in the image, and return the result."""
    words = ("run", "--rm", "--network", "none", "--entrypoint", "sh", image, "-c", script)
    return subprocess.run(
        ["docker", *words],  # noqa: S607
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_its_entry_point_is_the_command_line_and_it_runs_the_service(
    config: dict[str, Any],
) -> None:
    assert config["Entrypoint"] == ["tickbridge"]
    assert config["Cmd"] == ["run"]


def test_its_labels_say_what_it_is_and_of_which_revision(config: dict[str, Any]) -> None:
    labels = {
        name.removeprefix("org.opencontainers.image."): value
        for name, value in config["Labels"].items()
    }
    assert labels["title"] == "Tickbridge"
    assert labels["licenses"] == "Apache-2.0"
    assert (labels["version"], labels["revision"]) == ("0.0.0-test", "tested")


def test_the_log_of_its_program_names_the_revision(config: dict[str, Any]) -> None:
    assert "TICKBRIDGE_REVISION=tested" in config["Env"]


def test_its_user_is_a_number_and_not_root(image: str, config: dict[str, Any]) -> None:
    assert config["User"] == "10001:10001"
    assert in_image(image, "id -u; id -g").stdout.split() == ["10001", "10001"]


def test_its_user_may_write_the_data_and_nothing_of_the_program(image: str) -> None:
    assert in_image(image, "touch /var/lib/tickbridge/x").returncode == 0
    assert in_image(image, "touch /opt/tickbridge/x").returncode != 0
    assert in_image(image, "touch /etc/tickbridge/x").returncode != 0


@pytest.mark.parametrize(
    "name", ["pip", "pip3", "apt", "apt-get", "dpkg", "gcc", "cc", "make", "curl"]
)
def test_it_holds_nothing_that_installs_or_compiles(image: str, name: str) -> None:
    assert in_image(image, f"command -v {name}").returncode != 0


def test_it_holds_no_pip_and_no_cache(image: str) -> None:
    assert in_image(image, "python -m pip").returncode != 0
    assert in_image(image, "find / -xdev -path '*/.cache/*' 2>/dev/null").stdout == ""


def test_it_starts_from_bytecode(image: str) -> None:
    script = "find /opt/tickbridge -name cli.cpython-*.pyc | grep bridge"
    assert in_image(image, script).returncode == 0


def test_what_it_adds_to_python_is_under_90_megabytes(image: str) -> None:
    sizes = output("docker", "inspect", "--format", "{{.Size}}", image, BASE).split()
    assert int(sizes[0]) - int(sizes[1]) < OURS_MAX_BYTES


def refusal(*words: str) -> str:
    """Return the standard error of a container that exits because its settings are wrong."""
    done = subprocess.run(
        ["docker", "run", "--rm", *words],  # noqa: S607
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    return done.stderr


def test_without_settings_it_says_which_are_missing(image: str) -> None:
    assert "set symbols, for example [BTCUSDT, ETHUSDT]" in refusal("--read-only", image)


def test_a_data_dir_on_a_volume_that_is_read_only_ends_the_start_and_is_named(
    image: str, tmp_path: Path
) -> None:
    tmp_path.chmod(0o777)
    words = ("--volume", f"{tmp_path}:/data:ro", "--env", "TICKBRIDGE_DATA_DIR=/data", *SYMBOLS)
    said = refusal(*words, image)
    assert "data_dir = /data (from TICKBRIDGE_DATA_DIR): cannot be written to" in said


def test_it_runs_on_a_read_only_file_system_and_ends_well_and_soon(image: str) -> None:
    with running("--read-only", "--cap-drop", "ALL", *SYMBOLS, *NOWHERE, image) as container:
        container.logged("http_listening")
        code, seconds = container.stop()
    assert code == 0
    assert seconds < STOP_MAX_S


def test_a_command_that_waits_ends_soon_as_the_first_process_of_a_container(image: str) -> None:
    """Without a handler the kernel ignores SIGTERM for process 1, and Docker kills it later."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        broker = f"127.0.0.1:{server.getsockname()[1]}"
        words = ("--network", "host", image, "tail", "trade", "--kafka", broker)
        with running(*words) as container:
            connection, _ = server.accept()
            with connection:
                code, seconds = container.stop()
    assert code == 143
    assert seconds < STOP_MAX_S


def test_a_command_ends_soon_whose_imports_are_not_through(image: str, tmp_path: Path) -> None:
    """The first import sends the signal, because a test could not send it early enough."""
    (tmp_path / "typer.py").write_text("import os, signal\nos.kill(1, signal.SIGTERM)\n")
    tmp_path.chmod(0o755)
    words = ("--volume", f"{tmp_path}:/first:ro", "--env", "PYTHONPATH=/first", image)
    done = subprocess.run(
        ["docker", "run", "--rm", *words],  # noqa: S607
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (143, "")


def test_its_health_check_is_well_while_it_serves_and_only_then(
    image: str, config: dict[str, Any]
) -> None:
    kind, *check = config["Healthcheck"]["Test"]
    assert kind == "CMD"
    with running(*SYMBOLS, *NOWHERE, image) as container:
        container.logged("http_listening")
        assert container.runs(*check) == 0
    with running("--env", "TICKBRIDGE_HTTP__PORT=9", *SYMBOLS, image, "simulate") as container:
        assert container.runs(*check) != 0
