"""Settings: the sources, their order, and errors that list all problems and no secret."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bridge.errors import Problem, SettingsError
from bridge.settings import Settings, load_settings, masked, settings_schema

SMALLEST = """\
binance:
  symbols: [BTCUSDT, ETHUSDT, BNBUSDT]
  streams: [trade, bookTicker, ticker]       # Binance's own stream names, for each symbol
kafka: {bootstrap_servers: "localhost:9092"}
redis: {url: "redis://localhost:6379/0"}
http: {host: 127.0.0.1, port: 8080}
"""
SYMBOLS = {"TICKBRIDGE_BINANCE__SYMBOLS": "BTCUSDT"}

Write = Callable[[str], Path]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "settings.yaml"
        path.write_text(text)
        return path

    return write


def load(data: Mapping[str, Any] | None = None, **variables: str) -> Settings:
    """Load settings with one symbol, these overrides and these variables."""
    return load_settings(environment={**SYMBOLS, **variables}, overrides=data)


def problems(data: Mapping[str, Any] | None = None, **variables: str) -> dict[str, Problem]:
    with pytest.raises(SettingsError) as caught:
        load(data, **variables)
    return {problem.key: problem for problem in caught.value.problems}


def text_of_error(path: Path | None = None, environment: Mapping[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(path, environment=environment or {})
    return str(caught.value)


# --- sources --------------------------------------------------------------------------------


def test_the_smallest_file_of_the_contract_loads(write: Write) -> None:
    settings = load_settings(write(SMALLEST), environment={})

    assert settings.binance.symbols == ["BTCUSDT", "ETHUSDT", "BNBUSDT"]
    assert settings.binance.streams == ["trade", "bookTicker", "ticker"]
    assert settings.binance.websocket_url == "wss://stream.binance.com:9443"
    assert settings.kafka.bootstrap_servers == ["localhost:9092"]
    assert settings.redis.url.get_secret_value() == "redis://localhost:6379/0"
    assert (settings.http.host, settings.http.port) == ("127.0.0.1", 8080)


def test_the_file_the_caller_names_goes_before_the_one_in_the_environment(write: Write) -> None:
    environment = {"TICKBRIDGE_CONFIG": "absent.yaml"}
    assert load_settings(write(SMALLEST), environment=environment).binance.symbols[0] == "BTCUSDT"


def test_the_environment_can_name_the_file(write: Write) -> None:
    environment = {"TICKBRIDGE_CONFIG": str(write(SMALLEST))}
    assert len(load_settings(environment=environment).binance.symbols) == 3


def test_tickbridge_yaml_in_the_working_folder_is_used_unnamed(folder: Path) -> None:
    (folder / "tickbridge.yaml").write_text("binance: {symbols: [SOLUSDT]}")
    assert load_settings(environment={}).binance.symbols == ["SOLUSDT"]


def test_the_environment_alone_is_enough() -> None:
    assert load().binance.symbols == ["BTCUSDT"]


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKBRIDGE_BINANCE__SYMBOLS", "ADAUSDT")
    assert load_settings().binance.symbols == ["ADAUSDT"]


def test_a_given_environment_hides_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKBRIDGE_HTTP__PORT", "1")
    assert load().http.port == 8080


def test_sources_have_an_order_and_the_later_ones_fill_in(folder: Path, write: Write) -> None:
    """Check the order: overrides, environment, files of variables, secrets directory, YAML."""
    secrets = folder / "secrets"
    secrets.mkdir()
    keys = ("publish_max_records", "flush_max_records", "timeout_s", "username", "url")
    for key in keys[:4]:
        (secrets / f"redis__{key}").write_text("4\n")
    (folder / "three").write_text("3\n")
    config = write(yaml.safe_dump({"redis": {**dict.fromkeys(keys, 5), "url": "redis://five"}}))
    environment = {
        **SYMBOLS,
        "TICKBRIDGE_SECRETS_DIR": str(secrets),
        **{f"TICKBRIDGE_REDIS__{key.upper()}_FILE": str(folder / "three") for key in keys[:3]},
        **{f"TICKBRIDGE_REDIS__{key.upper()}": "2" for key in keys[:2]},
    }
    overrides = {"redis": {"publish_max_records": 1}}

    redis = load_settings(config, environment=environment, overrides=overrides).redis

    assert (redis.publish_max_records, redis.flush_max_records, redis.timeout_s) == (1, 2, 3.0)
    assert (redis.username, redis.url.get_secret_value()) == ("4", "redis://five")


def test_a_secret_can_come_from_the_file_its_variable_names(folder: Path) -> None:
    (folder / "password").write_text("s3cret\n")
    settings = load(TICKBRIDGE_REDIS__PASSWORD_FILE=str(folder / "password"))
    assert settings.redis.password is not None
    assert settings.redis.password.get_secret_value() == "s3cret"


def test_other_files_in_the_secrets_directory_are_left_alone(folder: Path) -> None:
    (folder / "redis__password").write_text("s3cret")
    (folder / "tls.key").write_text("-----BEGIN PRIVATE KEY-----")
    settings = load(TICKBRIDGE_SECRETS_DIR=str(folder))
    assert settings.redis.password is not None


def test_an_unknown_section_key_in_the_secrets_directory_is_an_error(folder: Path) -> None:
    (folder / "redis__pasword").write_text("s3cret")
    found = problems(TICKBRIDGE_SECRETS_DIR=str(folder))
    assert "redis.password" in found["redis.pasword"].remedy


@pytest.mark.parametrize("kind", ["absent", "a file", "no text"])
def test_a_secrets_directory_that_cannot_be_read_is_an_error(folder: Path, kind: str) -> None:
    path = folder / "secrets"
    if kind == "a file":
        path.write_text("")
    elif kind == "no text":
        path.mkdir()
        (path / "redis__password").write_bytes(b"\xff\xfe")
    assert str(path) in str(problems(TICKBRIDGE_SECRETS_DIR=str(path))["TICKBRIDGE_SECRETS_DIR"])


def test_a_file_variable_that_cannot_be_read_is_an_error_with_the_path(folder: Path) -> None:
    found = problems(TICKBRIDGE_KAFKA__PASSWORD_FILE=str(folder / "absent"))
    assert str(folder / "absent") in str(found["TICKBRIDGE_KAFKA__PASSWORD_FILE"])


def test_a_secret_with_nothing_in_it_is_an_error(folder: Path) -> None:
    (folder / "redis__password").write_text("\n")
    found = problems(TICKBRIDGE_SECRETS_DIR=str(folder))["redis.password"]
    assert (found.what, "Secret" in found.remedy) == ("is empty", True)
    path = str(folder / "redis__password")
    found = problems(TICKBRIDGE_REDIS__PASSWORD_FILE=path)["redis.password"]
    assert found.what == "is empty"


def test_a_password_put_where_its_file_should_be_named_is_not_shown() -> None:
    found = problems(TICKBRIDGE_KAFKA__PASSWORD_FILE="hunter2")
    assert "hunter2" not in str(found["TICKBRIDGE_KAFKA__PASSWORD_FILE"])


def test_a_pipe_is_no_file_for_settings_secrets_or_certificates(folder: Path) -> None:
    """Opening a pipe waits for a writer, and reading one may never end."""
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    found = {
        **problems(TICKBRIDGE_REDIS__USERNAME_FILE=str(pipe)),
        **problems({"redis": {"url": "rediss://host", "ca_file": str(pipe)}}),
    }
    for name in ("TICKBRIDGE_REDIS__USERNAME_FILE", "redis.ca_file"):
        assert found[name].what == "cannot be read (not a regular file)"
    assert load_settings(Path("/dev/null"), environment=SYMBOLS).binance.symbols == ["BTCUSDT"]
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(SettingsError, match=f"{path}: cannot be read .not a regular file"):
            load_settings(path, environment={})
    (folder / "large.yaml").write_text("#" * (2**20 + 1))
    with pytest.raises(SettingsError, match="more than 1048576 bytes"):
        load_settings(folder / "large.yaml", environment={})


def test_a_pipe_in_a_directory_of_secrets_is_passed_over(folder: Path) -> None:
    os.mkfifo(folder / "redis__username")
    assert load(TICKBRIDGE_SECRETS_DIR=str(folder)).redis.username is None


def test_a_file_too_large_for_a_secret_is_an_error(folder: Path) -> None:
    (folder / "large").write_text("x" * 70_000)
    found = problems(TICKBRIDGE_REDIS__USERNAME_FILE=str(folder / "large"))
    assert "65536" in found["TICKBRIDGE_REDIS__USERNAME_FILE"].what


@pytest.mark.parametrize(
    "text", ["btcusdt,ethusdt", " BTCUSDT , ETHUSDT, ", '["BTCUSDT","ethusdt"]']
)
def test_a_list_in_a_variable_is_json_or_has_commas(text: str) -> None:
    assert load(TICKBRIDGE_BINANCE__SYMBOLS=text).binance.symbols == ["BTCUSDT", "ETHUSDT"]


def test_an_empty_variable_counts_as_not_set() -> None:
    assert load(TICKBRIDGE_HTTP__PORT="").http.port == 8080


def test_the_variables_kubernetes_sets_for_services_are_no_errors() -> None:
    kubernetes = {
        "TICKBRIDGE_PORT": "tcp://10.96.0.12:8080",
        "TICKBRIDGE_SERVICE_HOST": "10.96.0.12",
        "TICKBRIDGE_SERVICE_PORT": "8080",
        "TICKBRIDGE_SERVICE_PORT_HTTP": "8080",
        "TICKBRIDGE_PORT_8080_TCP": "tcp://10.96.0.12:8080",
        "TICKBRIDGE_PORT_8080_TCP_PROTO": "tcp",
        "TICKBRIDGE_PORT_8080_TCP_PORT": "8080",
        "TICKBRIDGE_PORT_8080_TCP_ADDR": "10.96.0.12",
        "TICKBRIDGE_REDIS_MASTER_SERVICE_HOST": "10.96.0.13",
        "TICKBRIDGE_REDIS_PORT": "tcp://10.96.0.13:6379",
    }
    assert load(None, **kubernetes).http.port == 8080


def test_our_own_variables_that_are_no_settings_are_no_errors(folder: Path) -> None:
    assert load(TICKBRIDGE_CAPTURES=str(folder)).binance.symbols == ["BTCUSDT"]


# --- the YAML file --------------------------------------------------------------------------


def test_an_absent_file_is_an_error_that_names_it(folder: Path) -> None:
    text = text_of_error(folder / "absent.yaml")
    assert str(folder / "absent.yaml") in text
    assert "No such file" in text


def test_an_empty_file_and_empty_sections_are_no_errors(write: Write) -> None:
    assert load_settings(write("# nothing yet\n"), environment=SYMBOLS).http.port == 8080
    assert load_settings(write("kafka:\nlog:\n"), environment=SYMBOLS).log.level == "info"


def test_a_file_that_is_a_list_is_an_error_that_says_how_to_start(write: Write) -> None:
    assert "binance:" in text_of_error(write("- BTCUSDT\n"))


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("kafka:\n  topic: a: b\n", "line 2, column 11", "mapping values"),
        ("binance:\n  symbols: [*USDT]\n", "line 2, column 13", "undefined alias"),
        ("binance:\n  extra_streams:\n  - !miniTicker@arr\n", "line 3, column 5", "constructor"),
        ("binance: {symbols: [BTCUSDT}\n", "line 1, column 28", "expected ',' or ']'"),
        ("kafka: {}\nkafka: {}\n", "line 2, column 1", "the key kafka appears twice"),
        ("redis:\n  password: 2024-13-45\n", "line 2, column 13", "date or number"),
        ("8080: 1\n", "line 1, column 1", "must be text"),
        ("binance: {symbols: {{ .Values.symbols }}}\n", "line 1, column 21", "must be text"),
    ],
)
def test_broken_yaml_is_an_error_with_line_and_column(
    write: Write, text: str, place: str, words: str
) -> None:
    message = text_of_error(write(text))
    assert f"settings.yaml, {place}" in message
    assert words in message


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a: \x07", b"[" * 1500])
def test_what_is_no_yaml_text_at_all_is_an_error_too(folder: Path, content: bytes) -> None:
    (folder / "tickbridge.yaml").write_bytes(content)
    assert "tickbridge.yaml" in text_of_error()


def test_a_key_may_override_one_it_merges(write: Write) -> None:
    text = (
        "binance: &b {symbols: [BTCUSDT]}\nlog: &l {level: debug}\nhttp: {<<: {port: 1}, port: 2}\n"
    )
    assert load_settings(write(text), environment={}).http.port == 2


# --- errors ---------------------------------------------------------------------------------


def test_all_errors_come_at_once_one_on_a_line(write: Write) -> None:
    path = write(
        "binance: {symbols: [BTC/USDT], streams: [trades], websocket_url: 'http://x'}\n"
        "kafka: {security_protocol: SASL_SSL, partitions: 0, topc: x}\n"
        "redis: 7\n"
        "htp: {}\n"
    )
    environment = {"TICKBRIDGE_HTTP__PORT": "70000", "TICKBRIDGE_KAFKA_TOPIC": "x"}

    lines = text_of_error(path, environment).splitlines()

    expected = {
        "TICKBRIDGE_KAFKA_TOPIC",
        *("binance.symbols", "binance.streams", "binance.websocket_url"),
        *("kafka.sasl_mechanism", "kafka.username", "kafka.password"),
        *("kafka.partitions", "kafka.topc", "redis", "htp", "http.port"),
    }
    assert {line.split(" = ")[0].split(": ")[0] for line in lines} == expected
    assert len(lines) == len(expected)


def test_a_problem_names_the_key_the_value_and_the_remedy() -> None:
    problem = problems({"kafka": {"partitions": 0}})["kafka.partitions"]
    assert str(problem) == (
        "kafka.partitions = 0: should be greater than or equal to 1; "
        "meaning: Number of partitions of a new topic. All events of a symbol go to one partition. "
        "Default: 6"
    )


def test_a_wrong_value_from_a_variable_says_which() -> None:
    problem = problems(TICKBRIDGE_HTTP__PORT="http")["http.port"]
    assert problem.value == "http (from TICKBRIDGE_HTTP__PORT)"


def test_settings_errors_end_a_process_with_2() -> None:
    assert SettingsError.exit_code == 2


@pytest.mark.parametrize(
    ("data", "key", "near"),
    [
        ({"kafka": {"bootstrap_server": "x:1"}}, "kafka.bootstrap_server", "bootstrap_servers"),
        ({"kafka": {"bootstrapServers": "x:1"}}, "kafka.bootstrapServers", "bootstrap_servers"),
        ({"topic": "x"}, "topic", "kafka.topic"),
        ({"kafak": {}}, "kafak", "kafka"),
        ({"binance": {"port": 1}}, "binance.port", "http.port"),
        ({"shutdown_timeout": 1}, "shutdown_timeout", "shutdown_timeout_s"),
    ],
)
def test_an_unknown_key_is_an_error_with_the_nearest(
    data: dict[str, Any], key: str, near: str
) -> None:
    assert problems(data)[key].remedy.endswith(near)


@pytest.mark.parametrize(
    ("data", "key", "meant"),
    [
        ({"binance": {"legs": 2}}, "binance.legs", "redundancy"),
        ({"kafka": {"brokers": "x:1"}}, "kafka.brokers", "bootstrap_servers"),
    ],
)
def test_an_unknown_key_that_resembles_none_of_its_section_is_an_error_with_all_of_them(
    data: dict[str, Any], key: str, meant: str
) -> None:
    remedy = problems(data)[key].remedy
    assert remedy.startswith(f"the keys of {key.partition('.')[0]} are ")
    assert meant in remedy


@pytest.mark.parametrize(
    ("variable", "near"),
    [
        ("TICKBRIDGE_KAFKA_TOPIC", "TICKBRIDGE_KAFKA__TOPIC"),
        ("TICKBRIDGE_TOPIC", "TICKBRIDGE_KAFKA__TOPIC"),
        ("TICKBRIDGE_CONFG", "TICKBRIDGE_CONFIG"),
        ("TICKBRIDGE_KAFKA__PASWORD_FILE", "TICKBRIDGE_KAFKA__PASSWORD"),
        ("TICKBRIDGE_HTTP_PORT", "TICKBRIDGE_HTTP__PORT"),
    ],
)
def test_an_unknown_variable_is_an_error_with_the_nearest(variable: str, near: str) -> None:
    assert problems(None, **{variable: "8080"})[variable].remedy.endswith(near)


def test_something_unknown_that_resembles_nothing_gets_no_neighbour() -> None:
    assert problems({"xyzzy": 1})["xyzzy"].remedy.startswith("the keys here are binance, kafka, ")
    remedy = problems(None, TICKBRIDGE_XYZZY="1")["TICKBRIDGE_XYZZY"].remedy
    assert remedy == "docs/reference/settings.md lists all settings"


def test_the_value_of_something_unknown_is_not_shown() -> None:
    text = text_of_error(environment={"TICKBRIDGE_PASSWORD": "hunter2"})
    assert "hunter2" not in text
    assert "hunter2" not in str(problems({"redis": {"pasword": "hunter2"}})["redis.pasword"])


# Letters, numbers, punctuation and symbols. They go into the template as JSON, which is YAML too.
PASSWORDS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=6)
EVERYWHERE = """\
binance: {symbols: [BTCUSDT], websocket_url: %(host)s, proxy: %(url)s}
kafka:
  security_protocol: SASL_SSL
  password: %(plain)s
  key_password: %(plain)s
  bootstrap_servers: %(server)s
  pasword: %(plain)s
  partitions: {x: %(plain)s}
redis: {url: %(url)s, password: [%(plain)s]}
log: %(pem)s
http: {port: 0x}
"""


@pytest.mark.parametrize("slip", ["password hunter2", "password:hunter2", "password=hunter2"])
def test_a_password_without_its_colon_is_not_shown_as_a_key(write: Write, slip: str) -> None:
    text = text_of_error(write(f"kafka: {{{slip}}}\n"), SYMBOLS)
    assert "kafka.password…" in text
    assert "hunter2" not in text


@pytest.mark.parametrize(
    "content",
    [
        "".join(f"k{number}: 1\n" for number in range(10_000)),
        f"binance: {{symbols: [{','.join(f'a {number}' for number in range(10_000))}]}}",
        f"{'k' * 100_000}: 1\n",
    ],
    ids=["keys", "values", "long"],
)
def test_a_file_of_nothing_but_problems_has_a_short_error(write: Write, content: str) -> None:
    text = text_of_error(write(content), {})
    assert len(text) < 20_000


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (f"http: {{port: 1{':1' * 100_000}}}", "too long for a number"),
        (f"http: {{port: {'9' * 100_000}}}", "too long for a number"),
        ("binance: " + "[" * 100_000, "deeper than 20 levels"),
        ("a: &a 1\nb: [" + "*a," * 1000 + "]", "more than 100 aliases"),
    ],
    ids=["sixty", "digits", "depth", "aliases"],
)
def test_what_costs_more_than_its_length_is_refused(write: Write, content: str, words: str) -> None:
    assert words in text_of_error(write(content), {})


@given(PASSWORDS.map(lambda password: f"{password}§§"))
def test_no_password_is_ever_in_the_text_of_an_error(
    tmp_path_factory: pytest.TempPathFactory, password: str
) -> None:
    forms = {
        "plain": password,
        "url": f"redis://user:{password}@host:port/x",
        "host": f"wss://user:{password}@host/path",
        "server": f"user:{password.replace(',', '')}@host:9092",
        "pem": f"-----BEGIN-----\n{password}\n",
    }
    path = tmp_path_factory.getbasetemp() / "everywhere.yaml"
    path.write_text(EVERYWHERE % {name: json.dumps(form) for name, form in forms.items()})
    environment = {
        "TICKBRIDGE_REDIS__PASSWORD": password,
        "TICKBRIDGE_REDIS__KEY_FILE": forms["pem"],
        "TICKBRIDGE_KAFKA__PASSWORD_FILE": f"x{password}".replace("\0", ""),
        "TICKBRIDGE_PASSWORD": password,
    }

    text = text_of_error(path, environment)

    assert text.count("\n") > 10
    assert password not in text
    assert password.replace(",", "") not in text


@pytest.mark.parametrize("lead", ["", "*", "&", "!", "%", "@", "`", "|", "'", '"', "[", "{", "- "])
def test_no_unquoted_password_is_in_the_text_of_an_error(write: Write, lead: str) -> None:
    text = text_of_error(write(f"redis:\n  password: {lead}hunter2'x\nhttp: {{port: x}}\n"))
    assert "hunter2" not in text


def test_no_password_hangs_on_an_error_as_its_context() -> None:
    with pytest.raises(SettingsError) as caught:
        load({"redis": {"url": "hunter2"}})
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


# --- single keys ----------------------------------------------------------------------------


def test_symbols_are_upper_cased_in_their_ascii_part_and_merged() -> None:
    symbols = load({"binance": {"symbols": ["btcusdt", "BTCUSDT", "币安人生usdt", "*usdt"]}})
    assert symbols.binance.symbols == ["BTCUSDT", "币安人生USDT", "*USDT"]


@pytest.mark.parametrize("symbol", ["BTC/USDT", "BTC-USDT", "", "BTC USDT", "btcusdt@trade"])
def test_what_is_no_symbol_is_an_error(symbol: str) -> None:
    assert "BTCUSDT" in problems({"binance": {"symbols": [symbol]}})["binance.symbols"].remedy


def test_no_symbols_and_no_extra_streams_is_an_error() -> None:
    assert "binance.symbols = []" in text_of_error()
    assert "binance.symbols = []" in text_of_error(environment={"TICKBRIDGE_LOG__LEVEL": "info"})


def test_extra_streams_are_enough() -> None:
    settings = load({"binance": {"symbols": [], "extra_streams": ["!miniTicker@arr"]}})
    assert settings.binance.extra_streams == ["!miniTicker@arr"]


def test_symbols_without_streams_is_an_error() -> None:
    assert "binance.streams" in problems({"binance": {"streams": []}})


def test_a_wrong_stream_name_is_an_error_with_the_nearest() -> None:
    found = problems({"binance": {"streams": ["trade", "bookticker"], "extra_streams": ["x@trad"]}})
    assert "bookTicker" in found["binance.streams"].what
    assert "trade" in found["binance.extra_streams"].what


@pytest.mark.parametrize(
    ("websocket_url", "rest_url", "words"),
    [
        ("wss://stream.testnet.binance.vision", None, "is a host of Binance, but"),
        ("wss://demo-stream.binance.com", None, "websocket_url is a host of the demo market"),
        ("wss://stream.binance.us:9443", "https://data-api.binance.vision", "a host of Binance.US"),
        (None, "https://testnet.binance.vision", "is a host of the test network"),
    ],
)
def test_streams_of_one_exchange_and_trades_of_another_are_refused(
    websocket_url: str | None, rest_url: str | None, words: str
) -> None:
    given = {"websocket_url": websocket_url, "rest_url": rest_url}
    found = problems({"binance": {key: url for key, url in given.items() if url}})
    assert words in found["binance.rest_url"].what


@pytest.mark.parametrize(
    ("websocket_url", "rest_url"),
    [
        ("wss://data-stream.binance.vision", "https://api4.binance.com"),
        ("wss://stream.testnet.binance.vision", "https://testnet.binance.vision"),
        ("wss://stream.binance.us:9443", "https://api.binance.us"),
        ("wss://gateway.example.com", "https://api.binance.com"),
    ],
)
def test_hosts_of_one_exchange_and_hosts_of_nobody_we_know_go_together(
    websocket_url: str, rest_url: str
) -> None:
    loaded = load({"binance": {"websocket_url": websocket_url, "rest_url": rest_url}})
    assert loaded.binance.rest_url == rest_url


def test_streams_listed_twice_are_merged() -> None:
    streams = ["trade", "kline_1m@+08:00", "trade"]
    assert load({"binance": {"streams": streams}}).binance.streams == ["trade", "kline_1m@+08:00"]


@pytest.mark.parametrize(
    "url",
    [
        "https://x",
        "wss://",
        "wss://x/ws",
        "wss://x?a=1",
        "wss://u:p@x",
        "x:9443",
        "wss://[",
        "wss://x:y",
    ],
)
def test_a_websocket_url_is_a_host_and_a_port(url: str) -> None:
    assert (
        "wss://host"
        in problems({"binance": {"websocket_url": url}})["binance.websocket_url"].remedy
    )


def test_a_trailing_slash_of_a_url_is_taken_off() -> None:
    binance = load({"binance": {"rest_url": "https://api1.binance.com/"}}).binance
    assert binance.rest_url == "https://api1.binance.com"


@pytest.mark.parametrize("proxy", ["environment", "none", "http://u:p@proxy:3128"])
def test_a_proxy_is_the_environments_or_none_or_a_url(proxy: str) -> None:
    assert load({"binance": {"proxy": proxy}}).binance.proxy.get_secret_value() == proxy


@pytest.mark.parametrize(
    "proxy",
    ["socks5://proxy:1080", "proxy:3128", "http://", "http://proxy:3128/path", "http://u@proxy:1"],
)
def test_what_neither_client_can_use_as_a_proxy_is_an_error(proxy: str) -> None:
    assert "binance.proxy" in problems({"binance": {"proxy": proxy}})


@pytest.mark.parametrize("servers", ["kafka", "kafka:0", "kafka:70000", "a:1,b", "http://a:1", []])
def test_a_bootstrap_server_is_host_and_port(servers: object) -> None:
    assert "kafka.bootstrap_servers" in problems({"kafka": {"bootstrap_servers": servers}})


def test_several_bootstrap_servers_may_stand_in_one_text() -> None:
    kafka = load({"kafka": {"bootstrap_servers": "a:1, [::1]:2"}}).kafka
    assert kafka.bootstrap_servers == ["a:1", "[::1]:2"]


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "ticks",
        "{venue}",
        "{message_type}.{symbol}",
        "{message_type",
        "{}",
        "{message_type.x}",
        "ticks/{message_type}",
        "{message_type!r}",
        "{message_type:>300}",
        "é{message_type}",
    ],
)
def test_a_topic_template_that_gives_no_topic_of_kafka_is_an_error(topic: str) -> None:
    assert "{venue}.{message_type}" in problems({"kafka": {"topic": topic}})["kafka.topic"].remedy


def test_a_topic_template_may_leave_the_venue_out() -> None:
    assert load({"kafka": {"topic": "ticks-{message_type}"}}).kafka.topic == "ticks-{message_type}"


def test_sizes_may_have_units() -> None:
    assert load(TICKBRIDGE_KAFKA__OUTBOX_MAX_BYTES="1.5GiB").kafka.outbox_max_bytes == 3 * 2**29
    assert load({"kafka": {"batch_max_bytes": 65536}}).kafka.batch_max_bytes == 65536


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("kafka", "batch_max_bytes", "1MiB"),
        ("kafka", "batch_max_bytes", "1KiB"),
        ("kafka", "batch_max_bytes", "much"),
        ("kafka", "replication_factor", 0),
        ("kafka", "replication_factor", -2),
        ("kafka", "retention_ms", 0),
        ("kafka", "compression", "brotli"),
        ("kafka", "security_protocol", "SASL"),
        ("kafka", "client_id", "two words"),
        ("kafka", "create_topics", "perhaps"),
        ("kafka", "delivery_timeout_s", 5),
        ("binance", "connect_timeout_s", 0),
        ("binance", "ping_interval_s", float("inf")),
        ("binance", "ping_timeout_s", float("nan")),
        ("binance", "streams_per_connection", 1025),
        ("binance", "compression", "gzip"),
        ("binance", "time_unit", "nanosecond"),
        ("redis", "timeout_s", 0),
        ("redis", "flush_max_records", 0),
        ("redis", "publish_max_records", -1),
        ("http", "port", 65536),
        ("http", "host", ""),
        ("log", "level", "loud"),
        ("log", "format", "xml"),
    ],
)
def test_every_value_has_bounds(section: str, key: str, value: object) -> None:
    assert f"{section}.{key}" in problems({section: {key: value}})


def test_the_time_to_stop_has_bounds_too() -> None:
    assert "shutdown_timeout_s" in problems({"shutdown_timeout_s": -1})


def test_a_text_that_yaml_takes_for_a_number_wants_quotes(write: Write) -> None:
    assert "put the value in quotes" in text_of_error(write("redis: {password: 12345}"))


def test_a_level_may_be_written_in_any_case() -> None:
    assert load(TICKBRIDGE_LOG__LEVEL="INFO").log.level == "info"


@pytest.mark.parametrize(
    "url",
    [
        "http://x",
        "localhost:6379",
        "redis://",
        "redis://x/name",
        "redis://x:port",
        "REDIS://x",
        "redis://x?password=y",
        "redis://:a#b@x",
        "unix://",
        "unix:///s?password=x",
    ],
)
def test_a_redis_url_that_redis_would_not_understand_is_an_error(url: str) -> None:
    assert problems({"redis": {"url": url}})["redis.url"].value == "***"


@pytest.mark.parametrize("url", ["redis://u:p@x:1/2", "rediss://x", "unix:///run/redis.sock?db=1"])
def test_a_redis_url_may_have_any_of_three_schemes(url: str) -> None:
    assert load({"redis": {"url": url}}).redis.url.get_secret_value() == url


# --- contradictions -------------------------------------------------------------------------

SASL = {
    "security_protocol": "SASL_SSL",
    "sasl_mechanism": "SCRAM-SHA-512",
    "username": "bridge",
    "password": "s3cret",
}


@pytest.mark.parametrize("protocol", ["SASL_SSL", "SASL_PLAINTEXT"])
def test_kafka_with_sasl_loads(protocol: str) -> None:
    kafka = load({"kafka": SASL | {"security_protocol": protocol}}).kafka
    assert kafka.sasl_mechanism == "SCRAM-SHA-512"


OAUTH = SASL | {"sasl_mechanism": "OAUTHBEARER", "oauth_token_url": "https://login/token"}


def test_oauth_needs_the_url_of_its_tokens() -> None:
    assert load({"kafka": OAUTH | {"oauth_scope": "kafka"}}).kafka.oauth_scope == "kafka"
    found = problems({"kafka": SASL | {"sasl_mechanism": "OAUTHBEARER"}})
    assert list(found) == ["kafka.oauth_token_url"]


@pytest.mark.parametrize("key", ["oauth_token_url", "oauth_scope"])
def test_keys_of_oauth_without_oauth_are_errors(key: str) -> None:
    assert list(problems({"kafka": SASL | {key: "https://login/token"}})) == [f"kafka.{key}"]


@pytest.mark.parametrize(
    "url", ["login/token", "ftp://login", "https://me:x@login/token", "https://"]
)
def test_a_url_that_gives_no_tokens_is_an_error(url: str) -> None:
    assert list(problems({"kafka": OAUTH | {"oauth_token_url": url}})) == ["kafka.oauth_token_url"]


@pytest.mark.parametrize("key", ["sasl_mechanism", "username", "password"])
def test_sasl_needs_all_of_its_keys(key: str) -> None:
    data = {name: value for name, value in SASL.items() if name != key}
    assert list(problems({"kafka": data})) == [f"kafka.{key}"]


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL"])
def test_keys_of_sasl_without_sasl_are_errors(protocol: str) -> None:
    found = problems({"kafka": SASL | {"security_protocol": protocol}})
    assert list(found) == ["kafka.sasl_mechanism", "kafka.username", "kafka.password"]


TLS = [("kafka", {"security_protocol": "SSL"}), ("redis", {"url": "rediss://x"})]


@pytest.mark.parametrize(("section", "tls"), TLS)
def test_a_certificate_and_its_key_come_together(
    section: str, tls: dict[str, str], folder: Path
) -> None:
    pem = folder / "pem"
    pem.touch()
    load({section: tls | {"cert_file": pem, "key_file": pem, "ca_file": pem}})
    for key in ("cert_file", "key_file"):
        assert list(problems({section: tls | {key: pem}})) == [f"{section}.key_file"]


@pytest.mark.parametrize("section", ["kafka", "redis"])
@pytest.mark.parametrize("key", ["ca_file", "cert_file", "key_file"])
def test_files_of_tls_without_tls_are_errors(section: str, key: str, folder: Path) -> None:
    (folder / "pem").touch()
    assert f"{section}.{key}" in problems({section: {key: "pem"}})


def test_files_of_tls_with_sasl_alone_are_errors(folder: Path) -> None:
    (folder / "pem").touch()
    kafka = SASL | {"security_protocol": "SASL_PLAINTEXT", "ca_file": "pem"}
    assert list(problems({"kafka": kafka})) == ["kafka.ca_file"]


@pytest.mark.parametrize(("section", "tls"), TLS)
@pytest.mark.parametrize("path", ["absent.pem", "."])
def test_a_file_that_cannot_be_read_is_an_error_with_its_path(
    section: str, tls: dict[str, str], path: str
) -> None:
    problem = problems({section: tls | {"ca_file": path}})[f"{section}.ca_file"]
    assert problem.value == path
    assert "cannot be read" in problem.what


def test_a_password_of_no_key_is_an_error() -> None:
    assert "kafka.key_password" in problems({"kafka": {"key_password": "x"}})


# --- the tree, its schema, and its display ----------------------------------------------------


def test_settings_cannot_be_changed() -> None:
    settings = load()
    with pytest.raises(ValidationError, match="frozen"):
        settings.http.port = 1
    with pytest.raises(ValidationError, match="frozen"):
        settings.shutdown_timeout_s = 1


def test_settings_made_by_hand_read_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKBRIDGE_HTTP__PORT", "1")
    settings = Settings.model_validate({"binance": {"symbols": ["BTCUSDT"]}})
    assert settings.http.port == 8080


def test_a_data_folder_that_is_none_is_named_with_the_remedy(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for path, what in (
        (file, "is not a folder"),
        (tmp_path / "a" / "b", f"cannot be created: {tmp_path / 'a'} is not a folder"),
    ):
        problem = problems({"data_dir": str(path)})["data_dir"]
        assert (problem.value, problem.what) == (str(path), what)
        assert "create it" in problem.remedy
    for path in (tmp_path, tmp_path / "absent"):
        assert load({"data_dir": str(path)}).data_dir == path


def test_a_data_folder_that_cannot_be_written_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    for path, what in (
        (tmp_path, "cannot be written to"),
        (tmp_path / "absent", f"cannot be created in {tmp_path}"),
    ):
        problem = problems({"data_dir": str(path)})["data_dir"]
        assert problem.what == what
        assert "permission" in problem.remedy


@pytest.mark.parametrize("size", ["63MiB", "17TiB", -1])
def test_the_room_on_disk_has_bounds(size: object) -> None:
    assert "spill_max_bytes" in problems({"spill_max_bytes": size})


def test_room_on_a_disk_that_is_not_named_is_an_error(tmp_path: Path) -> None:
    problem = problems({"spill_max_bytes": "1GiB"})["spill_max_bytes"]
    assert (problem.what, problem.remedy) == (
        *("has no effect without data_dir", "set data_dir, or remove it"),
    )
    load({"spill_max_bytes": "1GiB", "data_dir": str(tmp_path)})
    load({"spill_max_bytes": "4GiB"})


def test_more_room_than_the_disk_has_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = shutil.disk_usage(tmp_path)._replace(total=2**31)
    monkeypatch.setattr("shutil.disk_usage", lambda _: disk)
    for folder in (tmp_path, tmp_path / "absent"):
        load({"spill_max_bytes": "2GiB", "data_dir": str(folder)})
        found = problems({"spill_max_bytes": "3GiB", "data_dir": str(folder)})["spill_max_bytes"]
        assert found.what == "is more than the disk of data_dir has (2.0GiB)"
        assert "larger disk" in found.remedy


def test_an_outbox_that_does_not_fit_in_memory_is_an_error_with_the_arithmetic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr("bridge.settings.room._LIMITS", (str(limit), str(tmp_path / "absent")))
    load({"kafka": {"outbox_max_bytes": "256MiB"}})
    limit.write_text("max\n")
    load({"kafka": {"outbox_max_bytes": "256MiB"}})
    limit.write_text(f"{300 * 2**20}\n")
    load({"kafka": {"outbox_max_bytes": "220MiB"}})
    found = problems({"kafka": {"outbox_max_bytes": "256MiB"}})["kafka.outbox_max_bytes"]
    assert "with the 80.0MiB of the bridge itself" in found.what
    assert "the 300.0MiB of memory here" in found.what
    assert "more memory" in found.remedy


def test_no_secret_is_shown_by_printing_or_masking() -> None:
    settings = load(
        {
            "kafka": SASL,
            "redis": {"url": "redis://u:s3cret@x:1/2", "password": "s3cret"},
            "binance": {"proxy": "http://u:s3cret@proxy:3128"},
        }
    )
    shown = masked(settings)

    assert "s3cret" not in repr(settings) + str(settings) + json.dumps(shown)
    assert shown["redis"]["url"] == "redis://***@x:1/2"
    assert shown["redis"]["password"] == shown["kafka"]["password"] == "***"
    assert shown["binance"]["proxy"] == "http://***@proxy:3128"


def test_what_masking_shows_can_be_loaded_again() -> None:
    assert masked(load(masked(load()))) == masked(load())


def test_a_standby_needs_the_fence() -> None:
    overrides = {
        "binance": {"symbols": ["BTCUSDT"]},
        "kafka": {"transactional_id": ""},
        "cluster": {"standby": 1},
    }
    with pytest.raises(SettingsError) as caught:
        load_settings(environment={}, overrides=overrides)
    (problem,) = caught.value.problems
    assert (problem.key, problem.what) == (
        "cluster",
        "standby: 1 needs the fence of kafka.transactional_id, which is switched off",
    )
    assert "remove kafka.transactional_id" in problem.remedy


@pytest.mark.parametrize(
    ("kafka", "shards", "what", "remedy"),
    [
        ({"transactional_id": ""}, 2, "shards: 2 needs the fence", "or cluster.shards"),
        ({}, 4, "shards: 4 does not divide the 6", "one of 1, 2, 3, 6"),
        ({"partitions": 5}, 3, "shards: 3 does not divide the 5", "one of 1, 5"),
    ],
)
def test_shards_need_the_fence_and_must_divide_the_partitions(
    kafka: dict[str, Any], shards: int, what: str, remedy: str
) -> None:
    overrides = {
        "binance": {"symbols": ["BTCUSDT"]},
        "kafka": kafka,
        "cluster": {"shards": shards},
    }
    with pytest.raises(SettingsError) as caught:
        load_settings(environment={}, overrides=overrides)
    (problem,) = caught.value.problems
    assert what in problem.what
    assert remedy in problem.remedy


def test_the_schema_is_valid_closed_and_describes_every_key() -> None:
    schema = settings_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    sections = schema["$defs"]

    assert schema["additionalProperties"] is False
    assert set(sections) == {
        *("Binance", "Kafka", "Redis", "Http", "Log", "Repair", "Status", "Cluster")
    }
    for section in sections.values():
        assert section["additionalProperties"] is False
        assert all(key.get("description") for key in section["properties"].values())


def test_the_schema_takes_the_smallest_file_and_refuses_a_typing_error() -> None:
    validator = jsonschema.Draft202012Validator(settings_schema())
    data = yaml.safe_load(SMALLEST)
    assert validator.is_valid(data)
    assert validator.is_valid({"kafka": {"outbox_max_bytes": "1GiB"}})
    assert not validator.is_valid(data | {"kafak": {}})
    assert not validator.is_valid({"http": {"port": "x"}})


# --- connectors -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"), [("00:00", 0), ("04:00", 14_400), (" 23:59 ", 86_340)]
)
def test_a_time_of_the_day_is_read_as_hours_and_minutes(text: str, seconds: int) -> None:
    assert load(TICKBRIDGE_BINANCE__ROTATION_TIME=text).binance.rotation_time_s == seconds
    assert load().binance.rotation_time_s is None


@pytest.mark.parametrize("value", [750, "24:00", "4:00", "04:60", "04", "04:00:00", True])
def test_what_is_no_time_of_the_day_is_an_error_that_says_how_to_write_one(value: object) -> None:
    """Refuse 750 too: YAML reads 12:30 without quotes as this number."""
    found = problems({"binance": {"rotation_time": value}})
    assert '"04:00"' in found["binance.rotation_time"].remedy


@pytest.mark.parametrize("connectors", ["0", "3"])
def test_there_are_one_or_two_connectors(connectors: str) -> None:
    assert load(TICKBRIDGE_BINANCE__REDUNDANCY="2").binance.redundancy == 2
    assert "binance.redundancy" in problems(TICKBRIDGE_BINANCE__REDUNDANCY=connectors)


def test_a_connector_has_to_be_replaced_before_the_exchange_ends_it() -> None:
    assert "binance.connection_max_age_s" in problems({"binance": {"connection_max_age_s": 86_400}})


# --- transport -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("binance", "remedy"),
    [
        ({}, "binance.compression: none"),
        (
            {"compression": "none", "ping_interval_s": 10, "ping_timeout_s": 11},
            "binance.ping_timeout_s",
        ),
    ],
)
def test_what_the_fast_transport_cannot_do_is_refused_with_a_remedy(
    binance: dict[str, Any], remedy: str
) -> None:
    found = problems({"binance": {"transport": "picows"} | binance})
    assert remedy in found["binance.transport"].remedy


def test_the_fast_transport_is_taken_where_nothing_is_asked_that_it_cannot_do() -> None:
    binance = load(TICKBRIDGE_BINANCE__TRANSPORT="picows", TICKBRIDGE_BINANCE__COMPRESSION="none")
    assert binance.binance.transport == "picows"
