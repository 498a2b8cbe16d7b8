import io
import json
import logging
import re
from collections.abc import Iterator
from contextlib import redirect_stderr
from typing import Any

import pytest
import structlog

from bridge.monitoring.logs import configure
from bridge.settings import load_settings


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(params=[io.StringIO, Terminal], ids=["file", "terminal"])
def stderr(request: pytest.FixtureRequest) -> io.StringIO:
    stream: io.StringIO = request.param()
    return stream


def log_to(stderr: io.StringIO, **options: Any) -> None:
    overrides = {"binance": {"symbols": ["BTCUSDT"]}, "log": options}
    with redirect_stderr(stderr):
        configure(load_settings(environment={}, overrides=overrides).log)


def lines(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def test_a_line_is_json_unless_a_person_reads_it(stderr: io.StringIO) -> None:
    log_to(stderr)
    structlog.get_logger().info("connection_open", connector="connector-1", symbol="牛来USDT")
    (line,) = lines(stderr)
    if stderr.isatty():
        assert "connection_open" in re.sub(r"\x1b\[\d*m", "", line)
        return
    entry = json.loads(line)
    assert list(entry)[:3] == ["timestamp", "level", "event"]
    assert (entry["event"], entry["level"], entry["connector"]) == (
        "connection_open",
        "info",
        "connector-1",
    )
    assert entry["symbol"] == "牛来USDT"
    assert entry["timestamp"].endswith("Z")


@pytest.mark.parametrize("form", ["json", "console"])
def test_the_form_can_be_chosen(form: str, stderr: io.StringIO) -> None:
    log_to(stderr, format=form)
    structlog.get_logger().info("connection_open")
    assert lines(stderr)[0].startswith("{") is (form == "json")


def test_an_error_in_json_stays_on_its_line_with_its_traceback(stderr: io.StringIO) -> None:
    log_to(stderr, format="json")
    try:
        int("what went wrong")
    except ValueError:
        structlog.get_logger().exception("failed")
    (line,) = lines(stderr)
    assert "what went wrong" in json.loads(line)["exception"]


def test_less_than_the_level_is_not_written(stderr: io.StringIO) -> None:
    log_to(stderr, level="warning", format="json")
    structlog.get_logger().info("connection_open")
    structlog.get_logger().warning("connection_down")
    (line,) = lines(stderr)
    assert json.loads(line)["event"] == "connection_down"


@pytest.mark.parametrize("name", ["aiokafka.client", "websockets.client", "asyncio", "aiohttp.web"])
def test_libraries_that_repeat_what_we_report_are_quiet(name: str, stderr: io.StringIO) -> None:
    log_to(stderr, level="debug")
    logging.getLogger(name).error("Unable connect to node")
    assert lines(stderr) == []


def test_other_libraries_warn_in_our_form(stderr: io.StringIO) -> None:
    log_to(stderr, format="json")
    logging.getLogger("somebody").info("chatter")
    logging.getLogger("somebody").warning("something %s", "odd")
    (line,) = lines(stderr)
    entry = json.loads(line)
    assert (entry["event"], entry["level"]) == ("something odd", "warning")
