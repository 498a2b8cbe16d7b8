"""An OAuth 2.0 server that gives unsigned tokens for one client id and secret."""

import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote_plus

from aiohttp import BasicAuth, web

from bridge.tools.embedded import LOOPBACK


@dataclass
class TokenServer:
    """A server at `url`. `answers` replaces its next answers: a status, a body and headers each."""

    client: str
    secret: str
    lifetime_s: float = 300
    url: str = ""
    scopes: list[str] = field(default_factory=list)
    answers: list[tuple[int, str, dict[str, str]]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        form = await request.post()
        if self.answers:
            status, text, headers = self.answers.pop(0)
            return web.Response(status=status, text=text, headers=headers)
        client, secret, _ = map(unquote_plus, BasicAuth.decode(request.headers["Authorization"]))
        if (client, secret) != (self.client, self.secret):
            return web.json_response({"error": "invalid_client"}, status=401)
        assert form["grant_type"] == "client_credentials"
        self.scopes.append(str(form.get("scope", "")))
        now = time.time()
        claims = {"sub": self.client, "iat": now, "exp": now + self.lifetime_s}
        token = f"{_part({'alg': 'none'})}.{_part(claims)}."
        return web.json_response({"access_token": token, "expires_in": self.lifetime_s})


@asynccontextmanager
async def token_server(
    client: str, secret: str, lifetime_s: float = 300
) -> AsyncIterator[TokenServer]:
    server = TokenServer(client, secret, lifetime_s)
    app = web.Application()
    app.router.add_post("/token", server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, LOOPBACK, 0)
    await site.start()
    _, port = runner.addresses[0][:2]
    server.url = f"http://{LOOPBACK}:{port}/token"
    try:
        yield server
    finally:
        await runner.cleanup()


def _part(data: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(data).encode()).rstrip(b"=").decode()
