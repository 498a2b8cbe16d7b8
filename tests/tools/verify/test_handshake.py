"""What a connection of its own shows: encryption, extensions, and the round trips of pings."""

from pathlib import Path
from typing import Any

import pytest

from bridge.errors import FeedRefused, FeedUnavailable
from bridge.tools.verify.handshake import PINGS, shake_hands
from bridge.tools.verify.report import Handshake
from tests.support.exchange import FakeExchange, go_deaf, options_for, self_signed

PATH = "/stream?streams=btcusdt@trade"

pytestmark = pytest.mark.timeout(60)


async def shaken(exchange: FakeExchange, **options: Any) -> Handshake:
    return await shake_hands(options_for(exchange, **options).binance, PATH)


async def test_the_address_the_extensions_and_every_ping_are_there() -> None:
    exchange = FakeExchange()
    async with exchange.serving():
        seen = await shaken(exchange)
    assert exchange.url.endswith(seen.address)
    assert seen.tls is None
    assert seen.extensions.startswith("permessage-deflate")
    assert seen.handshake_ms > 0
    assert len(seen.pings_ms) == PINGS
    assert all(ping > 0 for ping in seen.pings_ms)


async def test_without_compression_there_is_no_extension() -> None:
    exchange = FakeExchange()
    async with exchange.serving():
        assert (await shaken(exchange, compression="none")).extensions == ""


async def test_the_certificate_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    exchange = FakeExchange()
    async with exchange.serving(ssl=server):
        tls = (await shaken(exchange)).tls
    assert tls is not None
    assert tls.version == "TLSv1.3"
    assert (tls.subject, tls.issuer) == ("exchange", "exchange")
    assert tls.cipher
    assert tls.valid_until.endswith("GMT")


async def test_a_certificate_that_does_not_hold_is_refused(tmp_path: Path) -> None:
    exchange = FakeExchange()
    async with exchange.serving(ssl=self_signed(tmp_path)):
        with pytest.raises(FeedRefused, match="certificate"):
            await shaken(exchange)


async def test_a_ping_without_an_answer_is_named() -> None:
    exchange = FakeExchange([go_deaf])
    async with exchange.serving():
        with pytest.raises(FeedUnavailable, match=r"a ping to ws://.* does not answer in time"):
            await shaken(exchange, ping_interval_s=60, ping_timeout_s=0.3)
