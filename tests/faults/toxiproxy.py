"""toxiproxy between the bridge and a broker: connections that are slow, cut or reset.

https://github.com/Shopify/toxiproxy#http-api; the server runs on the loopback address.
"""

import json
import subprocess
from http.client import HTTPConnection
from typing import Literal, Self

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from bridge.tools.embedded import LOOPBACK, free_port

START_TIMEOUT_S = 10
REQUEST_TIMEOUT_S = 5

Stream = Literal["upstream", "downstream"]


class Toxiproxy:
    """One proxy in front of one server. Listens on `port`, and stops with its `with` block."""

    def __init__(self, program: str, upstream: str) -> None:
        self.port = free_port()
        self.program = program
        self._upstream = upstream
        self._control = free_port()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [self.program, "-host", LOOPBACK, "-port", str(self._control)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        proxy = {
            "name": "broker",
            "listen": f"{LOOPBACK}:{self.port}",
            "upstream": self._upstream,
            "enabled": True,
        }
        for attempt in Retrying(
            stop=stop_after_delay(START_TIMEOUT_S),
            wait=wait_fixed(0.05),
            retry=retry_if_exception_type(OSError),
            reraise=True,
        ):
            with attempt:
                self._ask("POST", "/proxies", proxy)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def poison(self, kind: str, stream: Stream, **attributes: int) -> None:
        """Add a toxic of this kind to all connections, including those that are open."""
        toxic = {"name": f"{kind}_{stream}", "type": kind, "stream": stream}
        self._ask("POST", "/proxies/broker/toxics", toxic | {"attributes": attributes})

    def block(self) -> None:
        """Let nothing through, in either direction. Connections stay open, as in a network that is
        cut; `heal` closes them.
        """
        self.poison("timeout", "upstream", timeout=0)
        self.poison("timeout", "downstream", timeout=0)

    def heal(self) -> None:
        """Remove all toxics."""
        self._ask("POST", "/reset", {})

    def _ask(self, method: str, path: str, body: object) -> None:
        connection = HTTPConnection(LOOPBACK, self._control, timeout=REQUEST_TIMEOUT_S)
        try:
            connection.request(method, path, json.dumps(body))
            answer = connection.getresponse()
            if answer.status >= 400:
                raise RuntimeError(f"toxiproxy: {method} {path}: {answer.read().decode()}")
        finally:
            connection.close()
