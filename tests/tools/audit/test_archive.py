"""Reading the exchange's daily archives: their columns, their checksum, and damaged ones."""

import hashlib
import zipfile
from pathlib import Path

import pytest
from aiohttp import web

from bridge.tools.audit.archive import Archive, BadArchive
from bridge.tools.audit.download import download
from tests.support.exchange import served

TRADES = "BTCUSDT-trades-2026-11-28.zip"
ROWS = (
    "5000000001,61837.63000000,0.00100000,61.83763000,1795824000000123,True,True",
    "5000000002,61837.00000000,2.00000000,123674.00000000,1795824000000456,False,True",
)
FIELDS = [
    (5000000001, ("61837.63", "0.001", "1795824000000123", "sell")),
    (5000000002, ("61837", "2", "1795824000000456", "buy")),
]


def write(folder: Path, *rows: str, name: str = TRADES, with_checksum: bool = True) -> Path:
    path = folder / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr(name.replace(".zip", ".csv"), "".join(f"{row}\n" for row in rows))
    if with_checksum:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        path.with_name(f"{name}.CHECKSUM").write_text(f"{digest}  {name}\n")
    return path


def test_the_name_says_what_is_in_it(tmp_path: Path) -> None:
    archive = Archive(write(tmp_path, *ROWS))
    assert (archive.symbol, archive.message_type) == ("BTCUSDT", "trade")
    assert archive.day.isoformat() == "2026-11-28"
    assert archive.end_ms - archive.begin_ms == 86_400_000
    assert archive.begin_ms <= 1795824000000 < archive.end_ms


def test_rows_are_read_without_trailing_zeros(tmp_path: Path) -> None:
    assert list(Archive(write(tmp_path, *ROWS)).rows()) == FIELDS


def test_names_of_columns_are_passed_over(tmp_path: Path) -> None:
    header = "id,price,qty,quote_qty,time,is_buyer_maker,is_best_match"
    assert list(Archive(write(tmp_path, header, *ROWS)).rows()) == FIELDS


def test_aggregated_trades_have_the_ids_of_their_trades(tmp_path: Path) -> None:
    row = "7,61837.63000000,0.00100000,5,6,1723161254087,true,true"
    archive = Archive(write(tmp_path, row, name="BTCUSDT-aggTrades-2024-08-09.zip"))
    assert archive.message_type == "agg_trade"
    assert archive.time_unit_us == 1000
    assert list(archive.rows()) == [(7, ("61837.63", "0.001", "1723161254087", "sell", "5", "6"))]


def test_the_checksum_is_compared(tmp_path: Path) -> None:
    assert Archive(write(tmp_path, *ROWS)).check()
    without = tmp_path / "without"
    without.mkdir()
    assert not Archive(write(without, *ROWS, with_checksum=False)).check()


def test_a_wrong_checksum_is_named_with_the_remedy(tmp_path: Path) -> None:
    path = write(tmp_path, *ROWS)
    path.with_name(f"{TRADES}.CHECKSUM").write_text("0" * 64)
    with pytest.raises(BadArchive, match=r"says 0{64}; download both again"):
        Archive(path).check()


@pytest.mark.parametrize(
    "name", ["BTCUSDT-klines-2026-11-28.zip", "BTCUSDT-trades-2026-11.zip", "trades.zip"]
)
def test_a_name_that_says_nothing_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadArchive, match="not named like a daily archive"):
        Archive(tmp_path / name)


def test_a_day_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadArchive, match="names no day"):
        Archive(tmp_path / "BTCUSDT-trades-2026-13-28.zip")


@pytest.mark.parametrize(
    "row",
    [
        "x,1,1,1,1,True,True",
        "1,1e5,1,1,1,True,True",
        "1,1,1,1,1,maybe,True",
        "1,1,1",
    ],
)
def test_a_row_that_cannot_be_read_is_named(row: str, tmp_path: Path) -> None:
    with pytest.raises(BadArchive, match="row 2 cannot be read"):
        list(Archive(write(tmp_path, ROWS[0], row)).rows())


def test_what_is_no_zip_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, *ROWS)
    whole = path.read_bytes()
    for damaged in (
        b"",
        b"no zip",
        whole[: len(whole) // 2],
        whole[:40] + b"\xff" * 20 + whole[60:],
    ):
        path.write_bytes(damaged)
        with pytest.raises(BadArchive):
            list(Archive(path).rows())
    path.unlink()
    with pytest.raises(BadArchive, match="No such file"):
        list(Archive(path).rows())


def test_a_line_without_an_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadArchive, match="more than 1000 characters"):
        list(Archive(write(tmp_path, "1" * 10_000)).rows())


async def test_an_archive_is_downloaded_with_its_checksum(tmp_path: Path) -> None:
    source = write(tmp_path, *ROWS)

    async def answer(request: web.Request) -> web.Response:
        path = tmp_path / request.match_info["name"]
        return web.Response(body=path.read_bytes()) if path.exists() else web.Response(status=404)

    target = tmp_path / "target"
    target.mkdir()
    async with served("/{name}", answer) as url:
        archive = Archive(await download(f"{url}/{TRADES}", target))
        assert archive.check()
        assert archive.path.read_bytes() == source.read_bytes()
        absent = TRADES.replace("28", "29")
        with pytest.raises(BadArchive, match="HTTP 404; the archive of a day is there on the next"):
            await download(f"{url}/{absent}", target)


async def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadArchive, match=r"http://localhost:1/x\.zip: "):
        await download("http://localhost:1/x.zip", tmp_path)
