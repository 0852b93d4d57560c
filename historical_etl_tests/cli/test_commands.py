"""Each command on the sample source: what it prints, where, and with which exit code."""

import csv
import io
import json
from pathlib import Path

import polars as pl
import pytest

from historical_etl_tests.cli.conftest import CommandLine
from historical_etl_tests.saying import Saying


def test_backfill_shows_rows_by_year_on_stdout_and_the_rest_on_stderr(cli: CommandLine):
    answer = cli("backfill", "--from", "2012", "--to", "2013")
    assert answer.code == 0
    assert [line.split()[:3] for line in answer.out.splitlines()[1:3]] == [["2012", "1,155", "5"], ["2013", "205", "5"]]
    assert answer.out == Saying("Version 2", "1,360 rows", "2012-01-03", "2013-03-01")
    assert "2013: committed (2 of 2)" in answer.err
    assert "historical-etl query" in answer.err


def test_backfill_without_years_takes_all_that_the_source_covers(cli: CommandLine):
    document = cli("--json", "backfill", "--symbols", "ibm").document
    assert document["years_written"] == list(range(2000, 2014))
    assert (document["start_date"], document["end_date"]) == ("2000-03-01", "2013-03-01")
    assert document["outcomes"] == {"IBM": "ok"}


def test_backfill_takes_the_universe_of_the_years_asked_for(cli: CommandLine):
    document = cli("backfill", "--to", "2000", "--json").document
    assert sorted(document["outcomes"]) == ["AAPL", "IBM", "MSFT"]


def test_backfill_as_json_is_one_document(cli: CommandLine):
    answer = cli("backfill", "--from", "2013", "--json")
    document = answer.document
    assert (document["total_rows"], document["version"], document["complete"], document["changed"]) == (
        205,
        1,
        True,
        True,
    )
    assert [partition["year"] for partition in document["partitions"]] == [2013]


def test_backfill_again_changes_nothing(filled: CommandLine):
    before = filled.bytes_stored()
    answer = filled("backfill", "--from", "2012")
    assert answer.code == 0
    assert "Version 2 (as before)" in answer.out
    assert "unchanged" in answer.out
    after = filled.bytes_stored()
    assert {name for name in before if before[name] != after.get(name)} <= {
        f"sync_progress/historical_daily_progress.json{suffix}" for suffix in ("", ".backup")
    }


def test_backfill_goes_on_where_it_was_interrupted(cli: CommandLine, monkeypatch: pytest.MonkeyPatch):
    from historical_etl.sources.sample import SampleSource

    fetch = SampleSource.fetch

    def interrupted(self, request):
        if request.end.year == 2013:
            raise KeyboardInterrupt
        return fetch(self, request)

    monkeypatch.setattr(SampleSource, "fetch", interrupted)
    answer = cli("backfill", "--from", "2012")
    assert answer.code == 130
    assert "Interrupted" in answer.err
    assert "2013" in cli("status").out.split("lacks")[1].splitlines()[0]
    monkeypatch.setattr(SampleSource, "fetch", fetch)
    document = cli("backfill", "--from", "2012", "--json").document
    assert (document["years_resumed"], document["years_written"]) == ([2012], [2013])
    assert cli("verify").code == 0


def test_a_symbol_the_source_does_not_know_is_exit_code_3(cli: CommandLine):
    answer = cli("backfill", "--from", "2013", "--symbols", "AAPL,ZZZZ")
    assert answer.code == 3
    assert answer.err == Saying("1 symbol", "unknown to the source", "ZZZZ")
    assert "the sample holds AAPL" in answer.err
    assert "41 rows" in answer.out


def test_update_brings_what_is_missing(cli: CommandLine):
    cli("backfill", "--from", "2012", "--to", "2012")
    answer = cli("update")
    assert answer.code == 0
    assert "41 new session(s), 2013-01-02 to 2013-03-01" in answer.out
    assert answer.out == Saying("205 row(s) added", "0 stored value(s) corrected")
    again = cli("update", "--json").document
    assert (again["changed"], again["rows_added"], again["new_sessions"]) == (False, 0, [])
    assert again["current_through"] == "2013-03-01"
    assert "Nothing new" in cli("update", "--symbols", "AAPL").out


def test_query_as_table(common: CommandLine):
    answer = common(
        "query",
        "SELECT symbol, count(*) AS n, round(max(close), 1) AS top FROM daily_prices GROUP BY 1 ORDER BY 1 LIMIT 2",
    )
    assert [line.split() for line in answer.out.splitlines()] == [
        ["symbol", "n", "top"],
        ["AAPL", "291", "702.1"],
        ["FB", "196", "38.2"],
    ]


def test_a_table_is_cut_at_the_limit_with_a_note_on_stderr(common: CommandLine):
    answer = common("query", "SELECT * FROM daily_prices")
    assert len(answer.out.splitlines()) == 51
    assert "50 of 1,360 rows shown" in answer.err
    assert len(common("query", "SELECT * FROM daily_prices", "--limit", "0").out.splitlines()) == 1361
    assert common("-q", "query", "SELECT * FROM daily_prices").err == ""


def test_query_as_csv_and_json_is_never_cut(common: CommandLine):
    rows = list(
        csv.DictReader(io.StringIO(common("query", "-f", "csv", "SELECT * FROM daily_prices ORDER BY ALL").out))
    )
    assert len(rows) == 1360
    assert rows[0]["date"] == "2012-01-03"
    for arguments in (("--format", "json"), ("--json",)):
        objects = common("query", "SELECT * FROM daily_prices ORDER BY ALL", *arguments).document
        assert len(objects) == 1360
        assert objects[0]["symbol"] == "AAPL"
        assert objects[0]["close"] == float(rows[0]["close"])


def test_query_writes_whole_files_of_each_format(filled: CommandLine):
    sql = "SELECT date, symbol, close FROM daily_prices ORDER BY ALL"
    for name in ("a.parquet", "a.csv", "a.json"):
        answer = filled("query", sql, "--output", name)
        assert answer.code == 0
        assert answer.out == ""
        assert "1,360 row(s) written" in answer.err
    assert pl.read_parquet("a.parquet").equals(pl.read_csv("a.csv", try_parse_dates=True))
    assert len(json.loads(Path("a.json").read_bytes())) == 1360
    assert filled("query", sql, "-o", "b.txt").code == 0
    assert Path("b.txt").read_text().startswith("date")
    assert filled("query", sql, "-o", "c.csv", "--json").document["rows"] == 1360
    assert sorted(path.name for path in Path().iterdir()) == ["a.csv", "a.json", "a.parquet", "b.txt", "c.csv", "data"]


def test_values_that_a_format_cannot_hold_become_text(common: CommandLine):
    sql = """
        SELECT [1, 2] AS l, 'z'::BLOB AS b, sum(1) AS s, 1.5::DECIMAL(5, 2) AS d,
               'nan'::DOUBLE AS f, NULL AS n, true AS t
    """
    assert common("query", sql, "-f", "csv").out.splitlines()[1] == '"[1, 2]",7a,1,1.50,NaN,,true'
    assert common("query", sql, "-f", "json").document == [
        {"l": [1, 2], "b": "7a", "s": 1, "d": 1.5, "f": None, "n": None, "t": True}
    ]
    assert common("query", sql).out.splitlines()[1].split() == ["[1,", "2]", "7a", "1", "1.50", "nan", "true"]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ("(1.5), (2.25)", ["1.50", "2.25"]),
        ("(12345678.0), (3.0)", ["12345678", "3"]),
        ("(0.1 + 0.2), (1 / 3)", ["0.300000", "0.333333"]),
        ("(0.00001234)", ["1.234e-05"]),
        ("(2e20)", ["2e+20"]),
    ],
)
def test_a_column_of_floats_has_as_many_decimals_as_it_needs(common: CommandLine, values, shown):
    sql = f"SELECT x::DOUBLE AS x FROM (VALUES {values}) t(x)"
    assert [line.strip() for line in common("query", sql).out.splitlines()[1:]] == shown


def test_a_cell_cannot_steer_the_terminal_or_the_markup(common: CommandLine):
    answer = common("query", "SELECT chr(27) || '[2J' AS a, '[red]b' AS b")
    assert "\x1b" not in answer.out
    assert "\\x1b[2J  [red]b" in answer.out


def test_status_says_what_is_stored(common: CommandLine):
    answer = common("status")
    assert answer.code == 0
    for words in (
        "by historical-etl backfill",
        "through Fri 2013-03-01",
        "5, all current",
        "shows version 2",
        "raw open",
    ):
        assert words in answer.out
    document = common("status", "--json").document
    assert (document["version"], document["rows"], document["symbols"], document["catalog_version"]) == (2, 1360, 5, 2)
    assert document["sessions_missing"] is None


def test_status_check_counts_sessions_up_to_what_the_source_has(cli: CommandLine):
    cli("backfill", "--from", "2012", "--to", "2012")
    answer = cli("status", "--check")
    assert "41 session(s) missing up to 2013-03-01" in answer.out
    cli("update")
    assert cli("status", "--check", "--json").document["sessions_missing"] == 0


def test_status_names_lagging_symbols(cli: CommandLine):
    cli("backfill", "--from", "2012", "--to", "2012")
    cli("update", "--symbols", "AAPL")
    answer = cli("status")
    assert answer.out == Saying("5", "4 end earlier", "FB (2012-12-31)")


@pytest.mark.parametrize("command", [["status"], ["verify"], ["verify", "--quick"]])
def test_looking_at_nothing_is_an_error_and_creates_nothing(cli: CommandLine, command):
    answer = cli(*command)
    assert answer.code == 2
    assert answer.out == ""
    assert "committed yet" in answer.err
    assert not cli.data.exists()
    assert cli(*command, "--json").document["error"] == "ConfigurationError"


def test_verify_says_that_all_is_well_and_writes_nothing(common: CommandLine):
    answer = common("verify")
    assert answer.code == 0
    assert answer.out == Saying("All good", "Version 2", "2 year", "1,360 rows", "2 file", "every byte and row")
    assert answer.out.count("\n") == 1
    assert "sizes and links" in common("verify", "--quick").out
    document = common("verify", "--json").document
    assert (document["ok"], document["findings"], document["mode"]) == (True, [], "full")


def test_global_options_may_stand_before_or_after_the_command(cli: CommandLine):
    for arguments in (["--data-dir", "x", "--json", "status"], ["status", "--json", "--data-dir=x"]):
        assert cli(*arguments).document["where"] == str(cli.folder / "x")


def test_version_and_help(cli: CommandLine):
    assert cli("--version").out.startswith("historical-etl ")
    assert cli("--help").code == 0
    nothing = cli()
    assert nothing.code == 2
    assert "backfill" in nothing.out
    for command in ("backfill", "update", "query", "status", "verify"):
        assert cli(command, "--help").code == 0
