"""Tokens for Kafka from an OAuth 2.0 server."""

import asyncio

import pytest
from aiokafka.errors import AuthenticationFailedError, KafkaConnectionError

from bridge.brokers.oauth import LEEWAY_S, TokenProvider
from bridge.settings import Kafka, load_settings
from tests.support.token_server import token_server

# Both must be encoded in the header.
CLIENT, SECRET = "the bridge", "s:cret&100%"


def options(url: str, **more: str) -> Kafka:
    kafka = {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "OAUTHBEARER",
        "username": CLIENT,
        "password": SECRET,
        "oauth_token_url": url,
    }
    overrides = {"binance": {"symbols": ["BTCUSDT"]}, "kafka": kafka | more}
    return load_settings(environment={}, overrides=overrides).kafka


async def test_a_token_is_fetched_once_and_used_for_all_connections() -> None:
    async with token_server(CLIENT, SECRET) as server:
        provider = TokenProvider(options(server.url, oauth_scope="kafka"))
        tokens = await asyncio.gather(*(provider.token() for _ in range(5)))
    assert len(set(tokens)) == 1
    assert tokens[0].count(".") == 2
    assert server.scopes == ["kafka"]


async def test_a_token_that_is_about_to_expire_is_replaced() -> None:
    async with token_server(CLIENT, SECRET, LEEWAY_S - 1) as server:
        provider = TokenProvider(options(server.url))
        await provider.token()
        await provider.token()
    assert server.scopes == ["", ""]


@pytest.mark.parametrize("lifetime", ['"3600"', "3600", "null"])
async def test_the_lifetime_of_a_token_may_be_a_text_or_missing(lifetime: str) -> None:
    async with token_server(CLIENT, SECRET) as server:
        server.answers.append((200, f'{{"access_token": "a.b.", "expires_in": {lifetime}}}', {}))
        provider = TokenProvider(options(server.url))
        assert [await provider.token(), await provider.token()] == ["a.b.", "a.b."]


async def test_a_wrong_secret_is_a_refusal_that_does_not_show_it() -> None:
    async with token_server(CLIENT, "another") as server:
        with pytest.raises(
            AuthenticationFailedError, match=r"answers 401: .*invalid_client"
        ) as caught:
            await TokenProvider(options(server.url)).token()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        *("", "no json", "[]", "{}", "[" * 60_000, '{"access_token": 1}', '{"access_token": ""}'),
        *('{"access_token": "a\\nb"}', '{"access_token": "a", "expires_in": 1e999}'),
    ],
    ids=lambda body: body[:40],
)
async def test_an_answer_without_a_token_is_a_refusal(body: str) -> None:
    async with token_server(CLIENT, SECRET) as server:
        server.answers.append((200, body, {}))
        with pytest.raises(AuthenticationFailedError, match="no access_token"):
            await TokenProvider(options(server.url)).token()


async def test_a_server_that_fails_or_is_not_there_is_tried_again_later() -> None:
    async with token_server(CLIENT, SECRET) as server:
        provider = TokenProvider(options(server.url))
        server.answers.append((503, "later", {}))
        with pytest.raises(KafkaConnectionError, match="answers 503: later"):
            await provider.token()
        assert await provider.token()
    with pytest.raises(KafkaConnectionError, match="refused"):
        await TokenProvider(options(server.url)).token()


async def test_a_redirect_does_not_give_the_secret_to_another_host() -> None:
    async with token_server(CLIENT, SECRET) as server, token_server(CLIENT, SECRET) as other:
        server.answers.append((302, "", {"Location": other.url}))
        with pytest.raises(KafkaConnectionError, match="answers 302"):
            await TokenProvider(options(server.url)).token()
    assert other.scopes == []
