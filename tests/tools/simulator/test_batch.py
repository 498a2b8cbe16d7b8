from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from bridge.tools.simulator.batch import Batch, Form

COMBINED = Form(combined=True, microseconds=False)
RAW = Form(combined=False, microseconds=False)


def serialized(text: bytes) -> bytes:
    return Frame(Opcode.TEXT, text).serialize(mask=False)


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5))
def test_frames_are_what_the_protocol_would_have_written(payloads: list[bytes]) -> None:
    batch = Batch([("a@trade", payload) for payload in payloads])
    assert batch.frames(["a@trade"], RAW) == b"".join(map(serialized, payloads))


def test_long_payloads_have_long_headers() -> None:
    for length in (125, 126, 65_535, 65_536):
        batch = Batch([("a@depth", b"x" * length)])
        assert batch.frames(["a@depth"], RAW) == serialized(b"x" * length)


def test_a_client_gets_its_streams_and_no_others_in_order() -> None:
    batch = Batch([("a@trade", b"1"), ("b@trade", b"2"), ("a@trade", b"3")])
    assert batch.texts({"a@trade"}, RAW) == [b"1", b"3"]
    assert batch.texts({"b@trade"}, COMBINED) == [b'{"stream":"b@trade","data":2}']
    assert batch.frames({"c@trade"}, COMBINED) == b""
