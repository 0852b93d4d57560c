"""A mistyped folder, symbol or setting must not look like an empty answer."""

import os
from collections.abc import Callable
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from historical_etl import ConfigurationError, HistoricalETL
from historical_etl_tests.cli.conftest import CommandLine, command_line
from historical_etl_tests.scenario import SHORT, ScriptedFetcher, store

DAY = date(2012, 12, 14)
READS: dict[str, Callable[[HistoricalETL], object]] = {
    "scan": lambda etl: etl.scan(),
    "scan of a symbol": lambda etl: etl.scan("BRK.B"),
    "query_sql": lambda etl: etl.query_sql("SELECT 1"),
    "ledger": lambda etl: etl.ledger("corrections"),
    "gaps": lambda etl: etl.gaps(),
    "holds": lambda etl: etl.holds(all=True),
    "cursors": lambda etl: etl.cursors(),
    "explain": lambda etl: etl.explain("BRK.B", DAY),
    "versions": lambda etl: etl.versions(),
    "cite": lambda etl: etl.cite(),
    "diff": lambda etl: etl.diff(1),
    "verify": lambda etl: etl.verify(),
    "lease": lambda etl: etl.lease().__enter__(),
}


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    return command_line(tmp_path, capsys, monkeypatch)


def filled(root: Path, **options: object) -> HistoricalETL:
    etl = store(root, ScriptedFetcher(SHORT, **options))  # pyright: ignore[reportArgumentType]
    etl.run_full_etl(SHORT.symbols, SHORT.first, SHORT.last)
    return etl


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_place_without_a_store_is_an_error_that_names_the_nearest_one(root, read):
    filled(root)
    typo = store(root.with_name("dtaa"), ScriptedFetcher(SHORT))
    with pytest.raises(ConfigurationError) as caught:
        read(typo)
    if read is not READS["diff"]:
        assert str(root.with_name("dtaa")) in str(caught.value)
        assert f"the nearest store is {root}" in caught.value.todo
    assert not root.with_name("dtaa").exists(), "a read makes nothing"


def test_a_folder_above_or_below_a_store_names_it(root):
    filled(root)
    for place in (root.parent, root / "historical"):
        with pytest.raises(ConfigurationError) as caught:
            store(place, ScriptedFetcher(SHORT)).scan()
        assert f"the nearest store is {root}" in caught.value.todo


def test_where_no_store_is_near_a_backfill_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="backfill"):
        store(tmp_path / "deep" / "data", ScriptedFetcher(SHORT)).scan()


def test_a_write_makes_the_store(root):
    etl = store(root, ScriptedFetcher(SHORT))
    assert etl.manifest() is None
    assert etl.run_year(2012, SHORT.symbols).total_rows
    assert etl.scan("BRK.B").collect().height


@pytest.mark.parametrize("adjust", [None, "total", "splits"])
def test_an_unknown_symbol_is_an_error_with_the_nearest_names(root, adjust):
    etl = filled(root)
    for ask in (lambda: etl.scan("BKR.B", adjust=adjust), lambda: etl.scan(["SPLT", "BKR.B"], adjust=adjust)):
        with pytest.raises(ConfigurationError, match=r"BKR\.B") as caught:
            ask()
        assert "BRK.B" in caught.value.todo
        assert "SPLT" not in caught.value.what
    with pytest.raises(ConfigurationError, match="does not know") as caught:
        etl.explain("SPTL", DAY)
    assert "SPLT" in caught.value.todo


def test_a_symbol_is_known_in_the_versions_that_have_it(root):
    etl = store(root, ScriptedFetcher(SHORT))
    etl.run_full_etl(["BRK.B"], SHORT.first, SHORT.last)
    first = etl.cite().partition("@v")[2].partition(":")[0]
    etl.run_full_etl(["SPLT"], SHORT.first, SHORT.last)
    assert etl.scan("SPLT").collect().height
    with pytest.raises(ConfigurationError, match="SPLT"):
        etl.scan("SPLT", version=first)


def test_a_symbol_without_rows_yet_is_known(root):
    """It is held in its first history."""

    def spoil(bars):
        late = (pl.col("symbol") == "SPLT") & (pl.col("date") > date(2012, 12, 31))
        return bars.with_columns(
            pl.when(late).then(pl.col(name) * 100).otherwise(pl.col(name)).alias(name)
            for name in ("open", "high", "low", "close", "adj_close")
        )

    etl = store(root, ScriptedFetcher(SHORT, alter=spoil))
    etl.run_incremental_etl(["BRK.B", "SPLT"])
    assert etl.holds()["symbol"].to_list() == ["SPLT"]
    assert etl.scan("SPLT").collect().is_empty()
    assert etl.scan(["BRK.B", "SPLT"], adjust="splits").collect().height
    assert etl.explain("SPLT", DAY).is_empty()


def test_every_command_that_reads_says_so_and_exits_2(cli):
    assert cli("backfill", "--from", "2012", "--to", "2012", "--symbols", "AAPL,MSFT").code == 0
    for arguments in (
        ("status",),
        ("query", "SELECT 1"),
        ("verify",),
        ("verify", "--quick"),
        ("explain", "AAPL", "2012-06-14"),
        ("gaps",),
        ("holds",),
        ("versions",),
        ("cite",),
        ("export", "elsewhere"),
    ):
        answer = cli("--data-dir", "dta", *arguments)
        assert answer.code == 2, arguments
        assert answer.out == ""
        assert "there is no store" in answer.err.lower()
        assert str(cli.data) in answer.err
    for arguments in (("explain", "APPL", "2012-06-14"), ("gaps", "--symbol", "APPL")):
        answer = cli(*arguments)
        assert answer.code == 2
        assert answer.out == ""
        assert "AAPL" in answer.err
    assert not (cli.folder / "dta").exists()


def test_a_place_that_cannot_hold_a_store_is_not_called_well(cli):
    answer = cli("--data-dir", "/proc/nothing-here", "status")
    assert answer.code == 2
    assert "0 bytes free" not in answer.out


def test_status_still_reports_a_first_run_that_failed(cli, monkeypatch):
    (cli.folder / "bad.csv").write_text("date,symbol,open,high,low,close,volume\n2024-03-04,ACME,1,2,0.5,-1,10\n")
    cli.set(SOURCE="files", FILES_PATH="bad.csv")
    assert cli("backfill", "--from", "2024", "--to", "2024").code == 1
    answer = cli("status")
    assert answer.code == 0
    assert "failed" in answer.out
    assert cli("query", "SELECT 1").code == 2


def test_a_first_run_in_which_nothing_arrived_still_ends_in_words(cli):
    answer = cli("backfill", "--from", "2011", "--to", "2011", "--symbols", "FB")
    assert answer.code == 3
    assert "FB" in answer.err
    assert "there is no store" not in answer.err


def test_a_file_that_is_not_there_is_named_by_the_argument(cli):
    answer = cli("adopt", "/nonexistent.csv")
    assert answer.code == 2
    assert "/nonexistent.csv" in answer.err
    assert "FILES_PATH" not in answer.err
    assert "PATH" in answer.err


@pytest.mark.parametrize("place", ["environment", ".env"])
def test_a_misspelt_setting_is_reported_wherever_it_is(cli, place):
    if place == ".env":
        (cli.folder / ".env").write_text("HISTORICAL_ETL_SORUCE=files\nhistorical_etl_start=2012-01-01\nOTHER=1\n")
    else:
        cli.patch.setitem(os.environ, "HISTORICAL_ETL_SORUCE", "files")
    assert cli("backfill", "--from", "2012", "--to", "2012", "--symbols", "AAPL").code == 0
    for arguments in (("status",), ("--quiet", "query", "SELECT 1 AS one")):
        output = [line for line in cli(*arguments).err.splitlines() if "HISTORICAL_ETL_SORUCE" in line]
        assert len(output) == 1
        assert "HISTORICAL_ETL_SOURCE" in output[0]
    answer = cli("--json", "doctor", "--offline")
    (settings,) = [check for check in answer.document["checks"] if check["check"] == "settings"]
    assert settings["verdict"] == "warning"
    assert "did you mean HISTORICAL_ETL_SOURCE?" in settings["what"]
