"""A Kafka that knows its users by tokens (SASL_PLAINTEXT with OAUTHBEARER)."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.settings import load_settings
from bridge.tools.audit.run import audit_topic
from bridge.tools.simulator import Market, SimulatedExchange
from tests.support.bridge_process import check_settings, running_bridge
from tests.support.bridge_settings import bridge_settings
from tests.support.brokers import INSIDE_ADDRESS, Choice, KafkaBroker, RedisAddress, listeners
from tests.support.token_server import TokenServer, token_server

CLIENT, SECRET = "bridge", "right-one"
MODULE = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule"

pytestmark = pytest.mark.timeout(120)


class OAuthKafka(KafkaBroker):
    """A broker that accepts unsigned tokens, and closes a connection whose token has expired."""

    def __init__(self) -> None:
        super().__init__()
        self._container.with_envs(
            **listeners("SASL_PLAINTEXT", TESTS=self.bootstrap_servers, INSIDE=INSIDE_ADDRESS),
            KAFKA_SASL_ENABLED_MECHANISMS="OAUTHBEARER",
            KAFKA_LISTENER_NAME_TESTS_OAUTHBEARER_SASL_JAAS_CONFIG=f"{MODULE} required;",
            KAFKA_CONNECTIONS_MAX_REAUTH_MS="3600000",
        )

    def wait_until_ready(self) -> None:
        self.run_inside("kafka-topics.sh", "--list")


@pytest.fixture(scope="module")
def oauth_kafka(brokers: Choice) -> Iterator[OAuthKafka]:
    if brokers.kind == "embedded":
        pytest.skip(f"needs Docker; {brokers}")
    with OAuthKafka() as kafka:
        yield kafka


def options(kafka: OAuthKafka, server: TokenServer) -> dict[str, Any]:
    return {
        "bootstrap_servers": kafka.bootstrap_servers,
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "OAUTHBEARER",
        "username": CLIENT,
        "password": SECRET,
        "oauth_token_url": server.url,
    }


async def test_a_bridge_and_its_readers_log_in_with_tokens_and_lose_nothing_when_they_expire(
    oauth_kafka: OAuthKafka, redis: RedisAddress, unique: str, tmp_path: Path
) -> None:
    market = Market(["BTCUSDT"], seed=3, begin_ms=1_790_000_000_000, trades_per_second=50)
    async with (
        SimulatedExchange(market) as exchange,
        token_server(CLIENT, SECRET, lifetime_s=4) as server,
    ):
        settings = bridge_settings(
            exchange, "", redis.url, unique, symbols=["BTCUSDT"], streams=["trade"]
        )
        settings["kafka"] |= options(oauth_kafka, server)
        async with running_bridge(tmp_path, settings) as bridge:
            await bridge.logged("positions_read")
            fetched = len(server.scopes)
            async with asyncio.timeout(60):
                while len(server.scopes) < fetched + 3:  # noqa: ASYNC110 - three have expired
                    await asyncio.sleep(0.1)
            assert await bridge.stop() == 0
        reader = load_settings(environment={}, overrides=settings).kafka
        report = await audit_topic(reader, "trade")
    assert SECRET not in str(bridge.log)
    assert list(report.findings) == []
    assert report.records > 100


async def test_a_wrong_secret_is_named_by_the_check_of_the_settings(
    oauth_kafka: OAuthKafka, redis: RedisAddress, tmp_path: Path
) -> None:
    async with token_server(CLIENT, "another") as server:
        settings = {
            "binance": {"symbols": ["BTCUSDT"]},
            "kafka": options(oauth_kafka, server),
            "redis": {"url": redis.url},
        }
        (tmp_path / "tickbridge.yaml").write_text(json.dumps(settings))
        code, output = await check_settings(tmp_path)
    assert code == 2
    assert "answers 401" in output
    assert "kafka.oauth_token_url" in output
    assert SECRET not in output
