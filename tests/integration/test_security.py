"""Encrypted and authenticated brokers, with certificates made by the test."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclBindingFilter
from redis import Redis

from bridge.settings import Kafka as KafkaSettings
from bridge.tools.audit.run import audit_topic
from bridge.tools.simulator import Market, SimulatedExchange
from tests.support.bridge_process import BridgeProcess, check_settings, running_bridge
from tests.support.bridge_settings import bridge_settings
from tests.support.brokers import INSIDE_ADDRESS, Choice, KafkaBroker, RedisServer, listeners

USER, PASSWORD = "bridge", "right-one"
ADMIN, UNFENCED, WRITER = "admin", "unfenced", "writer"
USERS = (USER, UNFENCED, WRITER)
# Users, resource, prefix of its name, operations. A bridge needs the first three.
RIGHTS = (
    (USERS, "TOPIC", "t", "CREATE DESCRIBE WRITE"),
    ((USER, UNFENCED), "TOPIC", "t", "READ"),
    ((USER, WRITER), "TRANSACTIONAL_ID", "tickbridge.", "DESCRIBE WRITE"),
    ((USER,), "GROUP", "t", "READ"),
)
SASL = f'org.apache.kafka.common.security.{{0}} required username="{USER}" password="{PASSWORD}"'

TOPIC = "{}.{{venue}}.{{message_type}}"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an authority (`ca.pem`), a server certificate and key, and an untrusted authority."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("no openssl on PATH to make certificates with")
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(words: str) -> None:
        subprocess.run([program, *words.split()], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "other"):
        openssl(
            f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name}"
            f" -keyout {name}.key -out {name}.pem",
        )
    openssl("req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2"
        " -extfile names -out server.pem",
    )
    both = (folder / "server.key").read_text() + (folder / "server.pem").read_text()
    (folder / "broker.pem").write_text(both)
    for path in folder.iterdir():
        path.chmod(0o644)  # the containers run as other users
    folder.chmod(0o755)
    return folder


class SecureKafka(KafkaBroker):
    """A broker that speaks only SASL_SSL, with PLAIN and SCRAM, and users with exactly the rights
    that docs/guides/kafka-and-redis.md names.
    """

    def __init__(self, certificates: Path) -> None:
        super().__init__()
        listener = "KAFKA_LISTENER_NAME_TESTS"
        users = "".join(f' user_{user}="{PASSWORD}"' for user in (*USERS, ADMIN))
        self._certificates = certificates
        self._container.with_volume_mapping(str(certificates), "/certificates", "ro")
        self._container.with_envs(
            **listeners("SASL_SSL", TESTS=self.bootstrap_servers, INSIDE=INSIDE_ADDRESS),
            KAFKA_AUTHORIZER_CLASS_NAME="org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            KAFKA_SUPER_USERS=f"User:ANONYMOUS;User:{ADMIN}",
            KAFKA_SSL_KEYSTORE_TYPE="PEM",
            KAFKA_SSL_KEYSTORE_LOCATION="/certificates/broker.pem",
            KAFKA_SASL_ENABLED_MECHANISMS="PLAIN,SCRAM-SHA-512",
            **{
                f"{listener}_PLAIN_SASL_JAAS_CONFIG": SASL.format("plain.PlainLoginModule")
                + f"{users};",
                f"{listener}_SCRAM-SHA-512_SASL_JAAS_CONFIG": SASL.format("scram.ScramLoginModule")
                + ";",
            },
        )

    def wait_until_ready(self) -> None:
        """Wait until the broker answers inside its container, create the SCRAM user, and grant the
        rights.
        """
        self.run_inside(
            "kafka-configs.sh", "--alter", "--entity-type", "users", "--entity-name", USER,
            "--add-config", f"SCRAM-SHA-512=[password={PASSWORD}]",
        )  # fmt: skip
        self._grant()

    def deny(self, topic: str, operation: str) -> None:
        """Take a right to one topic away from the user."""
        self._add([_right("TOPIC", topic, "LITERAL", USER, operation, "DENY")])

    def give_back(self, topic: str) -> None:
        """Remove what `deny` has denied."""
        denied = AclBindingFilter("TOPIC", topic, "LITERAL", f"User:{USER}", "*", "ANY", "DENY")
        for removed in self._admin.delete_acls([denied]).values():
            removed.result(30)

    @cached_property
    def _admin(self) -> AdminClient:
        ca_file = str(self._certificates / "ca.pem")
        options = {"bootstrap_servers": self.bootstrap_servers, "sasl_mechanism": "PLAIN"}
        return AdminClient(_client(options | {"username": ADMIN, "ca_file": ca_file}))

    def _grant(self) -> None:
        self._add(
            [
                _right(kind, prefix, "PREFIXED", user, operation, "ALLOW")
                for users, kind, prefix, operations in RIGHTS
                for user in users
                for operation in operations.split()
            ]
        )

    def _add(self, rights: list[AclBinding]) -> None:
        for added in self._admin.create_acls(rights).values():
            added.result(30)


def _right(  # noqa: PLR0917
    kind: str, name: str, pattern: str, user: str, operation: str, permission: str
) -> AclBinding:
    return AclBinding(kind, name, pattern, f"User:{user}", "*", operation, permission)


class SecureRedis(RedisServer):
    """A server that speaks only TLS, with a user that has exactly the rights the bridge needs."""

    def __init__(self, certificates: Path) -> None:
        rights = "resetchannels &binance.spot.* ~binance.spot.* +@connection +evalsha".split()
        rights += "+script|load +publish +hget +hset +set +hgetall +hmget +hkeys +get".split()
        super().__init__(
            *("--port", "0", "--tls-port", "6379", "--tls-auth-clients", "no"),
            *("--tls-cert-file", "/certificates/server.pem"),
            *("--tls-key-file", "/certificates/server.key"),
            *("--tls-ca-cert-file", "/certificates/ca.pem"),
            *("--user", USER, "on", f">{PASSWORD}", *rights, "--user", "default", "off"),
        )
        self.url = self.url.replace("redis://", "rediss://")
        self._container.with_volume_mapping(str(certificates), "/certificates", "ro")

    def wait_until_ready(self) -> None:
        """Do not wait: the bridge itself retries a refused connection."""


class Secure(NamedTuple):
    """The settings for a Kafka and a Redis with TLS, the folder of their certificates, and the
    Kafka.
    """

    kafka: dict[str, Any]
    redis: dict[str, Any]
    folder: Path
    broker: SecureKafka


@pytest.fixture(scope="module")
def secure(brokers: Choice, certificates: Path) -> Iterator[Secure]:
    if brokers.kind == "embedded":
        pytest.skip(f"needs brokers with TLS; {brokers}")
    user = {"username": USER, "password": PASSWORD, "ca_file": str(certificates / "ca.pem")}
    with SecureKafka(certificates) as kafka, SecureRedis(certificates) as redis:
        sasl = {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512"}
        servers = {"bootstrap_servers": kafka.bootstrap_servers}
        yield Secure(servers | sasl | user, {"url": redis.url, **user}, certificates, kafka)


@asynccontextmanager
async def running(  # noqa: PLR0917
    kafka: dict[str, Any],
    redis: dict[str, Any],
    unique: str,
    folder: Path,
    streams: Sequence[str] = ("trade",),
    cluster: Mapping[str, object] = MappingProxyType({}),
) -> AsyncIterator[BridgeProcess]:
    """Run a bridge against a simulated exchange, with these settings of its brokers."""
    market = Market(["BTCUSDT"], seed=3, begin_ms=1_790_000_000_000, trades_per_second=50)
    async with SimulatedExchange(market) as exchange:
        settings = bridge_settings(
            exchange, "", "", unique, symbols=["BTCUSDT"], streams=list(streams)
        )
        settings["kafka"] |= kafka
        settings |= {"redis": redis, "cluster": dict(cluster)}
        async with running_bridge(folder, settings) as bridge:
            yield bridge


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
async def test_a_bridge_runs_against_encrypted_brokers_that_know_its_user(
    secure: Secure, unique: str, tmp_path: Path, mechanism: str
) -> None:
    kafka = secure.kafka | {"sasl_mechanism": mechanism}
    async with running(kafka, secure.redis, unique, tmp_path) as bridge:
        await bridge.logged("kafka_connected")
        await bridge.logged("redis_connected")
        await asyncio.to_thread(_read, kafka, f"{unique}.binance.spot.trade", 1)
        assert await asyncio.to_thread(_price, secure.redis)
        assert await bridge.stop() == 0
    assert PASSWORD not in str(bridge.log)


def _client(kafka: dict[str, Any]) -> dict[str, Any]:
    """Return the options of another client with these settings."""
    return {
        "bootstrap.servers": kafka["bootstrap_servers"],
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": kafka["sasl_mechanism"],
        "sasl.username": kafka["username"],
        "sasl.password": PASSWORD,
        "ssl.ca.location": kafka["ca_file"],
    }


def _price(redis: dict[str, Any]) -> object:
    with Redis.from_url(
        redis["url"], username=USER, password=PASSWORD, ssl_ca_certs=redis["ca_file"]
    ) as client:
        return client.hget("binance.spot.latest:BTCUSDT", "price")


class Case(NamedTuple):
    """A wrong setting of Kafka, and the words that its error must contain."""

    key: str
    value: str
    words: str


@pytest.mark.parametrize(
    "case",
    [
        Case("password", "wrong-one", "authentication"),
        Case("sasl_mechanism", "SCRAM-SHA-256", "kafka.sasl_mechanism"),
        Case("ca_file", "other.pem", "certificate"),
    ],
    ids=lambda case: case.key,
)
async def test_a_wrong_setting_ends_the_bridge_in_clear_words_without_the_secret(
    secure: Secure, unique: str, tmp_path: Path, case: Case
) -> None:
    value = str(secure.folder / case.value) if case.key == "ca_file" else case.value
    kafka = secure.kafka | {case.key: value}
    async with running(kafka, secure.redis, unique, tmp_path) as bridge:
        failed = await bridge.logged("failed", timeout_s=60)
        assert await asyncio.wait_for(bridge.process.wait(), 30) == 2
    assert case.words in failed["error"].lower()
    assert "wrong-one" not in str(bridge.log)
    assert PASSWORD not in str(bridge.log)


async def test_a_wrong_password_of_redis_does_not_keep_kafka_from_running(
    secure: Secure, unique: str, tmp_path: Path
) -> None:
    redis = secure.redis | {"password": "wrong-one"}
    async with running(secure.kafka, redis, unique, tmp_path) as bridge:
        refused = await bridge.logged("redis_refused", timeout_s=60)
        await bridge.logged("positions_read", timeout_s=60)
        assert bridge.process.returncode is None
    assert "redis.password" in refused["error"]
    assert "wrong-one" not in str(bridge.log)


async def test_the_check_of_the_settings_logs_in_and_disturbs_no_bridge_that_runs(
    secure: Secure, unique: str, tmp_path: Path
) -> None:
    async with running(secure.kafka, secure.redis, unique, tmp_path) as bridge:
        await bridge.logged("positions_read")
        code, output = await check_settings(tmp_path)
        assert code == 0, output
        assert await bridge.stop() == 0
    assert "Kafka accepts the bridge" in output
    assert "Redis accepts the bridge" in output


async def test_the_check_of_the_settings_names_every_server_that_refuses(
    secure: Secure, unique: str, tmp_path: Path
) -> None:
    wrong = {"password": "wrong-one"}
    async with running(secure.kafka | wrong, secure.redis | wrong, unique, tmp_path):
        code, output = await check_settings(tmp_path)
    assert code == 2
    assert "kafka.password" in output
    assert "redis.password" in output
    assert "wrong-one" not in output


async def test_without_a_right_to_its_transactional_id_a_bridge_says_so_and_runs(
    secure: Secure, unique: str, tmp_path: Path
) -> None:
    kafka = secure.kafka | {"username": UNFENCED, "sasl_mechanism": "PLAIN"}
    async with running(kafka, secure.redis, unique, tmp_path) as bridge:
        refused = await bridge.logged("kafka_fence_refused")
        await bridge.logged("positions_read")
        assert await bridge.stop() == 0
    assert refused["transactional_id"] == f"tickbridge.{unique}.binance.spot.position"


async def test_a_bridge_stands_by_with_the_right_to_its_group(
    secure: Secure, unique: str, tmp_path: Path
) -> None:
    cluster = {"standby": 1, "group": unique}
    async with running(secure.kafka, secure.redis, unique, tmp_path, cluster=cluster) as bridge:
        await bridge.logged("positions_read")
        assert await bridge.stop() == 0


async def test_without_the_right_to_its_group_a_start_ends_with_an_error_that_names_it(
    secure: Secure, unique: str, tmp_path: Path
) -> None:
    cluster = {"standby": 1, "group": "of-others"}
    async with running(secure.kafka, secure.redis, unique, tmp_path, cluster=cluster) as bridge:
        failed = await bridge.logged("failed", timeout_s=60)
        assert await bridge.ended() == 2
    assert "Kafka denies the group 'of-others'; grant Read on" in failed["error"]


async def test_without_the_right_to_read_a_bridge_does_not_start(
    secure: Secure, unique: str, tmp_path: Path
) -> None:
    """It could not know which trades are missing."""
    kafka = secure.kafka | {"username": WRITER, "sasl_mechanism": "PLAIN"}
    async with running(kafka, secure.redis, unique, tmp_path) as bridge:
        failed = await bridge.logged("failed", timeout_s=60)
        assert await asyncio.wait_for(bridge.process.wait(), 30) == 2
    assert f"{unique}.binance.spot" in failed["error"]


async def test_a_topic_that_may_not_be_written_to_ends_a_start_that_names_it(
    secure: Secure, unique: str, tmp_path: Path
) -> None:
    topic = f"{unique}.binance.spot.trade"
    secure.broker.deny(topic, "WRITE")
    async with running(secure.kafka, secure.redis, unique, tmp_path) as bridge:
        failed = await bridge.logged("failed", timeout_s=60)
        assert await bridge.ended() == 2
    assert f"Kafka denies the topic {topic}; grant" in failed["error"]
    assert "Write" in failed["error"]
    assert "password" not in failed["error"]


@pytest.mark.parametrize(("right", "restarts"), [("WRITE", False), ("ALL", True)])
async def test_a_topic_whose_right_is_taken_away_waits_alone_and_loses_nothing(
    secure: Secure,
    unique: str,
    tmp_path: Path,
    right: str,
    restarts: bool,  # noqa: FBT001
) -> None:
    topics = {kind: f"{unique}.binance.spot.{kind}" for kind in ("trade", "agg_trade")}
    kafka = secure.kafka | {"request_timeout_ms": 2000, "delivery_timeout_s": 3}
    streams = ("trade", "aggTrade")
    async with running(kafka, secure.redis, unique, tmp_path, streams) as bridge:
        for topic in topics.values():
            await asyncio.to_thread(_read, secure.kafka, topic, 20)
        secure.broker.deny(topics["trade"], right)
        for count in (1, 3):
            resting = await bridge.logged("kafka_partition_unavailable", count=count)
            assert resting["topic"] == topics["trade"]
            assert f"Kafka denies the topic {topics['trade']}; grant" in resting["error"]
        if restarts:
            await asyncio.to_thread(secure.broker.kill)
            await asyncio.to_thread(secure.broker.start)
            await bridge.logged("kafka_connected", timeout_s=60, count=2)
        await asyncio.to_thread(_read, secure.kafka, topics["agg_trade"], 250)
        secure.broker.give_back(topics["trade"])
        await bridge.logged("kafka_partition_recovered", timeout_s=60)
        assert await bridge.stop() == 0
    options = KafkaSettings.model_validate(secure.kafka | {"topic": TOPIC.format(unique)})
    for kind in topics:
        report = await audit_topic(options, kind)
        assert list(report.findings) == []
        assert report.records > 200


def _read(kafka: dict[str, Any], topic: str, count: int) -> None:
    """Read this many records with another client."""
    consumer = Consumer(_client(kafka) | {"group.id": topic, "auto.offset.reset": "earliest"})
    try:
        consumer.subscribe([topic])
        read = 0
        while read < count:
            message = consumer.poll(30)
            assert message is not None
            read += message.error() is None
    finally:
        consumer.close()
