"""Files that unpack to more than a machine holds: set aside by name, within bounds, and the good rest goes on."""

import gzip
import os
import resource
from datetime import date
from pathlib import Path
from typing import Final

import polars as pl
import pytest

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


#: The file's name, what makes it, and what is told of it.
HOSTILE: Final = {
    "HUGE.parquet": (equal_rows, "3,000,000 rows of HUGE lie within 1 day"),
    "MANY.parquet": (many_symbols, "It has 1,100,000 symbols"),
    "LONG.parquet": (one_long_text, "A cell of 'symbol' has 62,914,560 bytes"),
    "NOTES.parquet": (texts_that_are_long_together, ""),
    "WIDE.parquet": (many_columns, ""),
    "ZEROS.csv.gz": (zeros, "cannot be read"),
    "LINES.csv.gz": (lines_without_end, "4,000,000 rows of LINES lie within 1 day"),
}
#: Of this process: what it may grow by, whatever a file holds.
GROWTH: Final = 1_200 * MIB


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_holds_too_much_is_set_aside_and_the_rest_is_stored(desk: Desk, name: str) -> None:
    make, told = HOSTILE[name]
    desk.put("AAPL.csv", GOOD)
    path = desk.folder / name
    make(path)
    assert path.stat().st_size < 40 * MIB
    before = peak()
    answer = desk.backfill(MEMORY="300MB")
    assert peak() - before < GROWTH
    assert answer.code in (FINE, INCOMPLETE)
    assert desk.symbols()["AAPL"] == 8
    if told:
        assert str(path) in answer.err
        assert told in answer.err


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


def test_what_is_no_file_is_told_and_not_waited_for(desk: Desk) -> None:
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
