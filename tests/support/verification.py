"""Parts of a verification report."""

from bridge.tools.verify.report import (
    Connection,
    Handshake,
    Latency,
    Messages,
    Observation,
    StreamReport,
    Tls,
)


def good() -> Observation:
    """Return an observation that passes all checks, with the figures of the first report."""
    return Observation(
        begun=1_790_000_000_000_000,
        seconds=420.0,
        asked=9,
        symbols=3,
        refused=[],
        never_heard=[],
        findings=[],
        proven={"trade": 800},
        handshake=Handshake(
            address="52.1.2.3:9443",
            tls=Tls(
                version="TLSv1.3",
                cipher="TLS_AES_128_GCM_SHA256",
                subject="*.binance.com",
                issuer="DigiCert",
                valid_until="Aug 12 23:59:59 2027 GMT",
            ),
            extensions="permessage-deflate",
            handshake_ms=84.0,
            pings_ms=[12.0, 11.0, 15.0],
        ),
        handshake_error="",
        connection=Connection(
            websocket_url="wss://stream.binance.com:9443",
            rest_url="https://api.binance.com",
            transport="websockets",
            compression="deflate",
            connectors=1,
            open=1,
            first_message_s=0.34,
            lost={},
        ),
        messages=Messages(
            frames=1_321,
            events=1_321,
            invalid={},
            problems=[],
            per_second=3.1,
            most_in_a_second=40,
            duplicates=0,
            fetched=0,
            held=0,
            gaps={},
            latency=Latency(45.0, 60.0, 120.0, 180.0),
        ),
        clock=None,
        streams=[],
        moments=[],
    )


def stream(symbol: str) -> StreamReport:
    """Return the report of a stream of trades."""
    return StreamReport(
        message_type="trade",
        symbol=symbol,
        events=7,
        per_second=0.1,
        first_after_s=0.5,
        longest_silence_s=3.0,
        first_id=1,
        last_id=7,
        prices=None,
        volumes=None,
        latency=None,
    )
