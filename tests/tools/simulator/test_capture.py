import gzip
from pathlib import Path

import pytest

from bridge.tools.simulator import Capture, CaptureError, CaptureWriter

FRAME = '{"stream":"btcusdt@trade","data":{"e":"trade","t":1}}'
DEPTH = '{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","u":9,"b":[],"a":[]}}'


def written(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("name", ["capture.txt", "capture.gz"])
def test_a_recorded_frame_is_read_back_byte_for_byte(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with CaptureWriter(path) as writer:
        writer.write(1_723_161_254_087_896_568, FRAME)
        writer.write(1_723_161_254_087_999_999, '{"stream":"牛来usdt@trade","data":{"t":2}}')
    first, second = Capture.read(path).frames
    assert first == (1_723_161_254_087_896, "btcusdt@trade", b'{"e":"trade","t":1}')
    assert second.stream == "牛来usdt@trade"


def test_a_capture_in_seconds_begins_with_the_url_it_was_made_from(tmp_path: Path) -> None:
    path = written(
        tmp_path / "capture",
        "wss://stream.binance.com:9443/stream?streams=btcusdt@trade <-> 1618677371.364407",
        f"1618677372.1768699: {FRAME}",
    )
    (frame,) = Capture.read(path).frames
    assert frame.received_us == 1_618_677_372_176_870


def test_a_compressed_capture_is_known_by_its_content_not_its_name(tmp_path: Path) -> None:
    path = tmp_path / "capture.jsonl"
    path.write_bytes(gzip.compress(f"1000 {FRAME}\n".encode()))
    assert len(Capture.read(path).frames) == 1


def test_a_snapshot_between_the_frames_belongs_to_the_depth_update_before_it(
    tmp_path: Path,
) -> None:
    snapshot = '{"lastUpdateId":9,"bids":[],"asks":[]}'
    capture = Capture.read(
        written(tmp_path / "capture", f"1000 {DEPTH}", f"2000 {snapshot}", f"3000 {FRAME}")
    )
    assert capture.snapshots == [(2, "BTCUSDT", snapshot.encode())]
    assert len(capture.frames) == 2


def test_control_replies_in_a_capture_are_counted_and_skipped(tmp_path: Path) -> None:
    path = written(tmp_path / "capture", '1000 {"result":null,"id":1}', "2000 []", f"3000 {FRAME}")
    assert Capture.read(path).skipped == 2


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("yesterday {}", "begins with b'yesterday'"),
        ("inf: {}", "begins with b'inf:'"),
        ('3000 {"stream":"btcusdt@tra', "is not JSON"),
    ],
)
def test_a_malformed_line_is_named_with_its_file(tmp_path: Path, line: str, what: str) -> None:
    path = written(tmp_path / "capture", f"1000 {FRAME}", "", line)
    with pytest.raises(CaptureError, match="line 3: ") as caught:
        Capture.read(path)
    assert str(path) in str(caught.value)
    assert what in str(caught.value)


def test_a_compressed_capture_that_was_cut_short_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "capture.gz"
    path.write_bytes(gzip.compress(f"1000 {FRAME}\n".encode())[:-9])
    with pytest.raises(CaptureError, match="cannot be read"):
        Capture.read(path)


def test_a_missing_capture_and_an_empty_one_are_errors(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="No such file"):
        Capture.read(tmp_path / "nowhere")
    with pytest.raises(CaptureError, match="contains no frame"):
        Capture.read(written(tmp_path / "empty"))
