import socket

import pytest

from bridge.tools.demo import options
from bridge.tools.embedded import LOOPBACK, free_port


def test_the_usual_http_port_is_used_where_it_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setattr(options, "HTTP_PORT", port)
    assert options.http_port() == port
    with socket.create_server((LOOPBACK, port)):
        assert options.http_port() == 0
