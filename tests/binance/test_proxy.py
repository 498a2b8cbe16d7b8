"""The proxy comes from the settings or from the environment, the same for REST and WebSocket."""

import pytest

from bridge import settings
from bridge.binance.proxy import proxy_of
from bridge.binance.rest import Rest
from bridge.binance.transport.connect import open_websocket
from bridge.binance.transport.turns import Turns
from bridge.errors import FeedRefused
from tests.support.exchange import FakeExchange, options_for

SECURE, PLAIN = "wss://stream.binance.com:9443", "http://127.0.0.1:9"
NAMES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "SOCKS_PROXY", "WSS_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def options(proxy: str = "environment") -> settings.Binance:
    urls = {"websocket_url": "ws://127.0.0.1:9", "rest_url": PLAIN}
    return options_for(FakeExchange(), **urls, proxy=proxy).binance


class Nobody:
    """Takes the frames of a connection."""

    def on_frames(self, frames: list[bytes], received: int) -> None: ...
    def on_binary(self, payload: bytes, received: int) -> None: ...
    def on_lost(self) -> None: ...


@pytest.mark.parametrize(
    ("environment", "secure", "plain"),
    [
        ({}, None, None),
        ({"HTTPS_PROXY": "http://a:1"}, "http://a:1", None),
        ({"https_proxy": "http://u:p@a:1/"}, "http://u:p@a:1/", None),
        ({"HTTP_PROXY": "http://b:1"}, None, "http://b:1"),
        ({"ALL_PROXY": "http://c:1"}, "http://c:1", "http://c:1"),
        ({"ALL_PROXY": "http://c:1", "HTTPS_PROXY": "http://a:1"}, "http://a:1", "http://c:1"),
        ({"ALL_PROXY": "http://c:1", "NO_PROXY": "binance.com"}, None, "http://c:1"),
        ({"ALL_PROXY": "http://c:1", "NO_PROXY": "*"}, None, None),
    ],
)
def test_the_environment_names_the_proxy_as_for_other_programs(
    environment: dict[str, str],
    secure: str | None,
    plain: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (proxy_of(options(), SECURE), proxy_of(options(), PLAIN)) == (secure, plain)


def test_the_settings_come_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://elsewhere:1")
    assert proxy_of(options("none"), SECURE) is None
    assert proxy_of(options("http://a:1"), SECURE) == "http://a:1"


@pytest.mark.parametrize(
    "value", ["socks5://proxy:1080", "proxy:3128", "http://", "http://proxy:1/path", "http://[::1"]
)
@pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY"])
async def test_a_variable_that_names_no_http_proxy_is_named_by_rest_and_websocket(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(FeedRefused, match=f"variable {name} is") as of_rest:
        Rest(options())
    with pytest.raises(FeedRefused, match=f"variable {name} is") as of_websocket:
        await open_websocket(options(), "/ws/btcusdt@trade", Nobody(), Turns())
    for error in (of_rest, of_websocket):
        assert value in str(error.value)
        assert "set binance.proxy" in str(error.value)


def test_a_password_in_a_variable_is_in_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://user:hush@proxy:1080")
    with pytest.raises(FeedRefused) as error:
        proxy_of(options(), SECURE)
    assert "hush" not in str(error.value)
