"""Partitions are the same in every language, and errors contain no secrets."""

import ssl

import pytest
from aiokafka import errors as kafka_errors
from aiokafka.partitioner import murmur2

from bridge.brokers.kafka_client import client_options, failure, partition_of_key
from bridge.errors import FOREIGN_MAX_CHARACTERS, SinkRefused, SinkUnavailable, TopicsDenied
from bridge.settings import load_settings

SIX = list(range(6))


@pytest.mark.parametrize(
    ("key", "murmur"),
    [
        # org.apache.kafka.common.utils.UtilsTest.testMurmur2
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_a_partition_is_the_one_javas_client_would_choose(key: bytes, murmur: int) -> None:
    assert murmur2(key) == murmur % 2**32
    assert partition_of_key(key, SIX) == (murmur & 0x7FFFFFFF) % 6


@pytest.mark.parametrize("symbol", ["BTCUSDT", "币安人生USDT", "牛来USDT", "1000PEPEUSDT"])
def test_a_symbols_partition_is_that_of_its_key_in_utf8(symbol: str) -> None:
    key = symbol.encode()
    assert partition_of_key(key, SIX) == (reference_murmur2(key) & 0x7FFFFFFF) % 6


def reference_murmur2(data: bytes) -> int:
    """Compute org.apache.kafka.common.utils.Utils.murmur2 with unsigned numbers."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = 0x9747B28C ^ len(data)
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = (h * m & mask) ^ k
    if rest := data[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


@pytest.mark.parametrize(
    "error",
    [
        kafka_errors.AuthenticationFailedError("invalid credentials"),
        kafka_errors.SaslAuthenticationFailed(),
        kafka_errors.UnsupportedSaslMechanismError(),
        ssl.SSLCertVerificationError(1, "self-signed certificate"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_wrong_credentials_are_refused_with_a_remedy(error: Exception) -> None:
    refused = failure(error)
    assert isinstance(refused, SinkRefused)
    assert "kafka.password" in refused.remedy


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (("trades",), "the topic trades; grant the user of the bridge Describe, Read and Write"),
        (({"b", "a"},), "the topics a, b; grant"),
        ((), "a topic; grant"),
    ],
)
def test_a_right_that_is_missing_is_named_with_its_topics(
    named: tuple[object, ...], expected: str
) -> None:
    refused = failure(kafka_errors.TopicAuthorizationFailedError(*named))
    assert isinstance(refused, TopicsDenied)
    assert f"Kafka denies {expected}" in str(refused)
    assert "password" not in str(refused)


def test_the_right_to_write_at_all_is_named() -> None:
    refused = failure(kafka_errors.ClusterAuthorizationFailedError())
    assert isinstance(refused, SinkRefused)
    assert "IdempotentWrite" in refused.remedy


@pytest.mark.parametrize(
    "error",
    [
        kafka_errors.KafkaConnectionError("no route"),
        kafka_errors.KafkaTimeoutError(),
        kafka_errors.OutOfOrderSequenceNumber(),
        kafka_errors.NotLeaderForPartitionError(),
        ConnectionResetError(),
        TimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_any_other_failure_is_tried_again(error: Exception) -> None:
    unavailable = failure(error)
    assert isinstance(unavailable, SinkUnavailable)
    assert str(unavailable) != "Kafka: "


def test_credentials_go_to_the_client_and_nowhere_else() -> None:
    kafka = {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "username": "desk",
        "password": "hush",
    }
    overrides = {"binance": {"symbols": ["BTCUSDT"]}, "kafka": kafka}
    options = load_settings(environment={}, overrides=overrides).kafka
    client = client_options(options)
    assert client["sasl_plain_password"] == "hush"
    assert client["sasl_mechanism"] == "SCRAM-SHA-512"
    assert client["ssl_context"].verify_mode is ssl.CERT_REQUIRED
    assert client["ssl_context"].check_hostname
    assert "hush" not in repr(options)


@pytest.mark.parametrize(
    "kind", [kafka_errors.KafkaError, kafka_errors.AuthenticationFailedError, OSError]
)
def test_a_long_text_of_kafka_is_cut(kind: type[Exception]) -> None:
    text = str(failure(kind(10_000 * "x")))
    assert "xxx…" in text
    assert text.count("x") <= FOREIGN_MAX_CHARACTERS
