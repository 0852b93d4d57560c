"""Bad input gets an error of ours, the right exit code, and leaves the store as it was."""

import json
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from historical_etl_tests.cli.conftest import CommandLine
from historical_etl_tests.saying import Saying

FAILED, USAGE, INCOMPLETE = 1, 2, 3

HOLD_THE_LOCK = """
import sys
from historical_etl.store.manifest import ManifestManager
with ManifestManager("data").acquire_lock(writer_id="somebody else"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def lock_held_elsewhere() -> Generator[None]:
    holder = subprocess.Popen([sys.executable, "-c", HOLD_THE_LOCK], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdin
    assert holder.stdout
    try:
        assert holder.stdout.readline() == b"held\n"
        yield
    finally:
        holder.stdin.close()
        holder.wait(timeout=30)
        holder.stdout.close()


WRONG_USAGE = [
    (["backfill", "--from", "2013", "--to", "2012"], "reversed: 2013 to 2012"),
    (["backfill", "--symbols", ""], "The list of symbols is empty"),
    (["backfill", "--symbols", " , "], "The list of symbols is empty"),
    (["backfill", "--symbols", "AAPL,no such thing"], "'NO SUCH THING'"),
    (["backfill", "--from", "twelve"], "--from"),
    (["backfill", "--from", "99999"], "--from"),
    (["update", "--symbols", "$$"], "'$$'"),
    (["query"], "SQL"),
    (["query", "SELECT 1", "--format", "xml"], "xml"),
    (["query", "SELECT 1", "--output", "answer"], "does not tell the format"),
    (["query", "SELECT 1", "--output", "data/answer.csv"], "inside the data folder"),
    (["query", "SELECT 1", "--output", "no/such/folder.csv"], "is in no folder"),
    (["query", "SELECT 1", "--output", ".", "--format", "csv"], "is a folder"),
    (["backfil"], "backfill"),
    (["--no-such-option"], "--no-such-option"),
]


@pytest.mark.parametrize(("arguments", "words"), WRONG_USAGE, ids=[" ".join(arguments) for arguments, _ in WRONG_USAGE])
def test_wrong_usage_is_exit_code_2(common: CommandLine, arguments, words):
    answer = common(*arguments)
    assert answer.code == USAGE
    assert words in answer.err
    assert "next:" in answer.err
    assert answer.out == ""
    document = common("--json", *arguments).document
    assert set(document) == {"error", "message", "where", "next"}


@pytest.mark.parametrize(
    ("arguments", "where", "words"),
    [
        (("query", "SELEC 1"), "SQL", "DuckDB refused the query"),
        (("query", "SELECT 1; SELECT 2"), "SQL", "A query is one reading statement; got 2"),
        (("query", "SELECT 1", "--as-of", "zzz"), "--as-of", "'zzz' is not a time"),
        (("gaps", "waive", "AAPL", "--from", "zzz", "--reason", "r"), "--from", "--from='zzz' is not a date"),
        (("gaps", "waive", "--all", "--from", "2013-01-02", "--to", "z", "--reason", "r"), "--to", "--to='z' is not"),
        (("compare", "--with", "sample", "--symbols", "AAPL", "--from", "zzz"), "--from", "--from='zzz' is not a date"),
        (("rename", "AAPL", "AAP", "--on", "zzz"), "--on", "--on='zzz' is not a date"),
        (("rename", "AAPL", "AAPL", "--on", "2013-01-02"), "renames", "AAPL cannot be renamed to itself"),
        (("holds", "split", "AAPL", "--on", "zzz", "--reason", "r"), "--on", "--on='zzz' is not a date"),
        (("explain", "AAPL", "zzz"), "DATE", "DATE='zzz' is not a date"),
    ],
)
def test_what_is_wrong_is_named_as_it_was_typed(
    common: CommandLine, arguments: tuple[str, ...], where: str, words: str
) -> None:
    document = common("--json", *arguments).document
    assert (document["where"], words in document["message"]) == (where, True), document
    assert document["next"]


def test_two_formats_at_once(common: CommandLine):
    answer = common("query", "SELECT 1", "--format", "csv", "--json")
    assert answer.code == USAGE
    assert "exclude each other" in answer.document["message"]


@pytest.mark.parametrize("years", [("1990", "1995"), ("1999", "2000"), ("2013", "2014"), ("2014", "2014")])
def test_years_outside_the_coverage(common: CommandLine, years):
    first, last = years
    for symbols in ([], ["--symbols", "AAPL"]):
        answer = common("backfill", "--from", first, "--to", last, *symbols)
        assert answer.code == FAILED
        assert "cover" in answer.err
        assert "2000-03-01 to 2013-03-01" in answer.err
        assert "next:" in answer.err
    assert common("backfill", "--from", first, "--to", last, "--json").document["error"] == "CoverageError"


def test_only_unknown_symbols_store_nothing(cli: CommandLine):
    answer = cli("backfill", "--from", "2013", "--symbols", "ZZZZ")
    assert answer.code == USAGE
    assert answer.err == Saying("none of the symbols", "ZZZZ")
    assert answer.err == Saying("the sample", "AAPL, FB, GOOG, IBM, MSFT")


def test_update_of_an_empty_store_says_what_to_do_first(cli: CommandLine):
    answer = cli("update")
    assert answer.code == USAGE
    assert "historical-etl backfill" in answer.err


def test_query_of_an_empty_store_says_what_to_do_first(cli: CommandLine):
    answer = cli("query", "SELECT 1")
    assert answer.code == USAGE
    assert "historical-etl backfill" in answer.err
    assert not cli.data.exists()


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM daily_prices",
        "DROP VIEW daily_prices",
        "COPY daily_prices TO 'x.csv'",
        "SELECT 1; SELECT 2",
        "ATTACH 'x.db'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT nothing FROM daily_prices",
        "SELEC 1",
        "",
        "SELECT INTERVAL 1 DAY AS i",
    ],
)
def test_query_refuses_what_is_not_a_query(common: CommandLine, sql):
    answer = common("query", sql)
    assert answer.code == FAILED
    assert answer.err.startswith("error: ")
    assert common("query", sql, "--json").document["error"] == "CatalogError"
    assert not (common.folder / "x.csv").exists()


@pytest.mark.parametrize(
    "command", [["backfill", "--from", "2013"], ["update"], ["status"], ["query", "SELECT 1"], ["verify"]]
)
def test_a_data_folder_that_cannot_be_used(cli: CommandLine, command):
    (cli.folder / "file").write_text("in the way")
    answer = cli(*command, "--data-dir", "file/data")
    assert answer.code == FAILED
    assert "Not a directory" in answer.err
    assert (cli.folder / "file").read_text() == "in the way"


@pytest.mark.parametrize("command", [["backfill", "--from", "2013"], ["update"]])
def test_a_lock_held_elsewhere_is_named(filled: CommandLine, command):
    filled.set(LOCK_TIMEOUT_SECONDS="0.2")
    before = filled.bytes_stored()
    with lock_held_elsewhere():
        answer = filled(*command)
        assert filled.bytes_stored() == before
        looking = filled("status")
        assert filled("verify").code == 0
        assert filled("query", "SELECT 1").code == 0
    assert answer.code == FAILED
    assert "somebody else (pid" in answer.err
    assert "waited 0.2 s" in answer.err
    assert "writing now" in looking.out
    assert "somebody else" in looking.out
    assert "writing now" not in filled("status").out


def test_a_partition_that_somebody_edited(filled: CommandLine):
    (target,) = (filled.data / "historical" / "objects").glob("2012-*")
    target.chmod(0o644)
    content = bytearray(target.read_bytes())
    content[len(content) // 2] ^= 1
    target.write_bytes(content)
    before = filled.bytes_stored()
    answer = filled("backfill", "--from", "2012", "--to", "2012", "--symbols", "AAPL")
    assert answer.code == FAILED
    assert "was changed after its commit" in answer.err
    assert filled.bytes_stored() == before
    damaged = filled("verify")
    assert damaged.code == FAILED
    assert target.name in damaged.out
    assert "historical-etl repair" in damaged.out
    assert filled("backfill", "--from", "2012", "--to", "2012").code == 0
    assert filled("verify").code == 0


def test_a_store_of_a_newer_release_is_left_alone(filled: CommandLine):
    path = filled.data / "manifests" / "historical_daily.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99}))
    before = filled.bytes_stored()
    for command in (["backfill", "--from", "2013"], ["update"], ["query", "SELECT 1"], ["status"], ["verify"]):
        answer = filled(*command)
        assert answer.code == FAILED
        assert "schema version 99" in answer.err
        assert "upgrade" in answer.err
    assert filled.bytes_stored() == before


def _files(cli: CommandLine, content: str) -> None:
    folder = cli.folder / "prices"
    folder.mkdir(exist_ok=True)
    (folder / "aapl.csv").write_text(content)
    cli.set(SOURCE="files", FILES_PATH=str(folder))


def test_a_csv_with_a_wrong_header(filled: CommandLine):
    before = filled.bytes_stored()
    _files(filled, "day,price\n2013-03-01,430.5\n")
    for command in (["backfill", "--from", "2013"], ["update"]):
        answer = filled(*command)
        assert answer.code == FAILED
        assert "aapl.csv" in answer.err
        assert "close" in answer.err
    assert filled.bytes_stored() == before


def test_refused_rows_are_exit_code_3_and_reported_with_their_reasons(cli: CommandLine):
    days = [f"2013-02-{day:02}" for day in (4, 5, 6, 7, 8)]
    rows = [f"{day},10,11,9,{-5 if day == days[2] else 10},100" for day in days]
    _files(cli, "date,open,high,low,close,volume\n" + "\n".join(rows) + "\n")
    answer = cli("backfill", "--from", "2013", "--to", "2013")
    assert answer.code == INCOMPLETE
    assert "1 row(s) refused" in answer.err
    assert "quarantine" in answer.err
    assert "4 rows" in answer.out
    assert "quarantine  1 entries" in cli("status").out
    document = cli("backfill", "--from", "2013", "--to", "2013", "--no-resume", "--json")
    assert document.code == INCOMPLETE
    assert document.document["rows_rejected"] == 1


def test_a_wrong_setting_is_named(cli: CommandLine):
    cli.set(LOCK_TIMEOUT_SECONDS="soon")
    answer = cli("status")
    assert answer.code == USAGE
    assert "HISTORICAL_ETL_LOCK_TIMEOUT_SECONDS" in answer.err


def test_an_unknown_source_is_named_where_a_source_is_needed(common: CommandLine):
    common.set(SOURCE="bloomberg")
    assert common("backfill").code == USAGE
    assert common("query", "SELECT 1").code == 0
    assert common("status").code == 0


def test_a_damaged_progress_file_is_reported_and_not_moved_by_looking(filled: CommandLine):
    path = filled.data / "sync_progress" / "historical_daily_progress.json"
    path.write_bytes(b"\xff{")
    assert "progress file is damaged" in filled("status").err
    assert filled("verify").code == FAILED
    assert path.read_bytes() == b"\xff{"
    assert filled("update").code == 0
    assert filled("verify").code == 0


def test_an_unexpected_error_is_short_and_verbose_shows_its_traceback(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
):
    from historical_etl.cli import status

    def broken(*_: object) -> None:
        raise ZeroDivisionError("by chance")

    monkeypatch.setattr(status, "read_status", broken)
    answer = cli("status")
    assert answer.code == FAILED
    assert "Unexpected ZeroDivisionError: by chance" in answer.err
    assert "--verbose" in answer.err
    assert cli("status", "--json").document["error"] == "ZeroDivisionError"
    from historical_etl.cli import main

    assert main(["status", "--verbose"]) == FAILED


def test_a_catalog_that_cannot_be_published_fails_the_command_and_the_data_stays(cli: CommandLine):
    cli.data.mkdir()
    (cli.data / "duckdb").write_text("in the way")
    answer = cli("backfill", "--from", "2013")
    assert answer.code == FAILED
    assert answer.err == Saying("data is committed", "catalog is not up to date")
    assert cli("update", "--json").document["catalog_error"]
    assert "is not published" in cli("status").out
    assert cli("query", "SELECT count(*) AS n FROM daily_prices", "--json").document == [{"n": 205}]
    (cli.data / "duckdb").unlink()
    assert cli("update").code == 0
    assert cli("verify").out.startswith("All good")


def test_a_year_of_which_nothing_can_be_stored_does_not_stop_the_others(cli: CommandLine):
    rows = ["2011-12-30,10,11,9,10,100", "2012-01-03,10,11,9,-1,100", "2013-01-02,10,11,9,10,100"]
    _files(cli, "date,open,high,low,close,volume\n" + "\n".join(rows) + "\n")
    answer = cli("backfill")
    assert answer.code == INCOMPLETE
    assert answer.err == Saying("2012", "none can be stored")
    assert [p["year"] for p in cli("status", "--json").document["years"]] == [2011, 2013]
    assert Path("data/quarantine").is_dir()
