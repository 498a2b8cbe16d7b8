"""Servers with invalid certificates: they receive nothing, and the error says what to check.

Both clients check the certificate before they send data, so a bare TLS server is enough for each.
"""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bridge.errors import SinkRefused
from bridge.settings import load_settings
from bridge.sinks.kafka.sink import KafkaSink
from bridge.sinks.redis.sink import RedisSink
from tests.support.journal import Journal
from tests.support.sinks import at_work

pytestmark = pytest.mark.timeout(60)
SECRET = "not-for-strangers"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a certificate authority (`ca.pem`) and two certificates that it has signed.

    `expired.pem` and `elsewhere.pem` hold a key and a certificate in one file.
    """
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("no openssl on PATH to make certificates with")
    folder = tmp_path_factory.mktemp("impostors")

    def openssl(words: str) -> None:
        subprocess.run([program, *words.split()], cwd=folder, check=True, capture_output=True)

    openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.pem")
    for name, host, days in (("expired", "localhost", -1), ("elsewhere", "elsewhere.example", 2)):
        openssl(f"req -newkey rsa:2048 -nodes -subj /CN={host} -keyout {name}.key -out {name}.csr")
        (folder / "names").write_text(f"subjectAltName=DNS:{host}")
        openssl(
            f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days {days}"
            f" -extfile names -out {name}.crt"
        )
        both = (folder / f"{name}.key").read_text() + (folder / f"{name}.crt").read_text()
        (folder / f"{name}.pem").write_text(both)
    return folder


@asynccontextmanager
async def impostor(certificate: Path) -> AsyncIterator[int]:
    """Run a TLS server with this certificate. The test fails if a client sends data to it."""
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(1))
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    async with await asyncio.start_server(listen, "localhost", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]
    assert not any(heard)


@pytest.mark.parametrize(
    ("certificate", "words"), [("expired", "expired"), ("elsewhere", "Hostname mismatch")]
)
async def test_a_certificate_that_does_not_hold_is_named_with_what_to_check(
    certificates: Path, certificate: str, words: str, journal: Journal
) -> None:
    """Kafka's ends the start; Redis' does not."""
    ca_file = str(certificates / "ca.pem")
    async with impostor(certificates / f"{certificate}.pem") as port:
        kafka = {"bootstrap_servers": f"localhost:{port}", "security_protocol": "SASL_SSL"}
        kafka |= {"sasl_mechanism": "PLAIN", "username": "bridge", "password": SECRET}
        redis = {"url": f"rediss://localhost:{port}", "username": "bridge", "password": SECRET}
        options = load_settings(
            environment={},
            overrides={
                "binance": {"symbols": ["BTCUSDT"]},
                "kafka": kafka | {"ca_file": ca_file},
                "redis": redis | {"ca_file": ca_file},
            },
        )
        with pytest.raises(SinkRefused) as caught:
            await KafkaSink(options.kafka, []).run()
        async with at_work(RedisSink(options.redis, "binance.spot")):
            refused, *_ = await journal.until("redis_refused")
    for sink, text in (("kafka", str(caught.value)), ("redis", refused["error"])):
        assert words in text
        assert f"{sink}.ca_file" in text
        assert SECRET not in text
