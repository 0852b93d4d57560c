"""Files that unpack to more than a machine holds: skipped by name, within bounds, and the good rest goes on."""

import gzip
import json
import os
import resource
from datetime import date
from pathlib import Path
from typing import Final

import polars as pl
import pytest

from historical_etl.sources import file_probe as probe
from historical_etl_tests.field.files_at_hand import FINE, INCOMPLETE, Desk, days, desk, lines

__all__ = ["desk"]

GOOD: Final = lines("Date,Open,High,Low,Close,Volume", "{d},100,101,99,100,1000", days())
DAY: Final = date(2024, 3, 4)
MIB: Final = 1024**2


def bars(path: Path, rows: int, **columns: pl.Expr) -> None:
    """A Parquet file of equal rows, but for some columns."""
    equal = {name: pl.lit(1.0) for name in ("open", "high", "low", "close", "volume")}
    values = {"date": pl.lit(DAY), "symbol": pl.lit("HUGE"), **equal, **columns}
    pl.select(row=pl.int_range(rows)).lazy().select("row", **values).drop("row").sink_parquet(path, compression="zstd")


def equal_rows(path: Path) -> None:
    bars(path, 3_000_000)


def many_symbols(path: Path) -> None:
    bars(path, 1_100_000, symbol=pl.concat_str(pl.lit("S"), pl.int_range(1_100_000)))


def one_long_text(path: Path) -> None:
    pl.DataFrame({"date": [DAY], "symbol": ["A" * 60 * MIB], "close": [1.0]}).write_parquet(path, compression="zstd")


def texts_that_are_long_together(path: Path) -> None:
    note = pl.concat_str(pl.int_range(300_000).cast(pl.String), pl.lit("x" * 2_000))
    bars(path, 300_000, date=pl.lit(DAY) + pl.duration(days=pl.int_range(300_000) % 200), note=note)


def many_columns(path: Path) -> None:
    pl.DataFrame({f"c{n}": [0.0] for n in range(5_000)}).write_parquet(path)


def zeros(path: Path) -> None:
    """Less than a megabyte that unpacks to one line of 500."""
    with gzip.open(path, "wb", compresslevel=6) as stream:
        stream.write(b"Date,Close\n2024-03-04,1")
        for _ in range(500):
            stream.write(bytes([48]) * MIB)


def lines_without_end(path: Path) -> None:
    with gzip.open(path, "wb", compresslevel=6) as stream:
        stream.write(b"Date,Close\n")
        for _ in range(50):
            stream.write(b"2024-03-04,1\n" * 80_000)


def long_symbols(path: Path) -> None:
    """Some kilobytes: each row has one megabyte, and the same."""
    bars(path, 100, symbol=pl.lit("A" * MIB))


def long_categories(path: Path) -> None:
    bars(path, 100, symbol=pl.lit("A" * MIB).cast(pl.Categorical))


def long_dates(path: Path) -> None:
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(b"Date,Close,Volume\n")
        for _ in range(100):
            stream.write(b"2024-03-04" + bytes(MIB - 10).replace(b"\0", b"x") + b",1,1\n")


def empty_parts(path: Path) -> None:
    path.write_bytes(gzip.compress(GOOD.encode()) + gzip.compress(b"") * 150_000)


def terabyte(path: Path) -> None:
    """A hole, which takes nothing on the disk."""
    path.touch()
    os.truncate(path, 1 << 40)


def hole(path: Path) -> None:
    path.touch()
    os.truncate(path, 3 << 30)


def hole_behind(path: Path) -> None:
    """As a copy is left that had asked for its room and was broken off."""
    path.write_text(GOOD)
    os.truncate(path, 3 << 30)


#: The file's name, what makes it, and what is reported it.
HOSTILE: Final = {
    "HUGE.parquet": (equal_rows, "3,000,000 rows of HUGE lie within 1 day"),
    "MANY.parquet": (many_symbols, "It has 1,100,000 symbols"),
    "LONG.parquet": (one_long_text, "A cell of 'symbol' has 62,914,560 bytes"),
    "NOTES.parquet": (texts_that_are_long_together, ""),
    "WIDE.parquet": (many_columns, ""),
    "ZEROS.csv.gz": (zeros, "cannot be read"),
    "LINES.csv.gz": (lines_without_end, "4,000,000 rows of LINES lie within 1 day"),
    "EQUAL.parquet": (long_symbols, "The cells of 'symbol' have 104,857,600 bytes together"),
    "KINDS.parquet": (long_categories, "The cells of 'symbol' have 104,857,600 bytes together"),
    "DATES.csv.gz": (long_dates, "The cells of 'column_0' have 104,857,604 bytes together"),
    "PARTS.csv.gz": (empty_parts, "It is packed in 150,001 parts"),
    "PARTS.txt.gz": (empty_parts, "It is packed in 150,001 parts"),
    "TERA.csv": (terabyte, "It has 1,099,511,627,776 bytes"),
    "TERA.csv.gz": (terabyte, "It has 1,099,511,627,776 bytes"),
    "TERA.parquet": (terabyte, "It has 1,099,511,627,776 bytes"),
    "HOLE.csv": (hole, "Its first line has more than 1,048,576 bytes"),
    "BEHIND.csv": (hole_behind, "Its last line has more than 1,048,576 bytes"),
}
#: Of this process: what it may grow by, whatever a file holds.
GROWTH: Final = 1_200 * MIB


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_holds_too_much_is_skipped_and_the_rest_is_stored(desk: Desk, name: str) -> None:
    make, reported = HOSTILE[name]
    desk.put("AAPL.csv", GOOD)
    path = desk.folder / name
    make(path)
    assert path.stat().st_blocks * 512 < 40 * MIB
    before = peak()
    answer = desk.backfill(MEMORY="300MB")
    assert peak() - before < GROWTH
    assert answer.code in (FINE, INCOMPLETE)
    assert desk.symbols()["AAPL"] == 8
    if reported:
        assert str(path) in answer.err
        assert reported in answer.err


def test_a_reader_that_dies_of_a_file_is_a_finding(desk: Desk) -> None:
    """Reading it takes more than it may; the file is sound, and with more memory it is read."""
    desk.put("AAPL.csv", GOOD)
    sessions = pl.DataFrame({"date": days(80)})
    symbols = pl.DataFrame({"symbol": [f"S{n}" for n in range(20)]})
    rows = symbols.join(sessions, how="cross").with_columns(close=pl.lit(10.0), open=pl.lit(10.0), high=10.0, low=10.0)
    note = pl.concat_str(pl.lit("n" * 60_000), pl.int_range(pl.len()).cast(pl.String))
    rows.with_columns(volume=pl.lit(1.0), note=note).write_parquet(desk.folder / "ALL.parquet", row_group_size=10_000)
    refused = desk.backfill(MEMORY="1MB")
    assert refused.code == INCOMPLETE
    assert "ALL.parquet" in refused.err
    assert "HISTORICAL_ETL_FILES_MEMORY" in refused.err
    assert desk.symbols() == {"AAPL": 8}
    assert desk.backfill(MEMORY="4GiB").code == FINE
    assert len(desk.symbols()) == 21


def test_a_file_that_is_packed_day_by_day_is_read(desk: Desk) -> None:
    """As a job leaves it that appends each evening's row."""
    header, *rows = lines("Date,Open,High,Low,Close,Volume", "{d},100,101,99,100,1000", days(300)).splitlines(True)
    packed = b"".join(gzip.compress(row.encode()) + gzip.compress(b"") * 4 for row in (header, *rows))
    desk.put("AAPL.csv.gz", packed)
    assert desk.backfill().code == FINE
    assert desk.symbols() == {"AAPL": 300}


def test_time_that_is_up_is_no_matter_of_memory(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    lines_without_end(desk.folder / "LINES.csv.gz")
    monkeypatch.setattr(probe, "_SECONDS", 0.05)
    monkeypatch.setattr(probe, "_BYTES_A_SECOND", 1 << 40)
    message = desk.refusal()
    assert "ran for more than 0.05 s" in message
    assert "in smaller files" in message
    assert "MEMORY" not in message


def test_a_megabyte_in_the_place_of_a_symbol_costs_its_rows_and_no_page_of_letters(desk: Desk) -> None:
    """Nor does it reach the quarantine or a ledger in full."""
    first = bars_of_a_year()
    long = pl.Series(["A" * MIB, "B" * (MIB - 1), *first["symbol"][2:]])
    dates = pl.Series([*first["date"].cast(pl.String)[:-1], "2024-03-04" + "x" * (MIB // 2)])
    first.with_columns(symbol=long).write_parquet(desk.folder / "SYMBOLS.parquet")
    second = first.with_columns(symbol=pl.lit("MSFT"), date=dates)
    second.write_parquet(desk.folder / "DATES.parquet")
    first.drop("symbol").rename({"volume": "volume_" + "v" * MIB}).write_parquet(desk.folder / "NAMES.parquet")
    answer = desk.backfill()
    assert answer.code == INCOMPLETE
    assert desk.symbols() == {"AAPL": first.height - 2, "MSFT": first.height - 1}
    assert len(answer.out + answer.err) < 10_000
    for fact in ("'" + "A" * 100 + "…' (1)", "DATES.parquet: 1 row(s)", "row 80: date is '2024-03-04xx", "for volume"):
        assert fact in answer.err
    refused = desk.query("SELECT symbol, reasons FROM rejected_rows")
    assert sorted({len(row["symbol"]) for row in refused if row["symbol"] != "MSFT"}) == [101]
    assert "A" * 200 not in json.dumps(desk.cli("status", "--json").document)


def bars_of_a_year() -> pl.DataFrame:
    sessions = days(80)
    return pl.DataFrame({"date": sessions, "symbol": ["AAPL"] * 80}).with_columns(
        pl.lit(10.0).alias(name) for name in ("open", "high", "low", "close", "volume")
    )


def test_what_is_no_file_is_reported_and_not_waited_for(desk: Desk) -> None:
    """Links to where nothing is, in a circle, to a device; a pipe. A disk that is not mounted must not look empty."""
    desk.put("GOOD.csv", GOOD)
    odd = {"AAPL.csv": "/nowhere/AAPL.csv", "MSFT.csv": "MSFT.csv", "nasdaq": "/nowhere", "ZERO.csv": "/dev/zero"}
    for name, target in odd.items():
        (desk.folder / name).symlink_to(target)
    os.mkfifo(desk.folder / "IBM.parquet")
    answer = desk.backfill()
    assert answer.code == INCOMPLETE
    assert desk.symbols() == {"GOOD": 8}
    for name in (*odd, "IBM.parquet"):
        assert str(desk.folder / name) in answer.err


def test_one_nul_costs_its_row(desk: Desk) -> None:
    desk.put("GOOD.csv", GOOD)
    desk.put("NUL.csv", GOOD.replace("99,100,1000", "99,\0100,1000", 1))
    answer = desk.backfill()
    assert answer.code == INCOMPLETE
    assert desk.symbols() == {"GOOD": 8, "NUL": 7}
    assert "line 2" in answer.err


def test_the_bound_is_a_setting(desk: Desk) -> None:
    desk.put("AAPL.csv", GOOD)
    assert desk.backfill(MEMORY="nothing").code not in (FINE, INCOMPLETE)
