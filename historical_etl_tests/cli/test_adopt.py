"""`adopt`: from files on the command line, with what it says and how it exits."""

import polars as pl
import pytest

from historical_etl.settings import load_settings
from historical_etl.sources.files.layouts import laid_out
from historical_etl_tests.cli.conftest import CommandLine
from historical_etl_tests.foreign import Foreign
from historical_etl_tests.saying import Saying

FINE, FAILED, USAGE, INCOMPLETE = 0, 1, 2, 3


@pytest.fixture
def files(cli: CommandLine) -> CommandLine:
    """Two symbols on a few sessions of January 2012."""
    folder = cli.folder / "files"
    folder.mkdir()
    for symbol in ("aaa", "bbb"):
        rows = "".join(f"2012-01-{day:02d};10,5;100\n" for day in (3, 4, 5, 6, 9))
        (folder / f"{symbol}.csv").write_text("day;Last;volume\n" + rows)
    cli.set(FILES_DECIMAL=",")
    return cli


WRITTEN = ("--columns", "date=day,close=Last", "--separator", ";")


def test_files_are_adopted_and_every_row_is_accounted_for(files: CommandLine):
    cli = files
    answer = cli("adopt", "files", *WRITTEN)
    assert answer.code == FINE
    lines = [line.split(None, 1) for line in answer.out.splitlines()]
    assert lines[:2] == [["10", "row(s) in 2 file(s)"], ["10", "taken"]]
    assert "2 symbol(s) (AAA, BBB), 2012" in answer.out
    assert "Version 1: 10 rows" in answer.out
    assert cli("query", "SELECT sum(close) AS s FROM daily_prices", "--json").document == [{"s": 105.0}]
    assert cli("verify", "--json").document["findings"] == []


def test_dry_run_writes_nothing(files: CommandLine):
    answer = files("adopt", "files", *WRITTEN, "--dry-run")
    assert (answer.code, "would be taken" in answer.out) == (FINE, True)
    assert not files.data.exists()
    document = files("adopt", "files", *WRITTEN, "--dry-run", "--symbols", "aaa", "--json").document
    assert document["rehearsed"]
    assert (document["adopted"]["taken"], document["adopted"]["not_asked"]) == (5, 5)


def test_refused_rows_are_reported_by_reason_and_exit_with_3(cli: CommandLine):
    foreign = Foreign(cli.folder / "files", symbols=4, first_year=2011, years=1, seed=2)
    foreign.write()
    for more in ((), ("--dry-run",)):
        answer = cli("adopt", "files", *more)
        assert answer.code == INCOMPLETE
        for reason in ("no_close", "off_session"):
            assert reason in answer.out + answer.err
    document = cli("adopt", "files", "--json").document
    adopted = document["adopted"]
    assert adopted["read"] == adopted["taken"] + adopted["repeated"] + adopted["refused"] + adopted["outside"]
    assert document["rows_rejected"] == adopted["refused"]


def test_what_is_wrong_with_files_is_reported_with_the_options(files: CommandLine):
    cli = files
    for arguments in (("files",), ("nowhere",), ("files", "--layout", "nonsense"), ("files", "--columns", "x")):
        answer = cli("adopt", *arguments)
        assert answer.code in (FAILED, USAGE)
        assert "next:" in answer.err
        assert not (cli.data / "historical").exists()
    assert "--columns" in cli("adopt", "files").err
    assert cli("adopt", "files", *WRITTEN, "--symbols", "zzz").code == USAGE


def test_another_price_basis_is_explained(files: CommandLine):
    cli = files
    assert cli("adopt", "files", *WRITTEN, "--adjustment", "raw").code == FINE
    answer = cli("adopt", "files", *WRITTEN, "--adjustment", "for splits")
    assert answer.code == FAILED
    assert "another price basis" in answer.err
    assert "--adjustment" in answer.err
    assert "another data folder" in answer.err


def test_a_layout_implies_how_dates_are_written_also_with_a_data_folder(cli: CommandLine):
    """The layout's date format was lost as soon as any other setting was changed."""
    folder = cli.folder / "files"
    folder.mkdir()
    (folder / "x.csv").write_text(
        "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\n"
        "AAA.US,D,20120103,000000,10,11,9,10,100,0\nAAA.US,D,20120104,000000,10,11,9,10,100,0\n"
    )
    assert cli("--data-dir", "there", "adopt", "files", "--layout", "stooq").code == FINE
    cli.set(FILES_LAYOUT="stooq", FILES_PATH="files", SOURCE="files")
    changed = load_settings().changed({"source": "files"})
    assert laid_out(changed.files).date_format == "%Y%m%d"
    assert cli("--data-dir", "other", "backfill", "--symbols", "AAA").code == FINE


def test_year_files_of_a_store_are_recognised(filled: CommandLine):
    cli = filled
    answer = cli("--data-dir", "new", "adopt", "data/historical/daily")
    assert answer.code == FINE
    assert answer.err == Saying("2 of the files", "year files of a store")
    rows = [pl.read_parquet(cli.folder / f"{name}/historical/daily/2013.parquet") for name in ("data", "new")]
    assert rows[0].equals(rows[1])
    assert "whole store" in cli("--data-dir", "new", "adopt", "data").err
